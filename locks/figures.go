package locks

import (
	"slices"

	"github.com/keyway-proxy/keyway/metrics"
)

// Figures are the counts of one pattern since the thread started. They cover what surely is a
// lock. A tick of the histograms is 1/1024 of a second, not what [metrics.TicksPerSecond] says: locks
// are held for up to hours.
type Figures struct {
	Acquisitions    uint64
	Refusals        uint64
	Expired         uint64 // leases that ran out while the lock was held
	Lost            uint64 // holders that were told that the lock is not theirs any more
	ForeignReleases uint64 // locks that another client than the holder deleted
	MissedRenewals  uint64
	Hold, Wait      metrics.Histogram
	usualHold       int64 // a moving average, in nanoseconds
}

// hold records how long a lock was held.
func (f *Figures) hold(ns int64) {
	ns = max(ns, 0)
	observe(&f.Hold, ns)
	if f.usualHold += (ns - f.usualHold) / 16; f.Hold.Count == 1 {
		f.usualHold = ns
	}
}

// TickRatio is how many ticks of a [metrics.Histogram] are one of a histogram of locks.
const TickRatio = 1024

func observe(h *metrics.Histogram, ns int64) {
	h.Observe(max(ns, 0) / TickRatio)
}

// add adds another thread's counts.
func (f *Figures) add(o *Figures) {
	f.Acquisitions += o.Acquisitions
	f.Refusals += o.Refusals
	f.Expired += o.Expired
	f.Lost += o.Lost
	f.ForeignReleases += o.ForeignReleases
	f.MissedRenewals += o.MissedRenewals
	f.Hold.Add(&o.Hold)
	f.Wait.Add(&o.Wait)
}

// PatternFigures are the counts of a pattern, or of the locks that match none.
type PatternFigures struct {
	Pattern string
	Figures
}

// Figures returns a copy of the counts by pattern.
func (t *Table) Figures() []PatternFigures {
	all := make([]PatternFigures, len(t.figures))
	for i, f := range t.figures {
		all[i] = PatternFigures{t.cfg.patternName(i), f}
	}
	return all
}

// SumFigures adds up the counts of several threads.
func SumFigures(threads [][]PatternFigures) []PatternFigures {
	var sum []PatternFigures
	for _, figures := range threads {
		for _, f := range figures {
			// During a reload, threads have different patterns.
			i := slices.IndexFunc(sum, func(s PatternFigures) bool { return s.Pattern == f.Pattern })
			if i < 0 {
				i = len(sum)
				sum = append(sum, PatternFigures{Pattern: f.Pattern})
			}
			sum[i].add(&f.Figures)
		}
	}
	return sum
}
