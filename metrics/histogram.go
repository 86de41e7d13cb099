package metrics

import "math/bits"

// LatencyBuckets is the number of buckets of a latency histogram: bucket i
// counts commands that took less than 2^i microseconds and no less than half
// of that; the last one the rest.
const LatencyBuckets = 26

// Histogram is the latency of one command, or of one family of commands.
type Histogram struct {
	Buckets    [LatencyBuckets]uint64
	Count, Sum uint64 // Sum in microseconds
}

// Observe counts a command that took so many nanoseconds.
func (h *Histogram) Observe(ns int64) {
	us := uint64(ns) / 1000
	h.Buckets[min(bits.Len64(us), LatencyBuckets-1)]++
	h.Count++
	h.Sum += us
}

// Add adds what another histogram has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Count += o.Count
	h.Sum += o.Sum
}

// Since returns what was counted since the histogram was as before.
func (h *Histogram) Since(before *Histogram) Histogram {
	d := *h
	for i, n := range before.Buckets {
		d.Buckets[i] -= n
	}
	d.Count -= before.Count
	d.Sum -= before.Sum
	return d
}
