package router

import (
	"maps"
	"slices"

	"github.com/keyway-proxy/keyway/hashring"
	"github.com/keyway-proxy/keyway/slots"
)

// Span is a run of places that belong to one node: slots, points of a ring, or remainders of a modulo.
type Span struct {
	First, Last uint64
	Node        NodeID // an index into the table's Nodes, or None
	// From is the node on which keys of these places may still be, in a moving table; None otherwise.
	From NodeID
}

// Spans returns all places in order, and how many there are: slots of a slots layout, points of a ring, and
// remainders of a modulo. It returns nil for a range, which has Segments.
func (t *Table) Spans() (spans []Span, places uint64) {
	if spans, places = spansOf(t.Layout); t.from == nil {
		return spans, places
	}
	older, was := spansOf(t.from.older.Layout)
	if was != places || t.Name != t.from.older.Name {
		return spans, places // places of the two layouts cannot be compared
	}
	return t.moving(spans, older), places
}

// spansOf returns the places of one layout.
func spansOf(l Layout) (spans []Span, places uint64) {
	switch l := l.(type) {
	case *slotLayout:
		for slot := range uint64(slots.Count) {
			spans = appendSpan(spans, Span{slot, slot, NodeID(l.m.Owner(uint16(slot))), None})
		}
	case *hashLayout:
		first := uint64(0)
		for end, node := range hashring.Runs(l.Distribution) {
			spans = appendSpan(spans, Span{first, end - 1, NodeID(node), None})
			first = end
		}
	}
	if len(spans) > 0 {
		places = spans[len(spans)-1].Last + 1
	}
	return spans, places
}

// appendSpan appends s, which follows the last span, or prolongs that.
func appendSpan(spans []Span, s Span) []Span {
	if last := len(spans) - 1; last >= 0 && spans[last].Node == s.Node && spans[last].From == s.From {
		spans[last].Last = s.Last
		return spans
	}
	return append(spans, s)
}

// moving returns the spans of a moving table, out of those of both its layouts.
func (t *Table) moving(newer, older []Span) (spans []Span) {
	for i, j := 0, 0; i < len(newer) && j < len(older); {
		a, b := newer[i], older[j]
		s := Span{max(a.First, b.First), min(a.Last, b.Last), a.Node, None}
		if b.Node != None && t.from.ids[b.Node] != a.Node {
			s.From = t.from.ids[b.Node]
		}
		spans = appendSpan(spans, s)
		if a.Last == s.Last {
			i++
		}
		if b.Last == s.Last {
			j++
		}
	}
	return spans
}

// Ruler has the rules of a range layout for keys that are compared in one way: by the number after a
// prefix, or as texts.
type Ruler struct {
	Prefix  string
	Numeric bool
	Rules   []Rule // in order
}

// Rulers returns the rules of a range layout, and the node of keys that no rule matches. It returns nil
// for other layouts.
func (t *Table) Rulers() (rulers []Ruler, fallback NodeID) {
	l, ok := t.Layout.(*rangeLayout)
	if !ok {
		return nil, None
	}
	for _, prefix := range slices.Sorted(maps.Keys(l.numeric)) {
		rulers = append(rulers, Ruler{Prefix: prefix, Numeric: true, Rules: slices.Clone(l.numeric[prefix])})
	}
	if len(l.texts) > 0 {
		rulers = append(rulers, Ruler{Rules: slices.Clone(l.texts)})
	}
	return rulers, l.fallback
}
