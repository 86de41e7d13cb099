package metrics

import "math/bits"

// LatencyBuckets is the number of buckets of a latency histogram. Bucket i counts commands
// that took at least 2^(i-1) and less than 2^i ticks. The last bucket also counts
// all slower commands.
const LatencyBuckets = 26

// TicksPerSecond is the number of ticks in a second. It is a power of two, because the bounds of Prometheus's
// native histograms are powers of two of a second. So a tick is a bit less than a microsecond.
const TicksPerSecond = 1 << 20

// ticksPerNano is the number of ticks in a nanosecond, in units of 2^-64: the upper half of a product with it is
// in ticks.
const ticksPerNano = TicksPerSecond << 64 / 1_000_000_000

// Histogram counts the latencies of one command, or of one family of commands.
type Histogram struct {
	Buckets    [LatencyBuckets]uint64
	Count, Sum uint64 // Sum in ticks
}

// Observe counts a command that took ns nanoseconds.
func (h *Histogram) Observe(ns int64) { // for each command, so it has to be inlined
	bucket, ticks := placeOf(ns)
	h.add(bucket, ticks, 1)
}

// add counts n commands in a bucket, each of which took so many ticks.
func (h *Histogram) add(bucket int, ticks, n uint64) {
	h.Buckets[bucket] += n
	h.Count += n
	h.Sum += ticks * n
}

// placeOf returns the bucket of a command that took ns nanoseconds, and how many ticks that is.
func placeOf(ns int64) (bucket int, ticks uint64) {
	ticks, _ = bits.Mul64(uint64(ns), ticksPerNano)
	return min(bits.Len64(ticks), LatencyBuckets-1), ticks
}

// ObserveMany counts n commands, each of which took ns nanoseconds.
func (h *Histogram) ObserveMany(ns int64, n uint64) {
	bucket, ticks := placeOf(ns)
	h.add(bucket, ticks, n)
}

// Bound returns the upper bound of a bucket in seconds. The last bucket has none.
func Bound(bucket int) float64 { return float64(uint64(1)<<bucket) / TicksPerSecond }

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

// Quantile returns the latency in seconds below which the share q of a histogram is: the value of
// Prometheus's histogram_quantile. It is 0 if the histogram is empty.
func (h *Histogram) Quantile(q float64) float64 {
	rank, below := q*float64(h.Count), 0.0
	for i, n := range h.Buckets[:LatencyBuckets-1] {
		in := float64(n)
		if in > 0 && below+in >= rank {
			lower := 0.0
			if i > 0 {
				lower = Bound(i - 1)
			}
			return lower + (Bound(i)-lower)*max(rank-below, 0)/in
		}
		below += in
	}
	if h.Count == 0 {
		return 0
	}
	return Bound(LatencyBuckets - 2) // slower than all bounds
}
