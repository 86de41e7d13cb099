package router

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
)

// Rule places a range of keys on a node. A Numeric rule matches keys that begin with Prefix
// and, right after it, a decimal number in [From, To]. Other rules match the keys in
// [Text, TextTo), in the order of bytes. An empty TextTo means that there is no end.
type Rule struct {
	Node         NodeID
	Numeric      bool
	Prefix       string
	From, To     int64
	Text, TextTo string
}

func (r Rule) String() string {
	if r.Numeric {
		return fmt.Sprintf("%s%d..%d", r.Prefix, r.From, r.To)
	}
	return fmt.Sprintf("[%q, %q)", r.Text, r.TextTo)
}

// OverlapError names two rules, by index, that match the same keys.
type OverlapError struct{ A, B int }

func (e *OverlapError) Error() string {
	return fmt.Sprintf("rules %d and %d overlap", e.A+1, e.B+1)
}

// GapError names two neighbouring rules, by index, and the keys between them that no rule
// matches.
type GapError struct {
	A, B    int
	Missing string
}

func (e *GapError) Error() string {
	return fmt.Sprintf("no rule matches %s, between rules %d and %d", e.Missing, e.A+1, e.B+1)
}

// rangeLayout finds a key's rule. It tries one look-up for each length of a prefix, longest first, and then one
// for the number. If no numeric rule matches, it tries the text rules in O(log n), then the default.
type rangeLayout struct {
	tag      hashTag
	tagText  string
	prefixes []*prefixes       // longest first
	numeric  map[string][]Rule // by prefix; each by From
	texts    []Rule            // by Text
	fallback NodeID
}

// NewRange returns the table of nodes with rules. Keys that no rule matches belong to
// fallback. If fallback is None, keys before the first rule and after the last have no
// node, and keys between two rules are a *GapError. Rules that contradict each other are
// an *OverlapError.
func NewRange(nodes []Node, rules []Rule, fallback NodeID, tagText string) (*Table, error) {
	tag, err := newHashTag(tagText)
	if err != nil {
		return nil, err
	}
	l := &rangeLayout{tag: tag, tagText: tagText, fallback: fallback, numeric: map[string][]Rule{}}
	index := make(map[Rule]int, len(rules))
	for i, r := range rules {
		if j, ok := index[r]; ok {
			return nil, &OverlapError{j, i}
		}
		index[r] = i
		if r.Numeric {
			l.numeric[r.Prefix] = append(l.numeric[r.Prefix], r)
		} else {
			l.texts = append(l.texts, r)
		}
	}
	for prefix, rs := range l.numeric {
		slices.SortFunc(rs, func(a, b Rule) int { return cmp.Compare(a.From, b.From) })
		for i := 1; i < len(rs); i++ {
			if rs[i].From <= rs[i-1].To {
				return nil, &OverlapError{index[rs[i-1]], index[rs[i]]}
			}
		}
		l.addPrefix(prefix, newSpans(rs))
	}
	slices.SortFunc(l.prefixes, func(a, b *prefixes) int { return cmp.Compare(b.length, a.length) })
	slices.SortFunc(l.texts, func(a, b Rule) int { return cmp.Compare(a.Text, b.Text) })
	for i := 1; i < len(l.texts); i++ {
		if prev := l.texts[i-1]; prev.TextTo == "" || l.texts[i].Text < prev.TextTo {
			return nil, &OverlapError{index[prev], index[l.texts[i]]}
		}
	}
	if fallback == None {
		if err := l.gap(index); err != nil {
			return nil, err
		}
	}
	return newTable("range", l, nodes), nil
}

// gap returns a *GapError if keys between two neighbouring rules have no node.
func (l *rangeLayout) gap(index map[Rule]int) error {
	for _, prefix := range slices.Sorted(maps.Keys(l.numeric)) {
		rules := l.numeric[prefix]
		for i := 1; i < len(rules) && !l.hasOther(prefix); i++ {
			a, b := rules[i-1], rules[i]
			if b.From > a.To+1 {
				missing := Rule{Numeric: true, Prefix: prefix, From: a.To + 1, To: b.From - 1}
				return &GapError{index[a], index[b], missing.String()}
			}
		}
	}
	for i := 1; i < len(l.texts); i++ {
		if a, b := l.texts[i-1], l.texts[i]; b.Text > a.TextTo {
			return &GapError{index[a], index[b], Rule{Text: a.TextTo, TextTo: b.Text}.String()}
		}
	}
	return nil
}

// hasOther reports whether keys with the prefix can have a node by another rule than
// the prefix's own: by that of a shorter prefix, whose number begins within this one,
// or by a text rule that holds all of them.
func (l *rangeLayout) hasOther(prefix string) bool {
	for other := range l.numeric {
		if rest, ok := strings.CutPrefix(prefix, other); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return true
		}
	}
	return slices.ContainsFunc(l.texts, func(r Rule) bool {
		return r.Text <= prefix && (r.TextTo == "" || r.TextTo >= prefix+":") // ':' follows the digits
	})
}

func (l *rangeLayout) addPrefix(prefix string, s *spans) {
	i := slices.IndexFunc(l.prefixes, func(p *prefixes) bool { return p.length == len(prefix) })
	if i < 0 {
		i = len(l.prefixes)
		l.prefixes = append(l.prefixes, &prefixes{length: len(prefix)})
	}
	l.prefixes[i].add(prefix, s)
}

func (l *rangeLayout) Place(key []byte) (int32, NodeID) {
	key = l.tag.of(key)
	for _, p := range l.prefixes {
		s := p.find(key)
		if s == nil {
			continue
		}
		if number, ok := leadingNumber(key[p.length:]); ok {
			if n, ok := s.node(number); ok {
				return int32(n), n
			}
		}
	}
	n := l.fallback
	if r := l.textRule(key); r != nil {
		n = r.Node
	}
	return int32(n), n
}

func (l *rangeLayout) textRule(key []byte) *Rule {
	j := sort.Search(len(l.texts), func(j int) bool { return l.texts[j].Text > string(key) }) - 1
	if j >= 0 && (l.texts[j].TextTo == "" || string(key) < l.texts[j].TextTo) {
		return &l.texts[j]
	}
	return nil
}

// rule returns the rule that places a key, or nil.
func (l *rangeLayout) rule(key []byte) *Rule {
	for _, p := range l.prefixes {
		s := p.find(key)
		if s == nil {
			continue
		}
		if number, ok := leadingNumber(key[p.length:]); ok {
			if i := s.find(number); i >= 0 {
				return &s.rules[i]
			}
		}
	}
	return l.textRule(key)
}

// leadingNumber returns the decimal number that b starts with. It ignores numbers of more
// than 63 bits.
func leadingNumber(b []byte) (n int64, ok bool) {
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		d := int64(b[i] - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, i > 0
}

func (l *rangeLayout) Explain(key []byte) Explanation {
	e := Explanation{Tag: tagOf(key, l.tagText), Rule: "no rule"}
	if r := l.rule(l.tag.of(key)); r != nil {
		e.Rule = r.String()
	} else if l.fallback != None {
		e.Rule = "default"
	}
	return e
}

// Shares returns nil: a range does not say how many of its keys exist.
func (l *rangeLayout) Shares() []float64 { return nil }

// Rules returns the rules of each node in order, for people; nil when the
// table is not a range table.
func (t *Table) Rules() map[NodeID][]string {
	l, ok := t.Layout.(*rangeLayout)
	if !ok {
		return nil
	}
	rules := map[NodeID][]string{}
	for _, prefix := range slices.Sorted(maps.Keys(l.numeric)) {
		for _, r := range l.numeric[prefix] {
			rules[r.Node] = append(rules[r.Node], r.String())
		}
	}
	for _, r := range l.texts {
		rules[r.Node] = append(rules[r.Node], r.String())
	}
	if l.fallback != None {
		rules[l.fallback] = append(rules[l.fallback], "default")
	}
	return rules
}
