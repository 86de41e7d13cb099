package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// failoverTable is a cluster's whose node a is followed by c: as long as a lives, when
// it has failed, when c has taken its place, and when a follows c. b has no replica.
func failoverTable(t testing.TB, state string) *router.Table {
	t.Helper()
	nodes := []slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}, {ID: "b", Addr: "10.0.0.2:1", Master: true},
		{ID: "c", Addr: "10.0.0.3:1", Of: "10.0.0.1:1", Replica: true}}
	lower, upper := []slots.Range{{First: 0, Last: 8191}}, []slots.Range{{First: 8192, Last: 16383}}
	owned := [][]slots.Range{lower, upper, nil}
	switch state {
	case "elected": // and known to be no replica any more, but not yet to own anything
		nodes[2].Of, nodes[2].Replica = "", false
	case "elected and failed":
		nodes[0].Master, nodes[2].Of, nodes[2].Replica = false, "", false
		owned[0] = nil
	case "failed":
		nodes[0].Master, nodes[2].Of = false, ""
		owned[0] = nil
	case "swapped":
		nodes[0].Master, nodes[0].Replica, nodes[0].Of = false, true, "10.0.0.3:1"
		nodes[2] = slots.Node{ID: "c", Addr: "10.0.0.3:1", Master: true}
		owned = [][]slots.Range{nil, upper, lower}
	case "over":
		nodes = nodes[1:]
		nodes[1] = slots.Node{ID: "c", Addr: "10.0.0.3:1", Master: true}
		owned = [][]slots.Range{upper, lower}
	}
	m, err := slots.NewMap(nodes, owned)
	if err != nil {
		t.Fatal(err)
	}
	return router.NewSlots(m)
}

func newFailoverRig(t *testing.T, o Options) *rig {
	r := newRig(t, o)
	r.w.SetTable(failoverTable(t, ""))
	for _, n := range r.w.nodes[:2] {
		greet(r, n.conns[0])
	}
	r.w.EndTurn()
	return r
}

// answerAll answers each of the commands that a node was sent.
func (r *rig) answerAll(node int, sent string) {
	for frame := range strings.SplitSeq(sent, "*") {
		switch f := strings.Split(frame, "\r\n"); {
		case len(f) < 3:
		case f[2] == "GET":
			r.node(node, "$1\r\nv\r\n")
		case f[2] == "EXEC":
			r.node(node, "*1\r\n+OK\r\n")
		case f[2] == "EVAL" || f[2] == "EXISTS" || f[2] == "APPEND":
			r.node(node, ":1\r\n")
		default:
			r.node(node, "+OK\r\n")
		}
	}
}

// What waits for a failover waits for backend.hold; if none comes, those who come later
// are told at once.
func TestHoldIsBounded(t *testing.T) {
	r := newFailoverRig(t, Options{Hold: 3 * time.Second})
	r.dies(0)
	r.feed(cmd("GET", onA))
	r.pass(2900 * time.Millisecond)
	if got := r.got(); got != "" {
		t.Errorf("too early: %q", got)
	}
	r.pass(150 * time.Millisecond)
	const refused = "-CLUSTERDOWN keyway: node 10.0.0.1:1 cannot be reached (no answer within 1s); the command was not executed\r\n"
	if got := r.got(); got != refused {
		t.Errorf("%q", got)
	}
	atOnce := 0
	for range 100 {
		s := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(s, []byte(cmd("GET", onA)))
		r.w.EndTurn()
		if string(s.Output()) == refused {
			atOnce++
		}
	}
	if atOnce < 100-minRetried {
		t.Errorf("%d of 100 are told at once", atOnce)
	}
	if n := r.w.nodes[0]; n.waiting == 0 || n.waiting > minRetried {
		t.Errorf("%d wait to see the end", n.waiting)
	}
}
