package guard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/router"
)

// Variant is another way to place keys, by which those on the nodes may have been written.
type Variant struct {
	Name  string // completes "the keys were placed by ..."
	Table *router.Table
}

const (
	fitting  = 0.99 // the share of keys that a cause has to explain
	evidence = 20   // keys that a cause has to explain, at least: fewer may fit by chance
)

// cause returns what most likely changed since the keys were written, or "". It compares
// with nodes by their names. variants are tried in this order.
func cause(t *router.Table, samples []Sample, variants []Variant) string {
	total := 0
	for _, s := range samples {
		total += len(s.keys)
	}
	if total < evidence {
		return ""
	}
	for _, v := range variants {
		if float64(fits(v.Table, samples)) >= fitting*float64(total) {
			return "the keys were placed by " + v.Name
		}
	}
	for _, v := range append([]Variant{{Table: t}}, variants...) {
		if pairs := exchanged(v.Table, samples, total); pairs != "" {
			text := "nodes have exchanged their names or addresses: " + pairs
			if v.Name != "" {
				text += " by " + v.Name
			}
			return text
		}
	}
	return oneNode(t, samples)
}

// fits counts the keys that a table places on the nodes that have them.
func fits(t *router.Table, samples []Sample) (n int) {
	for _, s := range samples {
		for _, key := range s.keys {
			if _, owner := t.Place([]byte(key)); owner != router.None && t.Nodes[owner].Name == s.Name {
				n++
			}
		}
	}
	return n
}

// exchanged returns which node has which node's keys, if each node has those of one.
func exchanged(t *router.Table, samples []Sample, total int) string {
	var pairs, owners []string
	explained := 0
	for _, s := range samples {
		owned := map[string]int{}
		for _, key := range s.keys {
			if _, owner := t.Place([]byte(key)); owner != router.None {
				owned[t.Nodes[owner].Name]++
			}
		}
		best := ""
		for name, n := range owned {
			if best == "" || n > owned[best] {
				best = name
			}
		}
		if best == "" {
			continue // the node has no keys
		}
		explained += owned[best]
		owners = append(owners, best)
		if best != s.Name {
			pairs = append(pairs, fmt.Sprintf("%s has the keys of %s", s.Name, best))
		}
	}
	slices.Sort(owners)
	if len(pairs) == 0 || len(slices.Compact(owners)) < len(owners) || float64(explained) < fitting*float64(total) {
		return ""
	}
	return strings.Join(pairs, ", ")
}

// oneNode returns a cause if each misplaced key lies on or belongs to one certain node: on
// a ring, that is how a node that was added, renamed or given another weight shows.
func oneNode(t *router.Table, samples []Sample) string {
	if len(samples) <= 2 {
		return "" // each key of two nodes is on one and belongs to the other
	}
	from, to, misplaced := map[string]int{}, map[string]int{}, 0
	for _, s := range samples {
		for _, key := range s.keys {
			_, owner := t.Place([]byte(key))
			if owner == router.None || t.Nodes[owner].Name == s.Name {
				continue
			}
			misplaced++
			from[s.Name]++
			to[t.Nodes[owner].Name]++
		}
	}
	if misplaced < evidence {
		return ""
	}
	needed := int(fitting * float64(misplaced))
	for _, s := range samples {
		switch in, out := to[s.Name], from[s.Name]; {
		case in >= needed:
			return fmt.Sprintf("node %s was added, or got a larger share: all misplaced keys belong to it", s.Name)
		case in+out >= needed && in > 0 && out > 0:
			return fmt.Sprintf("node %s had another name or weight when the keys were written: "+
				"all misplaced keys lie on it or belong to it", s.Name)
		}
	}
	return ""
}
