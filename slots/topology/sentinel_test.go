package topology

import (
	"testing"

	"github.com/keyway-proxy/keyway/slots"
)

// TestBelieveSentinels: what is behind the last failover that was heard of is not
// believed, unless nothing else is to be heard for long.
func TestBelieveSentinels(t *testing.T) {
	s := NewSentinel(SentinelOptions{Master: "m", Addrs: []string{"127.0.0.1:1"}})
	defer s.Close()
	old := word{slots.Shard{Master: "a:1", Replicas: []string{"b:1"}}, 3}
	switched := word{slots.Shard{Master: "b:1", Replicas: []string{"a:1"}}, 4}
	for i, c := range []struct{ said, believed word }{{old, old}, {switched, switched}, {old, switched}, {switched, switched}} {
		if got := s.believe(c.said); !got.Same(c.believed.shard) {
			t.Errorf("word %d: believed %v", i, got)
		}
	}
	for range patience - 1 {
		s.believe(old)
	}
	if got := s.believe(old); !got.Same(old.shard) {
		t.Error("sentinels that were set up anew are never believed")
	}
}
