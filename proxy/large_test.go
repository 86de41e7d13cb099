package proxy

import (
	"strings"
	"testing"
	"time"
)

// TestLargeRequestsGoAlone: a request of a megabyte goes over a connection of its
// own, so others neither wait for it nor end with it; its client's commands keep
// their order.
func TestLargeRequestsGoAlone(t *testing.T) {
	value := strings.Repeat("x", largeFrame)
	const refused = "-ERR Protocol error: invalid bulk length\r\n"
	for name, c := range map[string]struct{ in, alone, reply, got string }{
		"a command": {cmd("SET", onA, value), cmd("SET", onA, value), "+OK\r\n", "+OK\r\n"},
		"refused":   {cmd("SET", onA, value), cmd("SET", onA, value), refused, refused},
		"a transaction": {
			cmd("MULTI") + cmd("SET", onA, value) + cmd("EXEC"), cmd("MULTI") + cmd("SET", onA, value) + cmd("EXEC"),
			"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
		},
		"a part": {cmd("MSET", onA, value, onB, "1"), cmd("MSET", onA, value), "+OK\r\n", "+OK\r\n"},
	} {
		r := newRig(t, Options{})
		r.feed(cmd("GET", onA) + c.in + cmd("GET", onA))
		if got := r.sent(0); got != cmd("GET", onA) {
			t.Fatalf("%s: before the earlier command was answered: %.60q", name, got)
		}
		r.node(0, "$-1\r\n")
		r.w.EndTurn()
		conn := r.exclusive(0)
		if got := take(conn); got != c.alone {
			t.Fatalf("%s: sent %.80q", name, got)
		}
		other := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(other, []byte(cmd("GET", onA)))
		if got := r.sent(0); got != cmd("GET", onA) {
			t.Errorf("%s: another client's, or a later command: %.60q", name, got)
		}
		conn.Received([]byte(c.reply), r.now)
		if r.sent(1) != "" {
			r.node(1, "+OK\r\n")
		}
		r.w.EndTurn()
		if got := r.sent(0); got != cmd("GET", onA) {
			t.Errorf("%s: the later command: %.60q", name, got)
		}
		r.node(0, "$-1\r\n$-1\r\n")
		if got := r.got(); got != "$-1\r\n"+c.got+"$-1\r\n" {
			t.Errorf("%s: the client got %.200q", name, got)
		}
		if idle := len(r.w.nodes[0].idle); (idle == 1) != (c.reply != refused) {
			t.Errorf("%s: %d connections are kept", name, idle)
		}
	}
}

// TestLargeRequestOfAGoneClient is carried out to its end.
func TestLargeRequestOfAGoneClient(t *testing.T) {
	r := newRig(t, Options{})
	set := cmd("SET", onA, strings.Repeat("x", largeFrame))
	r.feed(set)
	conn := r.exclusive(0)
	sent := string(conn.NextWrite()[:1000])
	conn.Wrote(1000)
	r.w.Gone(r.s)
	for range 10 {
		r.pass(10 * time.Millisecond)
	}
	if sent += take(conn); sent != set {
		t.Errorf("the node was sent %d bytes of %d", len(sent), len(set))
	}
	conn.Received([]byte("+OK\r\n"), r.now)
	if n := r.w.nodes[0]; n.exclusive != 0 || len(n.idle) != 1 {
		t.Errorf("%d connections in use, %d idle", n.exclusive, len(n.idle))
	}
}
