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

// Deep pipelines of many clients over several nodes take nothing from the heap.
func TestDeepPipelinesAllocateNothing(t *testing.T) {
	r := newRig(t, Options{})
	const clients, depth = 50, 100
	in := []byte(strings.Repeat(cmd("GET", onA)+cmd("GET", onB), depth/2))
	for r.w.Clients() < clients {
		r.w.Open(nil, "peer:2", "keyway:1")
	}
	replies := []byte(strings.Repeat(value("v", 64), clients*depth/2))
	turn := func() {
		for _, s := range r.w.Sessions[1:] {
			r.w.Received(s, in)
		}
		r.turn(in, func() {
			r.shared(1).Received(replies, r.now)
			r.shared(0).Received(replies, r.now)
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
	r.turn(in, func() { r.shared(1).Received(reply, r.now) })
	turns := func() {
		for range 100 {
			r.turn(in, func() { // one reply leaves, another is parked
				r.shared(1).Received(reply, r.now)
				r.shared(0).Received(reply, r.now)
			})
			if r.s.Parked != len(reply) {
				t.Fatalf("%d bytes are parked", r.s.Parked)
			}
		}
	}
	turns()
	if n := testing.AllocsPerRun(100, turns); n > 0 {
		t.Errorf("%v allocations for 200 commands", n)
	}
}
