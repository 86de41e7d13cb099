package pull

import (
	"hash/maphash"
)

// remembered is how many keys are remembered that have left their former nodes. Of one that is
// forgotten, the node is asked again.
const remembered = 1 << 20

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
// the same epoch of the layout.
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

func (g *gone) add(f fingerprint) {
	if g.newer == nil || len(g.newer) >= remembered/2 {
		g.older, g.newer = g.newer, map[fingerprint]struct{}{}
	}
	g.newer[f] = struct{}{}
}
