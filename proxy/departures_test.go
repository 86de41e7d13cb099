package proxy

import (
	"testing"
	"time"
)

// TestDrainSparesPreparations: when keyway stops, a client that sends commands may leave with
// the reply to a command that uses data, but not with that to one by which clients look whether
// their connection lives. A silent client may leave after a while.
func TestDrainSparesPreparations(t *testing.T) {
	r := newRig(t, Options{})
	mayLeave := func(want bool, when string) {
		t.Helper()
		if got := MayLeave(r.s); got != want {
			t.Errorf("%s: the client may leave: %v", when, got)
		}
	}
	r.feed(cmd("ECHO", "x"))
	mayLeave(false, "keyway does not stop")
	r.got()
	Drain(r.w, 8*time.Second)
	r.feed(cmd("PING"))
	mayLeave(false, "after a PING")
	r.got()
	r.feed(cmd("GET", onA))
	r.sent(0)
	mayLeave(false, "a command is under way")
	r.node(0, "$1\r\nx\r\n")
	mayLeave(true, "with the reply to GET")
	r.got()
	mayLeave(false, "the reply has been written without the end")
	r.pass(300 * time.Millisecond)
	mayLeave(true, "after a silence")
	r.feed("*2\r\n$3\r\nGET")
	r.pass(300 * time.Millisecond)
	mayLeave(false, "a command has begun")
}
