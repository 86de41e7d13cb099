package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// unseenTable is a cluster's: a and b, of which b is followed by c if seen.
func unseenTable(t *testing.T, seen bool) *router.Table {
	t.Helper()
	nodes := []slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}, {ID: "b", Addr: "10.0.0.2:1", Master: true}}
	owned := [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}}
	if seen {
		nodes = append(nodes, slots.Node{ID: "c", Addr: "10.0.0.3:1", Replica: true, Of: "10.0.0.2:1"})
		owned = append(owned, nil)
	}
	m, err := slots.NewMap(nodes, owned)
	if err != nil {
		t.Fatal(err)
	}
	return router.NewSlots(m)
}

// unseenRig has node b of a cluster die, of which no replica is known, and sends commands
// for it.
func unseenRig(t *testing.T, o Options) (r *rig, sent string) {
	r = newRig(t, o)
	r.w.SetTable(unseenTable(t, false))
	for _, n := range r.w.Nodes {
		greet(r, n.Shared.Conns[0])
	}
	r.endTurn()
	r.dies(1)
	sent = cmd("GET", onB) + cmd("INCR", onB)
	r.feed(sent)
	return r, sent
}

// asksForLook returns the time of the worker's request for a look.
func (r *rig) asksForLook() int64 {
	r.t.Helper()
	asked := r.endTurn().Look
	if asked == 0 {
		r.t.Fatal("the worker does not ask for a look at the topology")
	}
	r.w.Taken()
	return asked
}

// A master dies of which no replica is known. Its commands wait for a look at the topology
// that began after that. It shows a replica, so they wait for the failover, in their order.
func TestReplicaSeenAfterItsMasterDied(t *testing.T) {
	r, sent := unseenRig(t, Options{})
	asked := r.asksForLook()
	r.w.Looked(asked - 1) // this look began too early
	r.pass(200 * time.Millisecond)
	if got := r.got(); got != "" {
		t.Fatalf("before the look: %q", got)
	}
	r.w.SetTable(unseenTable(t, true))
	r.w.Looked(asked)
	r.pass(500 * time.Millisecond)
	if got := r.got(); got != "" {
		t.Fatalf("before the failover: %q", got)
	}
	m := unseenTable(t, true).Private()
	for slot := int32(8192); slot < 16384; slot++ {
		m.Move(slot, 2)
	}
	r.w.SetTable(m)
	greet(r, r.shared(2))
	got := ""
	for range 10 {
		r.pass(100 * time.Millisecond)
		out := r.sent(2)
		got += out
		r.answerAll(2, out)
	}
	if got != sent {
		t.Errorf("the new master was sent %q", got)
	}
	if got := r.got(); got != "$1\r\nv\r\n+OK\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// If that look shows no replica either, or nobody answers, the commands fail, and so do
// later ones at once: until the node was back and is lost again.
func TestLookThatShowsNoReplica(t *testing.T) {
	r, _ := unseenRig(t, Options{})
	const refused = "-CLUSTERDOWN keyway: node 10.0.0.2:1 cannot be reached "
	r.w.Looked(r.asksForLook())
	r.pass(110 * time.Millisecond)
	if got := r.got(); strings.Count(got, refused) != 2 {
		t.Errorf("after the look: %q", got)
	}
	r.feed(cmd("GET", onB))
	if got := r.got(); strings.Count(got, refused) != 1 || r.endTurn().Look != 0 {
		t.Errorf("later: %q, another look: %v", got, r.endTurn().Look != 0)
	}
	greet(r, r.shared(1))
	r.dies(1)
	r.feed(cmd("GET", onB))
	r.asksForLook()
	if got := r.got(); got != "" {
		t.Errorf("after the second loss: %q", got)
	}
}

// Where a look can change nothing, nobody waits for one: nodes that no topology describes,
// and without backend.hold.
func TestNoLookWhereNoFailoverCanCome(t *testing.T) {
	alone := newRig(t, Options{})
	alone.dies(1)
	alone.feed(cmd("GET", onB))
	impatient, _ := unseenRig(t, Options{Hold: -1})
	for name, r := range map[string]*rig{"static slots": alone, "no hold": impatient} {
		if got := r.got(); !strings.Contains(got, "cannot be reached") || r.endTurn().Look != 0 {
			t.Errorf("%s: %q, a look: %v", name, got, r.endTurn().Look != 0)
		}
	}
}
