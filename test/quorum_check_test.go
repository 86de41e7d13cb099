package test

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestCheckConnectAsksLockNodes: check --connect says which lock nodes cannot hold locks, which
// do not vote yet, and what to do. It changes nothing on them.
func TestCheckConnectAsksLockNodes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := threeLockNodes(t)
	yaml := n.yaml("max_lease: 60s")
	out, ok := check(t, yaml, "--connect")
	if !ok || lines(out, "lock:*", "master", "standalone", "noeviction", "yes") != 3 ||
		strings.Contains(out, "problem") || strings.Contains(out, "warning: ") || strings.Contains(out, "rule lock") {
		t.Errorf("three nodes that vote: %s", out)
	}

	n.five[0].Do("SET", "keyway:wait", "1", "PX", "36000000")
	redistest.Replica(t, n.five[1])
	out, ok = check(t, yaml, "--connect")
	for _, want := range []string{
		"warning: lock node " + n.five[1].Addr + " has 1 replicas; if one takes its place, locks are lost: remove them",
		"warning: only 2 of 3 nodes of rule lock:* vote: no other may fail",
		"note: a new or restarted node of rule lock:* votes 1m0s after a keyway has reached it; if no client can hold",
	} {
		if !ok || !strings.Contains(out, want) || lines(out, n.five[0].Addr, "lock:*", "  in ") != 1 {
			t.Errorf("lacks %q: %s", want, out)
		}
	}

	fresh, evicts, gone := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	evicts.Do("CONFIG", "SET", "maxmemory", "100mb")
	evicts.Do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	gone.Kill()
	cluster := redistest.NewCluster(t, 3, 0).Nodes[0]
	replica := redistest.Replica(t, fresh)
	byName := func(node *redistest.Node) string { return strings.Replace(node.Addr, "127.0.0.1", "localhost", 1) }
	addrs := []string{fresh.Addr, byName(fresh), byName(n.other), evicts.Addr, gone.Addr, cluster.Addr, replica.Addr}
	out, ok = check(t, redistest.Ring(n.other.Addr)+"locks: {quorum: [{match: \"lock:*\", nodes: ["+
		strings.Join(addrs, ", ")+"]}]}\n", "--connect")
	for _, want := range []string{
		"problem: lock node " + addrs[1] + " is the same server as " + addrs[0] + "; list each server once: two votes",
		"problem: lock node " + addrs[2] + " is also node a of the layout; use servers that hold only locks",
		"problem: lock node " + addrs[3] + " evicts keys when its memory is full (volatile-lru), so others get locks " +
			"that clients hold; set its maxmemory-policy to noeviction",
		"problem: lock node " + addrs[4] + " cannot be reached: connection refused; start it, or correct its address",
		"problem: lock node " + addrs[5] + " runs in cluster mode; use a standalone Redis server",
		"problem: lock node " + addrs[6] + " is a replica, and cannot be written to; use a master without replicas",
		"warning: 0 of 7 nodes of rule lock:* vote, and 4 must: no lock can be acquired",
		"6 of 7 lock nodes cannot hold locks",
	} {
		if ok || !strings.Contains(out, want) {
			t.Errorf("lacks %q: %s", want, out)
		}
	}
	if lines(out, fresh.Addr, "not yet") != 1 || len(fresh.Keys()) > 0 {
		t.Errorf("a new node has %q: %s", fresh.Keys(), out)
	}

	n.five[2].Do("CONFIG", "SET", "requirepass", "secret")
	out, ok = check(t, n.yaml("password: wrong"), "--connect")
	if ok || lines(out, n.five[2].Addr, "refuses keyway: WRONGPASS", "correct locks.quorum[0].") != 1 {
		t.Errorf("a wrong password: %s", out)
	}
}
