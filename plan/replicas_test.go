package plan

import (
	"slices"
	"testing"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// TestStrictNodesThatTakePart: only nodes that send or receive keys need replicas. Where a comparison of the
// layouts does not say which these are, all do.
func TestStrictNodesThatTakePart(t *testing.T) {
	nodes := []router.Node{
		{Name: "a", Addr: "h:1", Master: true}, {Name: "b", Addr: "h:2", Master: true},
		{Name: "c", Addr: "h:3", Master: true}, {Name: "d", Addr: "h:4", Master: true},
	}
	static := func(ends ...uint16) *router.Table { // the last slot of each node
		owned, first := make([][]slots.Range, len(nodes)), uint16(0)
		of := make([]slots.Node, len(nodes))
		for i, end := range ends {
			of[i] = slots.Node{Addr: nodes[i].Addr, Master: true}
			owned[i] = []slots.Range{{First: first, Last: end}}
			first = end + 1
		}
		m, err := slots.NewMap(of[:len(ends)], owned[:len(ends)])
		if err != nil {
			t.Fatal(err)
		}
		return router.NewSlots(m)
	}
	ranges := func(from string, node router.NodeID) *router.Table {
		table, err := router.NewRange(nodes, []router.Rule{{Node: node, Text: from, TextTo: "z"}}, 0, "{}")
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	none := func(router.Node) control.Account { return control.Account{} }
	all := []string{"h:1", "h:2", "h:3", "h:4"}
	for name, of := range map[string]struct {
		older, newer *router.Table
		tag          string // of the newer one
		want         []string
	}{
		"a and b share otherwise": {static(4000, 8000, 16383), static(5000, 8000, 16383), "{}", all[:2]},
		"c gives some to d":       {static(4000, 8000, 16383), static(4000, 8000, 12000, 16383), "{}", all[2:]},
		"a range goes from c to d": {
			ranges("m", 2), ranges("m", 3), "{}", all[2:],
		},
		"another hash tag":  {ranges("m", 2), ranges("m", 3), "", all},
		"a range and slots": {ranges("m", 2), static(4000, 8000, 12000, 16383), "{}", all},
	} {
		p := &planner{
			older: Side{Table: of.older, HashTag: "{}", Accounts: none},
			newer: Side{Table: of.newer, HashTag: of.tag, Accounts: none},
			same:  router.SameNodes(of.older, of.newer), report: &Report{Space: router.Compare(of.older, of.newer)},
		}
		p.list()
		takesPart := p.takesPart()
		var got []string
		for _, n := range p.nodes {
			if takesPart(n) {
				got = append(got, n.addr)
			}
		}
		if slices.Sort(got); !slices.Equal(got, of.want) {
			t.Errorf("%s: %q, want %q", name, got, of.want)
		}
	}
}
