package pubsub

import (
	"bytes"
	"slices"

	"github.com/keyway-proxy/keyway/command"
)

// pattern is a pattern with subscribers on some workers.
type pattern struct {
	name    string
	glob    []byte
	workers int // number of workers with subscribers
}

// maxPrefix is how many bytes of a prefix patternSet uses.
const maxPrefix = 32

// patternSet finds the patterns that match a channel. It looks only at patterns whose bytes before the first
// special one are the beginning of the channel, so a message costs about the same with many patterns.
type patternSet struct {
	byName   map[string]*pattern
	byPrefix []map[string][]*pattern // by the prefix's length
}

// prefix returns the bytes with which each channel that p matches begins.
func (p *pattern) prefix() []byte {
	n := bytes.IndexAny(p.glob, `*?[\`)
	if n < 0 {
		n = len(p.glob)
	}
	return p.glob[:min(n, maxPrefix)]
}

// add records that one more worker has subscribers of a pattern.
func (ps *patternSet) add(name string) {
	if ps.byName == nil {
		ps.byName, ps.byPrefix = map[string]*pattern{}, make([]map[string][]*pattern, maxPrefix+1)
	}
	p := ps.byName[name]
	if p == nil {
		p = &pattern{name: name, glob: []byte(name)}
		ps.byName[name] = p
		prefix := p.prefix()
		of := &ps.byPrefix[len(prefix)]
		if *of == nil {
			*of = map[string][]*pattern{}
		}
		(*of)[string(prefix)] = append((*of)[string(prefix)], p)
	}
	p.workers++
}

// drop records that one worker fewer has subscribers of a pattern.
func (ps *patternSet) drop(name string) {
	p := ps.byName[name]
	if p.workers--; p.workers > 0 {
		return
	}
	delete(ps.byName, name)
	prefix := p.prefix()
	of := ps.byPrefix[len(prefix)]
	same := of[string(prefix)]
	at := slices.Index(same, p)
	same[at] = same[len(same)-1]
	same[len(same)-1] = nil
	if same = same[:len(same)-1]; len(same) > 0 {
		of[string(prefix)] = same
	} else if delete(of, string(prefix)); len(of) == 0 {
		ps.byPrefix[len(prefix)] = nil // an empty map keeps its memory
	}
}

// matching calls f with the name of each pattern that matches a channel.
func (ps *patternSet) matching(channel []byte, f func(name string)) {
	for n, of := range ps.byPrefix {
		if n > len(channel) {
			return
		}
		for _, p := range of[string(channel[:n])] {
			if command.Glob(p.glob, channel) {
				f(p.name)
			}
		}
	}
}
