package hashring

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Node is a member of a ring. Its points depend on its name and its weight, and not on its
// address, so a server can be replaced without moving keys.
type Node struct {
	Name   string
	Weight int
}

// twemproxyOrder returns the indices of nodes in twemproxy's order: by name, shorter names
// first (nc_conf.c, conf_validate_server; nc_string.c, string_compare).
func twemproxyOrder(nodes []Node) []int {
	indices := make([]int, len(nodes))
	for i := range indices {
		indices[i] = i
	}
	slices.SortStableFunc(indices, func(a, b int) int {
		x, y := nodes[a].Name, nodes[b].Name
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
	return indices
}

const pointsPerNode = 160

type point struct {
	value uint32
	node  int32
}

// Ring is a ketama continuum. It is immutable.
type Ring struct {
	hash   Hash
	points []point // by value
	nodes  int
	// firsts[i] is the index of the first point that is not below i<<shift. A binary search
	// through the points would cost more than the hash, because its branches are unpredictable.
	firsts []int32
	shift  uint8
}

// firstsPerPoint is the least number of entries in firsts for each point. With four, most searches
// end at the first point that they look at: a table of 8 KB for three nodes, and of 1 MB for 300.
const firstsPerPoint = 4

// New returns the continuum of nodes, on which hash places keys.
// Source: twemproxy 0.5, nc_ketama.c.
func New(nodes []Node, hash Hash) (*Ring, error) {
	total := 0
	for _, n := range nodes {
		if n.Weight < 1 {
			return nil, fmt.Errorf("node %s: weight %d is less than 1", n.Name, n.Weight)
		}
		total += n.Weight
	}
	var points []point
	for _, i := range twemproxyOrder(nodes) {
		n := nodes[i]
		// The number of points decides where keys are placed, so compute it in 32-bit
		// floats and in the same steps as the original.
		pct := float32(n.Weight) / float32(total)
		share := float32(float32(pct*pointsPerNode)/4) * float32(len(nodes))
		hashes := int(math.Floor(float64(float32(float64(share) + 0.0000000001))))
		for p := range hashes {
			sum := md5.Sum(fmt.Appendf(nil, "%.85s", fmt.Sprintf("%s-%d", n.Name, p)))
			for k := 0; k < 16; k += 4 {
				points = append(points, point{binary.LittleEndian.Uint32(sum[k:]), int32(i)})
			}
		}
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("a ring needs at least one node with points on it")
	}
	return newRing(hash, len(nodes), points), nil
}

// newRing returns the continuum of points. Of equal points, the first counts.
func newRing(hash Hash, nodes int, points []point) *Ring {
	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.value, b.value) })
	width := bits.Len(uint(firstsPerPoint*len(points) - 1))
	r := &Ring{hash: hash, nodes: nodes, points: points, firsts: make([]int32, 1<<width), shift: uint8(32 - width)}
	i := 0
	for b := range r.firsts {
		for i < len(points) && points[i].value < uint32(b)<<r.shift {
			i++
		}
		r.firsts[b] = int32(i)
	}
	return r
}

// Node returns the index of key's node.
func (r *Ring) Node(key []byte) int {
	if r.nodes == 1 {
		return 0
	}
	return r.At(r.Point(key))
}

// Point returns the key's point on the continuum. As in twemproxy, the empty
// key has point 0 whatever the hash.
func (r *Ring) Point(key []byte) uint32 { return pointOf(r.hash, key) }

func pointOf(hash Hash, key []byte) uint32 {
	if len(key) == 0 {
		return 0
	}
	return hash(key)
}

// At returns the index of the node that has a point of the continuum.
func (r *Ring) At(point uint32) int {
	i := int(r.firsts[point>>(r.shift&31)]) // &31 spares the compiler a branch
	for i < len(r.points) && r.points[i].value < point {
		i++
	}
	if i == len(r.points) {
		i = 0
	}
	return int(r.points[i].node)
}

// Shares returns each node's share of the continuum. They add up to 1.
func (r *Ring) Shares() []float64 {
	shares := make([]float64, r.nodes)
	prev := uint64(r.points[len(r.points)-1].value)
	for i, p := range r.points {
		arc := uint64(p.value) - prev
		if i == 0 {
			arc = uint64(p.value) + 1<<32 - prev
		}
		shares[p.node] += float64(arc) / (1 << 32)
		prev = uint64(p.value)
	}
	return shares
}

// Modula is twemproxy's modula distribution: hash modulo the sum of weights.
// It is immutable. Source: twemproxy 0.5, nc_modula.c.
type Modula struct {
	hash  Hash
	nodes int
	of    []int32
}

// NewModula returns the distribution over nodes.
func NewModula(nodes []Node, hash Hash) (*Modula, error) {
	m := &Modula{hash: hash, nodes: len(nodes)}
	for _, i := range twemproxyOrder(nodes) {
		n := nodes[i]
		if n.Weight < 1 {
			return nil, fmt.Errorf("node %s: weight %d is less than 1", n.Name, n.Weight)
		}
		for range n.Weight {
			m.of = append(m.of, int32(i))
		}
	}
	if len(m.of) == 0 {
		return nil, fmt.Errorf("modulo needs at least one node")
	}
	return m, nil
}

// Node returns the index of key's node.
func (m *Modula) Node(key []byte) int { return m.At(m.Point(key)) }

// At returns the index of the node that has a hash.
func (m *Modula) At(point uint32) int { return int(m.of[point%uint32(len(m.of))]) }

// Point returns the key's hash, before the modulo.
func (m *Modula) Point(key []byte) uint32 { return pointOf(m.hash, key) }

// Shares returns each node's share of the keys. They add up to 1.
func (m *Modula) Shares() []float64 {
	shares := make([]float64, m.nodes)
	for _, n := range m.of {
		shares[n] += 1 / float64(len(m.of))
	}
	return shares
}
