package hashring

import (
	"iter"
	"math"
	"sort"
)

// Distribution is a [Ring] or a [Modula].
type Distribution interface {
	// Node returns the index of key's node.
	Node(key []byte) int
	// Point returns the key's hash.
	Point(key []byte) uint32
	// At returns the index of the node that has a point.
	At(point uint32) int
	// Shares returns each node's share of the points. They add up to 1.
	Shares() []float64

	runs() runs
}

// Points returns how many values the hash of that name can have, from 0 up.
func Points(name string) uint64 {
	if name == "crc32" {
		return 1 << 15
	}
	return 1 << 32
}

// Overlap returns how many of the points from 0 to total-1 belong to node i in a and to
// node j in b, by {i, j}. The counts are exact. They say nothing unless both
// distributions use the same hash.
func Overlap(a, b Distribution, total uint64) map[[2]int]uint64 {
	x, y := a.runs(), b.runs()
	counts := map[[2]int]uint64{}
	add := func(i, j int, n uint64) {
		if n > 0 {
			counts[[2]int{i, j}] += n
		}
	}
	// All three ways give the same counts. Each is too slow for some pair, such as a
	// ring and a modulo of three nodes, which has a run for almost every point.
	cycle := min(total, lcm(x.period, y.period))
	walking := x.within(cycle) + y.within(cycle)
	byX, byY := x.within(total)*float64(len(y.ends)), y.within(total)*float64(len(x.ends))
	switch {
	case walking <= min(byX, byY):
		walk(x, y, 0, cycle, total/cycle, add)
		walk(x, y, 0, total%cycle, 1, add)
	case byX <= byY:
		x.cross(y, total, add)
	default:
		y.cross(x, total, func(j, i int, n uint64) { add(i, j, n) })
	}
	return counts
}

// runs are the consecutive points that belong to one node. They repeat after period
// points. Run i ends before the point ends[i], and belongs to nodes[i].
type runs struct {
	period uint64
	ends   []uint64
	nodes  []int
}

// Runs yields the consecutive points that belong to one node, in order: the point before which they end, and
// the node's index. A modulo's repeat after the last.
func Runs(d Distribution) iter.Seq2[uint64, int] {
	all := d.runs()
	return func(yield func(end uint64, node int) bool) {
		for i, end := range all.ends {
			if !yield(end, all.nodes[i]) {
				return
			}
		}
	}
}

func (r *Ring) runs() runs {
	all := runs{period: 1 << 32}
	if r.nodes == 1 {
		return runs{1 << 32, []uint64{1 << 32}, []int{0}}
	}
	for i, p := range r.points {
		if i > 0 && p.value == r.points[i-1].value {
			continue // of two points at one place, the first counts
		}
		all.ends, all.nodes = append(all.ends, uint64(p.value)+1), append(all.nodes, int(p.node))
	}
	if last := len(all.ends) - 1; all.ends[last] < 1<<32 {
		all.ends, all.nodes = append(all.ends, 1<<32), append(all.nodes, int(r.points[0].node))
	}
	return all
}

func (m *Modula) runs() runs {
	all := runs{period: uint64(len(m.of))}
	for i, node := range m.of {
		if i+1 == len(m.of) || m.of[i+1] != node {
			all.ends, all.nodes = append(all.ends, uint64(i)+1), append(all.nodes, int(node))
		}
	}
	return all
}

// within returns about how many runs there are within the first n points.
func (r runs) within(n uint64) float64 {
	return max(1, float64(n)/float64(r.period)) * float64(len(r.ends))
}

// at returns the node of a point, and the point at which its run has ended.
func (r runs) at(p uint64) (node int, end uint64) {
	start := p - p%r.period
	i := sort.Search(len(r.ends), func(i int) bool { return start+r.ends[i] > p })
	return r.nodes[i], start + r.ends[i]
}

// walk adds the points in [from, to), each of them times, run by run.
func walk(x, y runs, from, to, times uint64, add func(i, j int, n uint64)) {
	for p := from; p < to; {
		i, endX := x.at(p)
		j, endY := y.at(p)
		end := min(endX, endY, to)
		add(i, j, (end-p)*times)
		p = end
	}
}

// cross adds the points below total. It visits each run of r, but only computes how many
// of its points each run of y holds in all its repetitions.
func (r runs) cross(y runs, total uint64, add func(i, j int, n uint64)) {
	for p := uint64(0); p < total; {
		i, end := r.at(p)
		end = min(end, total)
		start := uint64(0)
		for k, stop := range y.ends {
			add(i, y.nodes[k], y.before(end, start, stop)-y.before(p, start, stop))
			start = stop
		}
		p = end
	}
}

// before returns how many points below p lie within [start, stop) of their period.
func (r runs) before(p, start, stop uint64) uint64 {
	n := p / r.period * (stop - start)
	if rest := p % r.period; rest > start {
		n += min(rest, stop) - start
	}
	return n
}

// lcm returns the least common multiple, or the largest number if it is above that.
func lcm(a, b uint64) uint64 {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	if a/x > math.MaxUint64/b {
		return math.MaxUint64
	}
	return a / x * b
}
