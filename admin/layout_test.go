package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/page"
)

// nodeOf returns the node that a layout gives a key, whose place e explains, and the node where it may still be.
func (l *Layout) nodeOf(t *testing.T, e *router.Explanation) (node, from string) {
	t.Helper()
	place := uint64(0)
	switch {
	case e.Rule == "default":
		return l.Default, ""
	case e.Rule != "":
		i := slices.IndexFunc(l.Rules, func(r LayoutRule) bool { return r.Rule == e.Rule })
		if i < 0 {
			t.Fatalf("there is no rule %s", e.Rule)
		}
		return l.Rules[i].Node, ""
	case e.Slot != nil:
		place = uint64(*e.Slot)
	case e.Hash != nil && l.Type == "modulo":
		place = uint64(*e.Hash) % l.Places
	case e.Hash != nil:
		place = uint64(*e.Hash)
	}
	i := slices.IndexFunc(l.Spans, func(s LayoutSpan) bool { return s.First <= place && place <= s.Last })
	if i < 0 {
		t.Fatalf("no span has %d", place)
	}
	return l.Spans[i].Node, l.Spans[i].From
}

// TestLayoutPlacesKeys: whoever has the JSON of a layout can place any key, and finds it where keyway does, also while
// the layout changes. The spans cover all places once.
func TestLayoutPlacesKeys(t *testing.T) {
	for name, table := range map[string]*router.Table{
		"slots": page.Slots(3), "ring": page.Ring(3), "modulo": page.Modulo(3), "range": page.Ranges(),
		"moving slots": router.Moving(page.Slots(3), page.Slots(4)),
		"moving ring":  router.Moving(page.Ring(4), page.Ring(3)),
	} {
		text, err := json.Marshal(LayoutOf(table, 7))
		if err != nil {
			t.Fatal(err)
		}
		var l Layout
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatal(err)
		}
		if l.Type != table.Name || l.Epoch != 7 || len(l.Nodes) != len(table.Owners()) ||
			(l.From != nil) != table.IsMoving() {
			t.Errorf("%s: %+v", name, l)
		}
		next := uint64(0)
		for _, s := range l.Spans {
			if s.First != next || s.Last < s.First {
				t.Fatalf("%s: a span begins at %d, not %d", name, s.First, next)
			}
			next = s.Last + 1
		}
		if next != l.Places {
			t.Errorf("%s: the spans end at %d of %d", name, next, l.Places)
		}
		for i := range 2000 {
			e := table.ExplainKey(fmt.Appendf(nil, "user:%d", i*1717))
			if node, from := l.nodeOf(t, &e); node != e.Node || from != e.From {
				t.Fatalf("%s: %s is on %s from %s, not %s from %s", name, e.Key, node, from, e.Node, e.From)
			}
		}
	}
}
