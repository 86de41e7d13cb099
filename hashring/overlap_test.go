package hashring

import (
	"fmt"
	"math"
	"testing"
)

// TestOverlapCountsEveryPoint: the counts are those of placing each point of a small hash.
func TestOverlapCountsEveryPoint(t *testing.T) {
	nodes := func(weights ...int) (all []Node) {
		for i, w := range weights {
			all = append(all, Node{fmt.Sprintf("node-%d", i), w})
		}
		return all
	}
	var p uint32
	hash := func([]byte) uint32 { return p }
	var all []Distribution
	for _, w := range [][]int{{1}, {1, 1}, {1, 2, 1}, {7, 1, 1, 1, 3}, {300, 200}, {1000, 999, 77}} {
		ring, err := New(nodes(w...), hash)
		if err != nil {
			t.Fatal(err)
		}
		modula, err := NewModula(nodes(w...), hash)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ring, modula)
	}
	const total = 1 << 17
	// A ring of twelve nodes has a point every two million, so count where the points are
	// dense as well: in a ring whose points are only those of its start.
	var dense []point
	for i := range uint32(200) {
		dense = append(dense, point{i * i * 3, int32(i % 3)}, point{i * i * 3, int32((i + 1) % 3)})
	}
	all = append(all, newRing(hash, 3, dense))
	for ai, a := range all {
		for bi, b := range all {
			want := map[[2]int]uint64{}
			for p = range uint32(total) {
				want[[2]int{a.Node([]byte("k")), b.Node([]byte("k"))}]++
			}
			got := Overlap(a, b, total)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%d and %d: %v, want %v", ai, bi, got, want)
			}
		}
	}
}

// TestOverlapOfAllPoints: the counts of 2^32 points add up to each node's share.
func TestOverlapOfAllPoints(t *testing.T) {
	h, _ := HashNamed("md5")
	three := []Node{{"a", 1}, {"b", 2}, {"c", 1}}
	four := append(three[:3:3], Node{"d", 2})
	var all []Distribution
	for _, nodes := range [][]Node{three, four, {{"a", 1000000}, {"b", 999999}}} {
		ring, err := New(nodes, h)
		if err != nil {
			t.Fatal(err)
		}
		modula, err := NewModula(nodes, h)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ring, modula)
	}
	for ai, a := range all {
		for bi, b := range all {
			sums, sum := map[int]uint64{}, uint64(0)
			for pair, n := range Overlap(a, b, 1<<32) {
				sums[pair[0]] += n
				sum += n
			}
			if sum != 1<<32 {
				t.Errorf("%d and %d: %d points in all", ai, bi, sum)
			}
			for i, share := range a.Shares() { // that of a modulo ignores its last, incomplete round
				if got := float64(sums[i]) / (1 << 32); math.Abs(got-share) > 1e-3 {
					t.Errorf("%d and %d: node %d has %v of the points, its share is %v", ai, bi, i, got, share)
				}
			}
		}
	}
}
