package pull

import (
	"hash/maphash"
)

// fingerprint stands for a key of a database. Two keys with one fingerprint would be taken for
// each other, so it is too long, and its seeds are too secret, for that to happen.
type fingerprint [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func fingerprintOf(db uint16, key []byte) (f fingerprint) {
	for i, seed := range seeds {
		f[i] = maphash.Bytes(seed, key) + uint64(db)
	}
	return f
}

// gone is a set of keys that have left their former nodes. Nothing creates them there again in
// the same epoch of the layout. Of one that is forgotten, the node is asked again.
type gone struct {
	newer, older map[fingerprint]struct{}
}

func (g *gone) has(f fingerprint) bool {
	if _, ok := g.newer[f]; ok {
		return true
	}
	_, ok := g.older[f]
	return ok
}

// add adds a key, and forgets older ones if there are more than most.
func (g *gone) add(f fingerprint, most int) {
	if g.newer == nil || len(g.newer) >= most/2 {
		g.older, g.newer = g.newer, map[fingerprint]struct{}{}
	}
	g.newer[f] = struct{}{}
}
