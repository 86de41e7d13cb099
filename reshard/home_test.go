package reshard

import (
	"fmt"
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

// TestNamesOfOtherServers: a change is refused whose new layout gives the name of a node to another one.
// Keyways would look for keys on the wrong servers.
func TestNamesOfOtherServers(t *testing.T) {
	parsed := func(nodes string) *config.Config {
		c, err := config.Parse("x.yml", []byte("layout: modulo\nnodes:\n"+nodes), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	sentinel := "  - {name: a, sentinel: {master: %s, addrs: [\"10.0.0.9:1\"]}}\n"
	a, b := "  - {name: a, addr: \"10.0.0.1:1\"}\n", "  - {name: b, addr: \"10.0.0.2:1\"}\n"
	other := "  - {name: a, addr: \"10.0.0.3:1\"}\n"
	east, west := fmt.Sprintf(sentinel, "east"), fmt.Sprintf(sentinel, "west")
	for _, c := range []struct {
		older, newer string
		isSame       bool
	}{
		{a, a + b, true}, {a + b, b, true}, {a + b, b + other, false}, {a, east, false},
		{east, east, true}, {east, west, false},
	} {
		if err := sameNames(parsed(c.older), parsed(c.newer)); (err == nil) != c.isSame {
			t.Errorf("%s and then %s: %v", c.older, c.newer, err)
		}
	}
}
