package slots

import (
	"fmt"
	"slices"
	"strings"
)

// Change is one difference between two maps of a cluster, for the log. Nodes are named by
// their addresses.
type Change struct {
	What     string // node joined, node left, node is a master now, node is a replica now, slots moved
	Node     string
	From, To string // owners of slots that moved; empty: no owner
	Slots    []Range
}

// Changes returns the differences between before and m.
func (m *Map) Changes(before *Map) []Change {
	var changes []Change
	was := map[string]Node{}
	for _, n := range before.nodes {
		was[n.Addr] = n
	}
	for _, n := range m.nodes {
		o, known := was[n.Addr]
		delete(was, n.Addr)
		switch {
		case !known:
			changes = append(changes, Change{What: "node joined", Node: n.Addr})
		case n.Master && !o.Master:
			changes = append(changes, Change{What: "node is a master now", Node: n.Addr})
		case !n.Master && (o.Master || n.Of != o.Of):
			changes = append(changes, Change{What: "node is a replica now", Node: n.Addr, To: n.Of})
		}
	}
	for _, n := range before.nodes {
		if _, gone := was[n.Addr]; gone {
			changes = append(changes, Change{What: "node left", Node: n.Addr})
		}
	}
	return append(changes, m.moved(before)...)
}

// moved returns a change for each pair of owners between which slots have moved.
func (m *Map) moved(before *Map) []Change {
	type way struct{ from, to string }
	moved := map[way][]Range{}
	for slot := range uint16(Count) {
		w := way{before.ownerAddr(slot), m.ownerAddr(slot)}
		if w.from == w.to {
			continue
		}
		runs := moved[w]
		if n := len(runs); n > 0 && runs[n-1].Last+1 == slot {
			runs[n-1].Last = slot
		} else {
			runs = append(runs, Range{slot, slot})
		}
		moved[w] = runs
	}
	var changes []Change
	for w, runs := range moved {
		changes = append(changes, Change{What: "slots moved", From: w.from, To: w.to, Slots: runs})
	}
	slices.SortFunc(changes, func(a, b Change) int { return int(a.Slots[0].First) - int(b.Slots[0].First) })
	return changes
}

func (m *Map) ownerAddr(slot uint16) string {
	if o := m.owner[slot]; o != Unowned {
		return m.nodes[o].Addr
	}
	return ""
}

// Text returns the slots as Redis writes them, such as 0-99,200. It shortens a long list.
func (c Change) Text() string {
	const most = 16
	var b strings.Builder
	for i, r := range c.Slots {
		if i > 0 {
			b.WriteByte(',')
		}
		if i == most {
			fmt.Fprintf(&b, "... (%d more runs)", len(c.Slots)-most)
			break
		}
		if fmt.Fprint(&b, r.First); r.Last > r.First {
			fmt.Fprintf(&b, "-%d", r.Last)
		}
	}
	return b.String()
}

// Count returns the number of slots that moved.
func (c Change) Count() (n int) {
	for _, r := range c.Slots {
		n += int(r.Last-r.First) + 1
	}
	return n
}
