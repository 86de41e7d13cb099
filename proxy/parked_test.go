package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// value is a bulk reply of n bytes that tells of what it is the value.
func value(of string, n int) string {
	v := of + strings.Repeat(".", n-len(of))
	return fmt.Sprintf("$%d\r\n%s\r\n", n, v)
}

// Parked replies of several clients share memory; each is delivered as it was
// received, in whatever order they leave.
func TestParkedRepliesKeepTheirBytes(t *testing.T) {
	r := newRig(t, Options{})
	first, second := r.s, r.w.Open(nil, "peer:2", "keyway:1")
	small, large := value("small", 20), value("large", 2<<10)
	for _, s := range []*Session{first, second} {
		r.w.Feed(s, []byte(cmd("GET", onA)+cmd("GET", onB)+cmd("GET", onB)+cmd("GET", onA)+cmd("GET", onB)))
	}
	r.w.EndTurn()
	r.sent(0)
	r.sent(1)
	for _, s := range []string{"first", "second"} {
		r.node(1, value(s, 20)+large+small) // all parked: a's replies come before them
	}
	r.node(0, ":1\r\n:2\r\n:3\r\n") // the second client still waits for its fourth reply
	const later = 8
	for range later {
		r.s = second
		r.feed(cmd("GET", onB))
		r.sent(1)
		r.node(1, value("later", 20))
	}
	r.s = first
	if got, want := r.got(), ":1\r\n"+value("first", 20)+large+":2\r\n"+small; got != want {
		t.Errorf("the first client got %.200q, want %.200q", got, want)
	}
	r.s = second
	if got, want := r.got(), ":3\r\n"+value("second", 20)+large; got != want {
		t.Errorf("the second client got %.200q, want %.200q", got, want)
	}
	r.node(0, ":4\r\n")
	if got, want := r.got(), ":4\r\n"+small+strings.Repeat(value("later", 20), later); got != want {
		t.Errorf("then it got %.200q, want %.200q", got, want)
	}
	if parked := first.parked + second.parked; parked != 0 {
		t.Errorf("%d bytes are counted as parked", parked)
	}
}

// Deep pipelines of many clients over several nodes take nothing from the heap.
func TestDeepPipelinesAllocateNothing(t *testing.T) {
	r := newRig(t, Options{})
	const clients, depth = 50, 100
	in := []byte(strings.Repeat(cmd("GET", onA)+cmd("GET", onB), depth/2))
	for len(r.w.sessions) < clients {
		r.w.Open(nil, "peer:2", "keyway:1")
	}
	replies := []byte(strings.Repeat(value("v", 64), clients*depth/2))
	turn := func() {
		for _, s := range r.w.sessions[1:] {
			r.w.Feed(s, in)
		}
		r.turn(in, func() {
			r.w.nodes[1].conns[0].Received(replies, r.now)
			r.w.nodes[0].conns[0].Received(replies, r.now)
		})
	}
	for range 10 {
		turn()
	}
	if n := testing.AllocsPerRun(20, turn); n > 0 {
		t.Errorf("%v allocations for %d commands", n, clients*depth)
	}
}

// A client that always has a reply parked does not keep the memory of those that
// have left.
func TestParkedAlways(t *testing.T) {
	r := newRig(t, Options{})
	in := []byte(cmd("GET", onA) + cmd("GET", onB))
	reply := []byte(value("v", 64))
	r.turn(in, func() { r.w.nodes[1].conns[0].Received(reply, r.now) })
	turns := func() {
		for range 100 {
			r.turn(in, func() { // one reply leaves, another is parked
				r.w.nodes[1].conns[0].Received(reply, r.now)
				r.w.nodes[0].conns[0].Received(reply, r.now)
			})
			if r.s.parked != len(reply) {
				t.Fatalf("%d bytes are parked", r.s.parked)
			}
		}
	}
	turns()
	if n := testing.AllocsPerRun(100, turns); n > 0 {
		t.Errorf("%v allocations for 200 commands", n)
	}
}
