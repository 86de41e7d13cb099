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
	// Rule is Name without what most keys do not depend on, such as a tag for hashes. If several variants of a
	// rule explain the keys, only the first is named.
	Rule string
}

const (
	fitting  = 0.99 // the share of keys that a cause has to explain
	evidence = 20   // keys that a cause has to explain, at least: fewer may fit by chance
	maxNamed = 3    // variants that explain the keys equally well
)

// cause returns what most likely changed since the keys were written, or "". It compares
// with nodes by their names. Among variants that place the same number of keys rightly, the first
// is the likeliest.
func cause(t *router.Table, samples []Sample, variants []Variant) string {
	total := 0
	for _, s := range samples {
		total += len(s.keys)
	}
	if total < evidence {
		return ""
	}
	if names := bestVariants(t, samples, variants, total); names != "" {
		return "the keys were placed by " + names
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

// bestVariants names the variants that place the most keys on the nodes that have them. It returns "" if
// they do not explain the keys, or no better than the configuration does.
func bestVariants(t *router.Table, samples []Sample, variants []Variant, total int) string {
	most := fits(t, samples)
	var names, rules []string
	for _, v := range variants {
		switch n := fits(v.Table, samples); {
		case n > most:
			most, names, rules = n, []string{v.Name}, []string{v.Rule}
		case n == most && len(names) > 0 && !slices.Contains(rules, v.Rule):
			names, rules = append(names, v.Name), append(rules, v.Rule)
		}
	}
	if float64(most) < fitting*float64(total) {
		return ""
	}
	if n := len(names) - maxNamed; n > 0 {
		names = append(names[:maxNamed], fmt.Sprintf("%d other ways", n))
	}
	return strings.Join(names, ", or by ")
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
