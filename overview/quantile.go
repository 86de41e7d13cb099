package overview

import "github.com/keyway-proxy/keyway/metrics"

// Quantile returns the latency in seconds below which the share q of a histogram is: the value of
// Prometheus's histogram_quantile. It is 0 if the histogram is empty.
func Quantile(h *metrics.Histogram, q float64) float64 {
	rank, below := q*float64(h.Count), 0.0
	for i, n := range h.Buckets[:metrics.LatencyBuckets-1] {
		in := float64(n)
		if in > 0 && below+in >= rank {
			lower := 0.0
			if i > 0 {
				lower = metrics.Bound(i - 1)
			}
			return lower + (metrics.Bound(i)-lower)*max(rank-below, 0)/in
		}
		below += in
	}
	if h.Count == 0 {
		return 0
	}
	return metrics.Bound(metrics.LatencyBuckets - 2) // slower than all bounds
}
