package router

import (
	"fmt"
	"testing"

	"github.com/keyway-proxy/keyway/slots"
)

// TestSpans: the spans of a layout place every key as Place does, follow each other, and are no more than needed.
func TestSpans(t *testing.T) {
	three := []Node{{Name: "a", Addr: "h:1", Master: true}, {Name: "b", Addr: "h:2", Master: true},
		{Name: "c", Addr: "h:3", Master: true}}
	hashed := Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: []int{1, 3, 1}}
	ring, err := NewRing(three, hashed)
	if err != nil {
		t.Fatal(err)
	}
	modulo, err := NewModulo(three, hashed)
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := NewStaticSlots(three, [][]slots.Range{{{First: 0, Last: 99}, {First: 200, Last: 299}},
		{{First: 100, Last: 199}},
		{{First: 400, Last: slots.Count - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		table  *Table
		places uint64
		spans  int
	}{{ring, 1 << 32, 0}, {modulo, 5, 3}, {fixed, slots.Count, 5}} {
		spans, places := c.table.Spans()
		if places != c.places || c.spans > 0 && len(spans) != c.spans {
			t.Errorf("%s: %d places in %d spans", c.table.Name, places, len(spans))
		}
		next := uint64(0)
		for i, s := range spans {
			if s.First != next || s.Last < s.First || i > 0 && spans[i-1].Node == s.Node {
				t.Fatalf("%s: span %d is %+v, after %d", c.table.Name, i, s, next)
			}
			next = s.Last + 1
		}
		for i := range 3000 {
			key := fmt.Appendf(nil, "key:%d", i)
			e := c.table.Explain(key)
			place := uint64(0)
			if e.Slot != nil {
				place = uint64(*e.Slot)
			} else {
				place = uint64(*e.Hash) % places
			}
			_, want := c.table.Place(key)
			if s := spanAt(spans, place); s.Node != want || s.From != None {
				t.Fatalf("%s: %s at %d is in %+v, want node %d", c.table.Name, key, place, s, want)
			}
		}
	}
}

func spanAt(spans []Span, place uint64) Span {
	for _, s := range spans {
		if s.First <= place && place <= s.Last {
			return s
		}
	}
	return Span{Node: -9}
}

// TestSpansOfAChange: while slots move, their spans say from where, as From does for a key.
func TestSpansOfAChange(t *testing.T) {
	two := []Node{{Name: "a", Addr: "h:1", Master: true}, {Name: "b", Addr: "h:2", Master: true}}
	older, err := NewStaticSlots(two, [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: slots.Count - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := NewStaticSlots([]Node{two[1]}, [][]slots.Range{{{First: 0, Last: slots.Count - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	table := Moving(older, newer)
	spans, _ := table.Spans()
	if len(spans) != 2 || spans[0].Node != 0 || table.Nodes[spans[0].From].Name != "a" || spans[1].From != None {
		t.Fatalf("%+v", spans)
	}
	for i := range 500 {
		key := fmt.Appendf(nil, "key:%d", i)
		if s := spanAt(spans, uint64(slots.Of(key))); s.From != table.From(key) {
			t.Errorf("%s: %+v, From says %d", key, s, table.From(key))
		}
	}
}

// TestRulers: a range layout has a ruler for each prefix, and one for texts.
func TestRulers(t *testing.T) {
	nodes := []Node{{Name: "a", Addr: "h:1", Master: true}, {Name: "b", Addr: "h:2", Master: true}}
	table, err := NewRange(nodes, []Rule{
		{Node: 1, Text: "m"}, {Node: 0, Text: "", TextTo: "m"}, {Node: 1, Numeric: true, Prefix: "u", From: 10, To: 19},
		{Node: 0, Numeric: true, Prefix: "u", From: 0, To: 9},
	}, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	rulers, fallback := table.Rulers()
	if len(rulers) != 2 || fallback != 1 || rulers[0].Prefix != "u" || rulers[0].Rules[0].From != 0 ||
		rulers[1].Rules[0].TextTo != "m" {
		t.Errorf("%+v, default %d", rulers, fallback)
	}
	if spans, places := table.Spans(); spans != nil || places != 0 {
		t.Errorf("a range has spans: %v", spans)
	}
}
