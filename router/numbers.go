package router

import "math/bits"

// spans are the numeric rules of one prefix, for look-ups. With 10,000 rules, a binary search takes fourteen
// steps, of which a processor predicts none and finds few in its cache. So firsts says where to begin: with
// evenly spread rules, most look-ups end at the first or second span.
type spans struct {
	rules []Rule // in order
	all   []span // the same
	// firsts[i] is the index of the first span that ends at low+i<<shift or above. It has one entry more than there
	// are such numbers.
	firsts []int32
	// nodes[i] is the node of all numbers from low+i<<shift up to those of the next entry, or nowhere, or several.
	// So most look-ups end there, in a table that is small enough for the processor's cache.
	nodes     []NodeID
	low, high int64
	shift     uint8
}

// span is the numbers of a rule.
type span struct {
	from, to int64
	node     NodeID
}

const (
	nowhere = None - 1 - iota // no rule matches the numbers
	several                   // the spans say which node it is
)

const (
	// firstsPerSpan is the least number of entries in firsts for each span, if they have so many numbers.
	firstsPerSpan = 2
	// fewSpans is how many spans are looked at one after another.
	fewSpans = 8
)

// newSpans returns the spans of rules, which are in order and do not overlap.
func newSpans(rules []Rule) *spans {
	s := &spans{rules: rules, low: rules[0].From, high: rules[len(rules)-1].To}
	for _, r := range rules {
		s.all = append(s.all, span{r.From, r.To, r.Node})
	}
	numbers := uint64(s.high - s.low)
	s.shift = uint8(max(0, bits.Len64(numbers)-bits.Len(uint(firstsPerSpan*len(rules)-1))))
	i := 0
	for at := uint64(0); at <= numbers>>s.shift; at++ {
		for uint64(s.all[i].to-s.low) < at<<s.shift {
			i++
		}
		s.firsts = append(s.firsts, int32(i))
		s.nodes = append(s.nodes, s.nodeOfAll(i, at<<s.shift, min(numbers, at<<s.shift+1<<s.shift-1)))
	}
	s.firsts = append(s.firsts, int32(len(rules)-1))
	return s
}

// nodeOfAll returns what nodes has for the numbers from low+from to low+to. i is the index of the first span that
// ends there or behind.
func (s *spans) nodeOfAll(i int, from, to uint64) NodeID {
	switch begin, end := uint64(s.all[i].from-s.low), uint64(s.all[i].to-s.low); {
	case begin > to:
		return nowhere
	case begin <= from && end >= to:
		return s.all[i].node
	}
	return several
}

// node returns the node of a number. ok is false if no rule matches it.
func (s *spans) node(number int64) (n NodeID, ok bool) {
	if number < s.low || number > s.high {
		return None, false
	}
	if n = s.nodes[uint64(number-s.low)>>(s.shift&63)]; n != several { // &63 spares the compiler a branch
		return n, n != nowhere
	}
	i := s.find(number)
	if i < 0 {
		return None, false
	}
	return s.all[i].node, true
}

// find returns the index of the rule that matches a number, or -1.
func (s *spans) find(number int64) int {
	if number < s.low || number > s.high {
		return -1
	}
	at := uint64(number-s.low) >> (s.shift & 63)
	i, last := int(s.firsts[at]), int(s.firsts[at+1])
	for last-i > fewSpans { // the rules are not spread evenly
		if middle := (i + last) / 2; s.all[middle].to < number {
			i = middle + 1
		} else {
			last = middle
		}
	}
	for s.all[i].to < number {
		i++
	}
	if s.all[i].from > number {
		return -1
	}
	return i
}

// prefixes are the prefixes of one length, and the numeric rules of each.
type prefixes struct {
	length int
	only   string // the only prefix of this length, if there is one
	spans  *spans // of that
	more   map[string]*spans
}

// find returns the rules of the prefix with which a key begins, or nil.
func (p *prefixes) find(key []byte) *spans {
	if p.length > len(key) {
		return nil
	}
	if p.more != nil {
		return p.more[string(key[:p.length])]
	}
	if string(key[:p.length]) == p.only {
		return p.spans
	}
	return nil
}

func (p *prefixes) add(prefix string, s *spans) {
	if p.spans == nil && p.more == nil {
		p.only, p.spans = prefix, s
		return
	}
	if p.more == nil {
		p.more = map[string]*spans{p.only: p.spans}
	}
	p.more[prefix] = s
}
