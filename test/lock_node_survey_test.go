package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestServeSurveysLockNodes: at start, and when a reload brings others, keyway logs which lock
// nodes cannot hold locks, why, and what to do. Other keys are served all the same.
func TestServeSurveysLockNodes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := threeLockNodes(t)
	guarded, strange, gone := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	guarded.Do("CONFIG", "SET", "requirepass", "secret")
	strange.Do("SET", "user:1", "x")
	gone.Kill()
	replica := redistest.Replica(t, n.five[0])
	byName := func(node *redistest.Node) string { return strings.Replace(node.Addr, "127.0.0.1", "localhost", 1) }
	addrs := []string{
		n.five[0].Addr, byName(n.five[0]), byName(n.other), guarded.Addr, gone.Addr, replica.Addr, n.five[1].Addr,
	}
	r := startReloadable(t, redistest.NodesYAML([]*redistest.Node{n.other}), "layout: ring\nlocks: {quorum: "+
		"[{match: \"lock:*\", password: wrong, nodes: ["+strings.Join(addrs, ", ")+"]}]}\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "other", "1")
	logs := func(parts ...string) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, fmt.Sprintf("a line of the log has %q", parts), func() bool {
			return lines(r.stderr.String(), parts...) == 1
		})
	}
	const bad = `level=ERROR msg="a node cannot hold locks" rule=lock:* addr=`
	logs(bad+addrs[3], `reason="refuses keyway: WRONGPASS`, `locks.quorum[0].password`)
	logs(bad+addrs[4], `reason="cannot be reached: connection refused" help="start it, or correct its address"`)
	logs(`level=WARN msg="locks need attention" rule=lock:* reason="0 of 7 nodes of rule lock:* vote, and 4 must: no `)
	logs(`level=WARN msg="node unreachable" node=`+addrs[3], `remedy="correct locks.quorum[0].username and `)
	if log := r.stderr.String(); strings.Contains(log, "wrong\"") || strings.Contains(log, "password=") {
		t.Errorf("the log has the password: %s", log)
	}

	r.reload(strings.Replace(r.text, "password: wrong, ", "", 1))
	logs(bad+addrs[1], `reason="is the same server as `+addrs[0]+`" help="list each server once: two votes of one `)
	logs(bad+addrs[2], `reason="is also node a of the layout" help="use servers that hold only locks"`)
	logs(bad+addrs[5], `reason="is a replica, and cannot be written to" help="use a master without replicas"`)
	logs(`level=WARN msg="a lock node needs attention" rule=lock:* addr=`+addrs[0], `has 1 replicas; if one takes its `)
	c.Expect("1", "GET", "other")

	nodes := []string{n.five[1].Addr, n.five[2].Addr, strange.Addr}
	out, ok := check(t, redistest.Ring(n.other.Addr)+"locks: {quorum: [{match: \"lock:*\", nodes: ["+
		strings.Join(nodes, ", ")+"]}]}\n", "--connect")
	if !ok || !strings.Contains(out, strange.Addr+` has keys that are no locks, such as "user:1"`) {
		t.Errorf("a lock node with other keys: %s", out)
	}
}
