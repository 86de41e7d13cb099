package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// holding are ways to make keyway hold some n bytes for a client.
var holding = map[string]func(r *rig, s *Session, n int){
	"unread replies": func(r *rig, s *Session, n int) {
		r.w.Received(s, []byte(cmd("GET", onA)))
		r.endTurn()
		r.sent(0)
		r.node(0, value("v", n))
	},
	"replies that wait for their turn": func(r *rig, s *Session, n int) {
		r.w.Received(s, []byte(cmd("GET", onA)+cmd("GET", onB)))
		r.endTurn()
		r.sent(0)
		r.sent(1)
		r.node(1, value("v", n))
	},
	"one of the replies to be merged": func(r *rig, s *Session, n int) {
		r.w.Received(s, []byte(cmd("MGET", onA, onB)))
		r.endTurn()
		r.sent(0)
		r.sent(1)
		r.node(1, "*1\r\n"+value("v", n))
	},
	"a command that is not complete": func(r *rig, s *Session, n int) {
		r.w.Received(s, []byte(cmd("SET", onA, strings.Repeat("x", n))[:n]))
	},
	"a transaction": func(r *rig, s *Session, n int) {
		r.w.Received(s, []byte(cmd("MULTI")))
		for range n >> 10 {
			r.w.Received(s, []byte(cmd("SET", onA, strings.Repeat("x", 1<<10))))
		}
	},
}

// What clients make a worker hold is counted wherever it lies, and the client that
// it holds most for is the one that is closed.
func TestLargestClientIsClosed(t *testing.T) {
	for name, f := range holding {
		r := newRig(t, Options{})
		large, small := r.s, r.w.Open(nil, "peer:2", "keyway:1")
		f(r, small, 100<<10)
		before := r.w.Memory()
		f(r, large, 200<<10)
		if grown := r.w.Grown(); grown < 190<<10 {
			t.Errorf("%s: grown by %d", name, grown)
		}
		h := r.w.Memory()
		if h.Largest < 190<<10 || h.Clients-before.Clients < 190<<10 {
			t.Errorf("%s: before %+v, then %+v", name, before, h)
		}
		r.w.CloseLargest()
		if !large.Dead() || small.Dead() {
			t.Errorf("%s: closed: the large one %v, the small one %v", name, large.Dead(), small.Dead())
		}
		if after := r.w.Memory(); after.Clients >= h.Clients-190<<10 {
			t.Errorf("%s: after the close %+v", name, after)
		}
	}
	r := newRig(t, Options{})
	r.feed(cmd("GET", onA)) // on the way to a node
	if h := r.w.Memory(); h.Queued == 0 {
		t.Errorf("a request that is not answered does not count: %+v", h)
	}
	r = newRig(t, Options{})
	r.feed(cmd("SET", onA, strings.Repeat("x", 2<<20))) // over a connection of its own
	if h := r.w.Memory(); h.Queued < 2<<20 {
		t.Errorf("a large request that is not answered does not count: %+v", h)
	}
}

// TestRepliesOfAGoneClientAreFreed: what has arrived for a client is freed when it leaves,
// even if a node has not answered its part of a command yet.
func TestRepliesOfAGoneClientAreFreed(t *testing.T) {
	r := newRig(t, Options{})
	value := fmt.Sprintf("*1\r\n$%d\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
	r.feed(cmd("MGET", onA, onB) + cmd("GET", onA))
	r.sent(0)
	r.sent(1)
	r.node(0, value+"$3\r\nfoo\r\n")
	r.endTurn()
	r.w.Taken()
	r.w.Gone(r.s)
	if freed := r.endTurn().Garbage; freed < 1<<20 {
		t.Errorf("%d bytes are freed", freed)
	}
}
