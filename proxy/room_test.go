package proxy

import (
	"strings"
	"testing"
	"time"
)

// TestNoFilesForMoreConnections: when there is no room for connections that can be done
// without, who needs one of its own is told so, a large request shares, and a script
// keeps its connection.
func TestNoFilesForMoreConnections(t *testing.T) {
	room := true
	r := newRig(t, Options{HasRoom: func() bool { return room }})
	room = false
	for _, in := range []string{"BLPOP " + onA + " 0\r\n", "WATCH " + onA + "\r\n", "WAIT 1 0\r\n", "CLIENT TRACKING ON\r\n"} {
		r.feed(in)
		if got := r.got(); got != "-"+errTooManyHeld+"\r\n" {
			t.Errorf("%q: %q", in, got)
		}
	}
	set := cmd("SET", onA, strings.Repeat("x", largeFrame))
	r.feed(set)
	if got := r.sent(0); got != set {
		t.Errorf("%d bytes of a large request are sent over the connection that clients share", len(got))
	}
	r.node(0, "+OK\r\n")
	r.w.EndTurn()
	old := r.w.nodes[0].conns[0]
	r.feed("EVAL x 1 " + onA + "\r\n")
	r.sent(0)
	if r.pass(500 * time.Millisecond); r.w.nodes[0].conns[0] != old {
		t.Error("a connection was retired")
	}
}
