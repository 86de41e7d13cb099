package proxy

import (
	"testing"
	"time"
)

// What waits for a failover waits for backend.hold; if none comes, those who come later
// are told at once.
func TestHoldIsBounded(t *testing.T) {
	r := newFailoverRig(t, Options{Hold: 3 * time.Second})
	r.dies(0)
	r.feed(cmd("GET", onA))
	r.pass(2900 * time.Millisecond)
	if got := r.got(); got != "" {
		t.Errorf("too early: %q", got)
	}
	r.pass(150 * time.Millisecond)
	const refused = "-CLUSTERDOWN keyway: node 10.0.0.1:1 cannot be reached (no answer within 1s); " +
		"the command was not executed\r\n"
	if got := r.got(); got != refused {
		t.Errorf("%q", got)
	}
	atOnce := 0
	for range 100 {
		s := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Received(s, []byte(cmd("GET", onA)))
		r.endTurn()
		if string(s.Output()) == refused {
			atOnce++
		}
	}
	if atOnce < 100-16 {
		t.Errorf("%d of 100 are told at once", atOnce)
	}
	if atOnce == 100 {
		t.Error("nobody waits to see the end")
	}
}
