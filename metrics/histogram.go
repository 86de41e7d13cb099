package metrics

import "math/bits"

// LatencyBuckets is the number of buckets of a latency histogram. Bucket i counts commands
// that took at least 2^(i-1) and less than 2^i microseconds. The last bucket also counts
// all slower commands.
const LatencyBuckets = 26

// Histogram counts the latencies of one command, or of one family of commands.
type Histogram struct {
	Buckets    [LatencyBuckets]uint64
	Count, Sum uint64 // Sum in microseconds
}

// Observe counts a command that took ns nanoseconds.
func (h *Histogram) Observe(ns int64) { // for each command, so it has to be inlined
	us := uint64(ns) / 1000
	h.Buckets[min(bits.Len64(us), LatencyBuckets-1)]++
	h.Count++
	h.Sum += us
}

// ObserveMany counts n commands, each of which took ns nanoseconds.
func (h *Histogram) ObserveMany(ns int64, n uint64) {
	us := uint64(ns) / 1000
	h.Buckets[min(bits.Len64(us), LatencyBuckets-1)] += n
	h.Count += n
	h.Sum += us * n
}

// SizeBuckets is the number of buckets of Sizes.
const SizeBuckets = 10

// Sizes counts how many things came together, such as the events of one turn. Bucket i counts
// the cases with at most 2^i of them, and more than in the bucket before. The last bucket has all larger ones.
type Sizes struct {
	Buckets    [SizeBuckets]uint64
	Count, Sum uint64
}

// Observe counts n things that came together.
func (s *Sizes) Observe(n int) {
	s.Buckets[min(bits.Len(uint(max(n, 1)-1)), SizeBuckets-1)]++
	s.Count++
	s.Sum += uint64(n)
}

// Add adds the counts of another histogram.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Count += o.Count
	h.Sum += o.Sum
}

// Since returns the difference between the histogram and before, an earlier copy of it.
func (h *Histogram) Since(before *Histogram) Histogram {
	d := *h
	for i, n := range before.Buckets {
		d.Buckets[i] -= n
	}
	d.Count -= before.Count
	d.Sum -= before.Sum
	return d
}
