package reshard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/wiring"
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
	ring, err := config.Parse("x.yml", []byte("layout: ring\nnodes: [{name: a, addr: \"10.0.0.4:1\"}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := wiring.Table(ring)
	if err != nil {
		t.Fatal(err)
	}
	if home := Home(c, table); home == nil || home.Addr != "10.0.0.4:1" { // the table has been replaced already
		t.Errorf("the home is %+v", home)
	}
}

// TestClustersWithoutNames: nothing tells two clusters apart but their names, so a change from one to the
// other needs them.
func TestClustersWithoutNames(t *testing.T) {
	parsed := func(name, seed string) (*config.Config, *router.Table) {
		text := fmt.Appendf(nil, "layout: slots\nslots: {seeds: %q, cluster: %q}\n", seed, name)
		c, err := config.Parse("x.yml", text, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := slots.NewMap([]slots.Node{{Addr: seed, Master: true}}, [][]slots.Range{{{First: 0, Last: 16383}}})
		if err != nil {
			t.Fatal(err)
		}
		return c, router.NewSlots(m)
	}
	older, from := parsed("", "10.0.0.1:1")
	for _, c := range []struct{ name, seed, want string }{
		{"", "10.0.0.2:1", "give the new cluster a name"},
		{"", "10.0.0.1:1", "nothing has to move"},
		{"west", "10.0.0.2:1", ""},
	} {
		newer, to := parsed(c.name, c.seed)
		err := areApart(older, newer, from, to)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
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
		{a + b, strings.NewReplacer("name: a", "name: b", "name: b", "name: a").Replace(a + b), false},
		{east, east, true}, {east, west, false},
	} {
		if err := sameNames(parsed(c.older), parsed(c.newer)); (err == nil) != c.isSame {
			t.Errorf("%s and then %s: %v", c.older, c.newer, err)
		}
	}
}
