package proxy

import "testing"

// After a failover WAIT asks the new master, or all if that is not known, instead of the
// node that the client wrote to.
func TestWaitAfterAFailover(t *testing.T) {
	for state, masters := range map[string][]int{"over": {0, 1}, "swapped": {2}} {
		r := newFailoverRig(t, Options{})
		r.feed(cmd("SET", onA, "v"))
		r.sent(0)
		r.node(0, "+OK\r\n")
		r.got()
		r.w.SetTable(failoverTable(t, state))
		greet(r, r.w.nodes[masters[len(masters)-1]].conns[0])
		r.feed(cmd("WAIT", "1", "100"))
		for _, i := range masters {
			if len(r.w.nodes[i].waits) == 0 {
				t.Fatalf("%s: master %d was not asked", state, i)
			}
			c := r.exclusive(i)
			if got := take(c); got != cmd("CLIENT", "ID")+cmd(restoreNothing...)+cmd("WAIT", "1", "100") {
				t.Fatalf("%s: sent %q", state, got)
			}
			c.Received([]byte(":7\r\n+OK\r\n:1\r\n"), r.now)
		}
		if got := r.got(); got != ":1\r\n" {
			t.Errorf("%s: %q", state, got)
		}
	}
}

// A master that refuses WAIT, as a replica does, is reason to look at the topology.
func TestWaitRefusedByAReplica(t *testing.T) {
	r := newFailoverRig(t, Options{})
	r.feed(cmd("SET", onA, "v"))
	r.sent(0)
	r.node(0, "+OK\r\n")
	r.feed(cmd("WAIT", "1", "100"))
	c := r.exclusive(0)
	take(c)
	r.w.Taken()
	c.Received([]byte(":7\r\n-READONLY r\r\n-ERR WAIT cannot be used with replica instances.\r\n"), r.now)
	if !r.w.EndTurn().Refresh {
		t.Error("the topology is not asked for")
	}
}
