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
	low    int64
	shift  uint8
}

// span is the numbers of a rule.
type span struct {
	from, to int64
	node     NodeID
}

const (
	// firstsPerSpan is the least number of entries in firsts for each span, if they have so many numbers.
	firstsPerSpan = 2
	// fewSpans is how many spans are looked at one after another.
	fewSpans = 8
)

// newSpans returns the spans of rules, which are in order and do not overlap.
func newSpans(rules []Rule) *spans {
	s := &spans{rules: rules, low: rules[0].From}
	for _, r := range rules {
		s.all = append(s.all, span{r.From, r.To, r.Node})
	}
	numbers := uint64(rules[len(rules)-1].To - s.low)
	s.shift = uint8(max(0, bits.Len64(numbers)-bits.Len(uint(firstsPerSpan*len(rules)-1))))
	i := 0
	for at := uint64(0); at <= numbers>>s.shift; at++ {
		for uint64(s.all[i].to-s.low) < at<<s.shift {
			i++
		}
		s.firsts = append(s.firsts, int32(i))
	}
	s.firsts = append(s.firsts, int32(len(rules)-1))
	return s
}

// find returns the index of the rule that matches a number, or -1.
func (s *spans) find(number int64) int {
	if number < s.low || number > s.all[len(s.all)-1].to {
		return -1
	}
	at := uint64(number-s.low) >> (s.shift & 63) // &63 spares the compiler a branch
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
