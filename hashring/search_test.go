package hashring

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
)

// nodeAt looks at all points: it returns the node of the lowest one that is not below p, and of the
// lowest of all if there is none. Of equal points, the first counts.
func nodeAt(points []point, p uint32) int {
	lowest, above := -1, -1
	for i, q := range points {
		if lowest < 0 || q.value < points[lowest].value {
			lowest = i
		}
		if q.value >= p && (above < 0 || q.value < points[above].value) {
			above = i
		}
	}
	if above < 0 {
		above = lowest
	}
	return int(points[above].node)
}

// checksAround compares At with nodeAt at a point and beside it.
func checksAround(t *testing.T, r *Ring, points []point, p uint32) {
	t.Helper()
	for _, q := range []uint32{p - 1, p, p + 1} {
		if got, want := r.At(q), nodeAt(points, q); got != want {
			t.Fatalf("%d points: %#x is on %d, want %d", len(r.points), q, got, want)
		}
	}
}

// TestSearch compares At with a look at all points: at each point of the ring and each border of the
// search's table, and on both sides.
func TestSearch(t *testing.T) {
	of := func(values ...uint32) *Ring {
		var points []point
		for i, v := range values {
			points = append(points, point{v, int32(i)})
		}
		return newRing(nil, len(points), points)
	}
	dense := make([]uint32, 500)
	for i := range dense {
		dense[i] = 1<<31 + uint32(i/2) // pairs of equal points, all in one place of the table
	}
	rings := []*Ring{
		of(0), of(math.MaxUint32), of(1 << 31), of(0, math.MaxUint32), of(5, 5, 5), of(0, 0, 1, 1<<30, 1<<30),
		of(math.MaxUint32-1, math.MaxUint32, math.MaxUint32), of(dense...),
	}
	for _, weights := range [][]int{{1}, {1, 1}, {3, 1, 2}, {1000, 1}, {1, 1000, 500, 1000, 7}, {1000, 999, 1, 1}} {
		rings = append(rings, ringOf(t, weights...))
	}
	for _, r := range rings {
		step := max(1, len(r.firsts)/2000)
		for i := 0; i < len(r.firsts); i += step {
			checksAround(t, r, r.points, uint32(i)<<r.shift)
		}
		for _, p := range r.points {
			checksAround(t, r, r.points, p.value)
		}
	}
	weights := make([]int, 300)
	for i := range weights {
		weights[i] = 1 + i*37%1000
	}
	large := ringOf(t, weights...)
	for i := 0; i < len(large.points); i += 401 {
		checksAround(t, large, large.points, large.points[i].value)
	}
	checksAround(t, large, large.points, 0)
	checksAround(t, large, large.points, large.points[len(large.points)-1].value)
}

func ringOf(t testing.TB, weights ...int) *Ring {
	t.Helper()
	h, _ := HashNamed("murmur")
	var nodes []Node
	for i, w := range weights {
		nodes = append(nodes, Node{fmt.Sprintf("node-%d", i), w})
	}
	r, err := New(nodes, h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// FuzzSearch compares At with a look at all points. Each four bytes of the input are a point.
func FuzzSearch(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), uint32(1))
	f.Add([]byte("\x00\x00\x00\x80\x01\x00\x00\x80\x00\x00\x00\x80\x00\x00\x00\x40"), uint32(1<<31))
	f.Fuzz(func(t *testing.T, values []byte, p uint32) {
		var points []point
		for ; len(values) >= 4; values = values[4:] {
			points = append(points, point{binary.LittleEndian.Uint32(values), int32(len(points))})
		}
		if len(points) == 0 {
			return
		}
		r := newRing(nil, len(points), slices.Clone(points))
		checksAround(t, r, points, p)
		for _, q := range points {
			checksAround(t, r, points, q.value)
		}
	})
}

// BenchmarkSearch places points that are not in order, so that branches cannot be predicted.
func BenchmarkSearch(b *testing.B) {
	for _, nodes := range []int{3, 300} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			weights := make([]int, nodes)
			for i := range weights {
				weights[i] = 1
			}
			r, p := ringOf(b, weights...), uint32(1)
			for b.Loop() {
				p = p*1664525 + 1013904223
				r.At(p)
			}
		})
	}
}
