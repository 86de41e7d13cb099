package proxy

import (
	"testing"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// answerAll greets a connection whatever its greeting asks, and returns the
// commands that it was sent until the PING at the end.
func answerAll(r *rig, c link) (said []string) {
	c.Connected(r.now)
	for c.State() == pool.Greeting {
		out := string(c.NextWrite())
		c.Wrote(len(out), r.now)
		said = append(said, out)
		c.Received([]byte(greetingAnswer(out)), r.now)
	}
	return said
}

// TestTrackingAtANewMaster: a command to a master that is new waits until what the
// node invalidates can be heard; it does not fail.
func TestTrackingAtANewMaster(t *testing.T) {
	r := newRig(t, Options{})
	redirected(t, r)
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "c", Addr: "10.0.0.3:1", Master: true}}
	table, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(table)
	r.feed(cmd("GET", onB))
	own := r.last(1, isOwn)
	own.Connected(r.now)
	if said := own.NextWrite(); len(said) > 0 || own.State() != pool.Greeting {
		t.Errorf("said %q before the node's pushes can be heard; the connection is %s", said, own.State())
	}
	answerAll(r, r.last(1, isInvalidationFeed))
	for own.State() == pool.Greeting {
		said := take(own)
		own.Received([]byte(greetingAnswer(said)), r.now)
	}
	if got := take(own); got != cmd("GET", onB) {
		t.Errorf("sent %q", got)
	}
	own.Received([]byte("$1\r\n1\r\n"), r.now)
	if got := r.got(); got != "$1\r\n1\r\n" {
		t.Errorf("%q", got)
	}
}
