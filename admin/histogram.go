package admin

import (
	"math/bits"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/keyway-proxy/keyway/metrics"
)

// latencies exports a histogram in seconds: with bounds of its own for all, and as a native histogram for a
// Prometheus that asks for one. The buckets of both are the same.
type latencies struct {
	desc   *prometheus.Desc
	of     *metrics.Histogram
	ratio  uint64 // how many ticks one of the histogram's is; a power of two
	step   int    // one bound in so many is exported
	labels []string
}

// Desc implements [prometheus.Metric].
func (l latencies) Desc() *prometheus.Desc { return l.desc }

// Write implements [prometheus.Metric].
func (l latencies) Write(to *dto.Metric) error {
	h, ratio := l.of, float64(l.ratio)
	buckets, below := map[float64]uint64{}, uint64(0)
	for i := range metrics.LatencyBuckets - 1 {
		if below += h.Buckets[i]; i%l.step == 0 {
			buckets[metrics.Bound(i)*ratio] = below
		}
	}
	sum := float64(h.Sum) / metrics.TicksPerSecond * ratio
	m, err := prometheus.NewConstHistogram(l.desc, h.Count, sum, buckets, l.labels...)
	if err != nil {
		return err
	}
	if err := m.Write(to); err != nil {
		return err
	}
	l.addNative(to.Histogram)
	return nil
}

// addNative adds the buckets of a native histogram of schema 0, whose bucket i ends at 2^i seconds. What is counted in
// the first bucket is there so close to zero that it counts as zero.
func (l latencies) addNative(to *dto.Histogram) {
	of := l.of.Buckets
	schema, threshold := int32(0), metrics.Bound(0)*float64(l.ratio)
	to.Schema, to.ZeroThreshold, to.ZeroCount = &schema, &threshold, &of[0]
	// Bucket i of ours ends at 2^i ticks.
	first := 1 + int32(bits.TrailingZeros64(l.ratio)) - int32(bits.TrailingZeros64(metrics.TicksPerSecond))
	length := uint32(len(of) - 1)
	to.PositiveSpan = []*dto.BucketSpan{{Offset: &first, Length: &length}}
	before := uint64(0)
	for _, n := range of[1:] {
		to.PositiveDelta = append(to.PositiveDelta, int64(n-before))
		before = n
	}
}

// sizes exports how many things came together.
func sizes(d *prometheus.Desc, of *metrics.Sizes, labels ...string) prometheus.Metric {
	buckets := map[float64]uint64{}
	below := uint64(0)
	for i := range metrics.SizeBuckets - 1 {
		below += of.Buckets[i]
		buckets[float64(uint64(1)<<i)] = below
	}
	return prometheus.MustNewConstHistogram(d, of.Count, float64(of.Sum), buckets, labels...)
}
