package topology

import "testing"

// TestBelieveSentinels: a report that is older than the last known failover is not
// believed, unless many such reports come in a row.
func TestBelieveSentinels(t *testing.T) {
	s := NewSentinel(SentinelOptions{Master: "m", Addrs: []string{"127.0.0.1:1"}})
	defer s.Close()
	old := sentinelReport{Shard{Master: "a:1", Replicas: []string{"b:1"}}, 3}
	switched := sentinelReport{Shard{Master: "b:1", Replicas: []string{"a:1"}}, 4}
	for i, c := range []struct{ report, want sentinelReport }{
		{old, old}, {switched, switched}, {old, switched}, {switched, switched},
	} {
		if got := s.believe(c.report); !got.Same(c.want.shard) {
			t.Errorf("report %d: believed %v", i, got)
		}
	}
	for range maxStale - 1 {
		s.believe(old)
	}
	if got := s.believe(old); !got.Same(old.shard) {
		t.Error("sentinels that were set up anew are never believed")
	}
}
