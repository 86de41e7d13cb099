package proxy

import (
	"testing"

	"github.com/keyway-proxy/keyway/router"
)

// Where no rule holds the key that scripts without keys go by, it is the node that
// comes first by its name, for every keyway.
func TestScriptsWithoutKeysInRanges(t *testing.T) {
	nodes := []router.Node{{Name: "b", Addr: "10.0.0.2:1", Master: true}, {Name: "a", Addr: "10.0.0.1:1", Master: true}}
	table, err := router.NewRange(nodes, []router.Rule{{Text: "a", TextTo: "m", Node: 0}}, router.None, "{}")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Options{})
	r.w.SetTable(table)
	if group, id := r.w.Scripts.KeylessPlace(); id != 1 || group != 1 {
		t.Errorf("node %d, group %d", id, group)
	}
}
