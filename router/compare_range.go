package router

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// RuleChange is a range of keys that another node owns in the new table. Longer prefixes
// take precedence, so it may be that no key of the range moves.
type RuleChange struct {
	Keys string `json:"keys"` // user:1..1000, ["a", "m") or other keys
	From string `json:"from"` // the node's name in the old table
	To   string `json:"to"`   // the node's name in the new table; empty: no node
}

// ranges compares two range tables. Every key that moves is in one of the changes.
func (c *comparer) ranges(x, y *rangeLayout) Comparison {
	result := Comparison{Basis: Unmeasured, Pairs: []Move{}}
	prefixes := map[string]bool{}
	for prefix := range x.numeric {
		prefixes[prefix] = true
	}
	for prefix := range y.numeric {
		prefixes[prefix] = true
	}
	for _, prefix := range slices.Sorted(maps.Keys(prefixes)) {
		result.Rules = append(result.Rules, c.numbers(x, y, prefix)...)
	}
	result.Rules = append(result.Rules, c.texts(x, y)...)
	result.Moves = len(result.Rules) > 0 || x.tag != y.tag
	return result
}

// change is a Rule whose keys move to another node.
type change struct {
	Rule
	to NodeID
}

// append adds a change to those of lower keys. It widens the last one if that ends there.
func (c *comparer) append(all []change, r Rule, to NodeID) []change {
	if !c.moves(r.Node, to) {
		return all
	}
	if i := len(all) - 1; i >= 0 && all[i].Node == r.Node && all[i].to == to {
		last := &all[i]
		if r.Numeric && last.To+1 == r.From || !r.Numeric && last.TextTo == r.Text {
			last.To, last.TextTo = r.To, r.TextTo
			return all
		}
	}
	return append(all, change{r, to})
}

func (c *comparer) named(all []change) []RuleChange {
	var named []RuleChange
	for _, m := range all {
		n := RuleChange{Keys: m.String(), From: c.older.Nodes[m.Node].Name}
		if !m.Numeric && m.Text == "" && m.TextTo == "" {
			n.Keys = "other keys"
		}
		if m.to != None {
			n.To = c.newer.Nodes[m.to].Name
		}
		named = append(named, n)
	}
	return named
}

// numbers compares the numeric rules of a prefix. Numbers that neither table has a rule
// for are left to the other rules.
func (c *comparer) numbers(x, y *rangeLayout, prefix string) []RuleChange {
	starts := []int64{0}
	for _, r := range slices.Concat(x.numeric[prefix], y.numeric[prefix]) {
		starts = append(starts, r.From)
		if r.To < math.MaxInt64 {
			starts = append(starts, r.To+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var all []change
	for i, from := range starts {
		to := int64(math.MaxInt64)
		if i+1 < len(starts) {
			to = starts[i+1] - 1
		}
		a, inA := x.numbered(prefix, from)
		b, inB := y.numbered(prefix, from)
		if !inA && !inB {
			continue
		}
		for _, older := range a {
			for _, newer := range b {
				all = c.append(all, Rule{Node: older, Numeric: true, Prefix: prefix, From: from, To: to}, newer)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b change) int { return cmp.Compare(a.From, b.From) })
	return c.named(all)
}

// numbered returns the node of the prefix's rule for a number, and true. Without such a
// rule, it returns all nodes that keys with this prefix and number may be on.
func (l *rangeLayout) numbered(prefix string, n int64) (nodes []NodeID, found bool) {
	for _, r := range l.numeric[prefix] {
		if r.From <= n && n <= r.To {
			return []NodeID{r.Node}, true
		}
	}
	for shorter, rules := range l.numeric {
		rest, ok := strings.CutPrefix(prefix, shorter)
		if ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			for _, r := range rules {
				nodes = append(nodes, r.Node)
			}
		}
	}
	covered := false
	first, end := prefix+"0", prefix+":" // ':' follows the digits
	for _, r := range l.texts {
		if r.Text < end && (r.TextTo == "" || r.TextTo > first) {
			nodes = append(nodes, r.Node)
			covered = covered || r.Text <= first && (r.TextTo == "" || r.TextTo >= end)
		}
	}
	if !covered {
		nodes = append(nodes, l.fallback)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), false
}

// texts compares the text rules and the defaults.
func (c *comparer) texts(x, y *rangeLayout) []RuleChange {
	starts := []string{""}
	for _, r := range slices.Concat(x.texts, y.texts) {
		starts = append(starts, r.Text, r.TextTo)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var all []change
	for i, from := range starts {
		to := ""
		if i+1 < len(starts) {
			to = starts[i+1]
		}
		all = c.append(all, Rule{Node: x.text(from), Text: from, TextTo: to}, y.text(from))
	}
	return c.named(all)
}

// text returns the node of the text rule for key, or the default.
func (l *rangeLayout) text(key string) NodeID {
	for _, r := range l.texts {
		if r.Text <= key && (r.TextTo == "" || key < r.TextTo) {
			return r.Node
		}
	}
	return l.fallback
}

// all returns every rule.
func (l *rangeLayout) all() []Rule {
	rules := slices.Clone(l.texts)
	for _, numeric := range l.numeric {
		rules = append(rules, numeric...)
	}
	return rules
}
