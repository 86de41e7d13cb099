package proxy

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestIdleClients: those who are there to be told something are not closed for their
// silence (timeout.c, clientsCronHandleTimeout).
func TestIdleClients(t *testing.T) {
	r := newRig(t, Options{IdleTimeout: time.Minute})
	closed := func(commands string) bool {
		s := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(s, []byte(commands))
		for _, n := range r.w.nodes {
			for _, c := range n.conns {
				if c.State() != pool.Ready {
					answerAll(r, c)
				}
				take(c)
				for c.InFlight() > 0 {
					c.Received([]byte("+PONG\r\n"), r.now)
				}
			}
		}
		r.w.EndTurn()
		outputOf(s)
		r.now += int64(2 * time.Minute)
		r.w.Turn(r.now, time.Unix(1000, 0))
		r.w.Tick()
		return s.has(dead)
	}
	for commands, want := range map[string]bool{
		"":                     true,
		"PING\r\n":             true,
		"MONITOR\r\n":          false,
		"SUBSCRIBE x\r\n":      false,
		"PSUBSCRIBE x\r\n":     false,
		"MONITOR\r\nRESET\r\n": true,
	} {
		if got := closed(commands); got != want {
			t.Errorf("%q: closed %t", commands, got)
		}
	}
	s := r.w.Open(nil, "peer:2", "keyway:1")
	r.now += int64(50 * time.Second)
	r.w.Turn(r.now, time.Unix(1000, 0))
	r.w.tell(s, []byte("+something\r\n"))
	outputOf(s)
	r.now += int64(50 * time.Second)
	r.w.Turn(r.now, time.Unix(1000, 0))
	if r.w.Tick(); s.has(dead) {
		t.Error("a client that has just taken something is closed")
	}
}
