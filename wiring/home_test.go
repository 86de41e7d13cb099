package wiring

import (
	"testing"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// TestHomeOfCluster: the records of a change stay in reach when a replica, which has them, takes over,
// whatever its name.
func TestHomeOfCluster(t *testing.T) {
	c, err := config.Parse("x.yml", []byte("layout: slots\nslots: {seeds: [\"10.0.0.1:1\"]}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	lower, upper := []slots.Range{{First: 0, Last: 8191}}, []slots.Range{{First: 8192, Last: 16383}}
	for first, others := range map[string]string{"10.0.0.1:1": "10.0.0.2:1", "10.0.0.3:1": "10.0.0.2:1"} {
		m, err := slots.NewMap([]slots.Node{{Addr: others, Master: true}, {Addr: first, Master: true}},
			[][]slots.Range{upper, lower})
		if err != nil {
			t.Fatal(err)
		}
		if home := Home(c, router.NewSlots(m)); home == nil || home.Addr != first {
			t.Errorf("the home is %+v, but %s has slot 0", home, first)
		}
	}
}
