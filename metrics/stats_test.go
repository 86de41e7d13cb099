package metrics

import "testing"

// TestResetHidesWhatWasCounted: after CONFIG RESETSTAT, INFO and LATENCY HISTOGRAM count
// from zero, and the counters of the metrics go on.
func TestResetHidesWhatWasCounted(t *testing.T) {
	all := func(int) bool { return true }
	s := NewStats(3)
	s.Count(0, 5e3, false, new(UserStats))
	s.Count(1, 5e3, true, new(UserStats))
	s.Accepted++
	s.Reset()
	c := s.SinceReset()
	if recent := s.Recent(all); c.Calls[1] != 0 || c.Errors[1] != 0 || c.Accepted != 0 || len(recent) != 0 {
		t.Errorf("counters %+v, histograms %v", c, recent)
	}
	s.Count(1, 5e3, false, new(UserStats))
	s.Count(2, 5e3, false, new(UserStats))
	if c := s.SinceReset(); s.Calls[1] != 2 || c.Calls[1] != 1 || c.Calls[2] != 1 || c.Calls[0] != 0 {
		t.Errorf("all %v, since then %v", s.Calls, c.Calls)
	}
	recent := s.Recent(func(id int) bool { return id != 2 })
	if h := recent[1]; len(recent) != 1 || h.Count != 1 || h.Buckets[3] != 1 {
		t.Errorf("%v", recent)
	}
	if l := s.Latencies(); l[0].Count != 1 || l[1].Count != 2 || l[2].Count != 1 || l[0] == s.histograms[0] {
		t.Errorf("latencies %v", l)
	}
	if f := s.Families([]uint8{0, 1, 1}); len(f) != 2 || f[0].Count != 1 || f[1].Count != 3 {
		t.Errorf("families %v", f)
	}
}
