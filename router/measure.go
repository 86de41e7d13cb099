package router

import (
	"math/rand/v2"
	"strconv"
)

// Measured places n sequential keys (user:1, user:2 and so on) and n random ones, and
// returns each node's share of both. It returns nil for ranges, where such keys are not
// typical.
func (t *Table) Measured(n int) (sequential, random []float64) {
	if t.Shares() == nil {
		return nil, nil
	}
	counting := func(i int) []byte { return strconv.AppendInt([]byte("user:"), int64(i), 10) }
	source := rand.New(rand.NewPCG(1, 2)) // the same keys each time
	anything := func(int) []byte {
		return strconv.AppendUint(strconv.AppendUint(nil, source.Uint64(), 16), source.Uint64(), 16)
	}
	return t.measure(n, counting), t.measure(n, anything)
}

func (t *Table) measure(n int, key func(i int) []byte) []float64 {
	shares := make([]float64, len(t.Nodes))
	for i := 1; i <= n; i++ {
		if _, node := t.Place(key(i)); node != None {
			shares[node] += 1 / float64(n)
		}
	}
	return shares
}
