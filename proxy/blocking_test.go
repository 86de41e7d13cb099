package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// blockedRig has a client that waits for onA, over a connection of its own.
func blockedRig(t *testing.T) (*rig, *pool.Conn) {
	r := newClusterRig(t)
	r.feed(cmd("BLPOP", onA, "3"))
	conn := r.exclusive(0)
	if got := take(conn); got != cmd("CLIENT", "ID")+cmd("BLPOP", onA, "3") {
		t.Fatalf("sent %q", got)
	}
	conn.Received([]byte(":77\r\n"), r.now)
	return r, conn
}

// exclusive brings up the connection that was taken last for one client.
func (r *rig) exclusive(node int) *pool.Conn {
	r.t.Helper()
	r.w.EndTurn()
	waits := r.w.nodes[node].waits
	if len(waits) == 0 {
		r.t.Fatal("no connection was taken")
	}
	conn := waits[len(waits)-1].conn
	if conn.State() != pool.Ready { // it may be one that was idle
		greet(r, conn)
	}
	return conn
}

// answerAlone answers what was last sent over a connection of its own.
func (r *rig) answerAlone(node int, reply string) {
	conn := r.exclusive(node)
	take(conn)
	conn.Received([]byte(reply), r.now)
}

func TestBlocking(t *testing.T) {
	r, conn := blockedRig(t)
	r.feed(cmd("GET", onA))
	if got := r.sent(0); got != "" {
		t.Errorf("what came behind has not waited: %q", got)
	}
	other := r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Feed(other, []byte(cmd("GET", onA)))
	if got := r.sent(0); got != cmd("GET", onA) {
		t.Errorf("another client has waited: %q", got)
	}
	r.node(0, "$-1\r\n")
	conn.Received([]byte("*2\r\n$1\r\nb\r\n$1\r\nv\r\n"), r.now)
	if got := r.got(); got != "*2\r\n$1\r\nb\r\n$1\r\nv\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.sent(0); got != cmd("GET", onA) {
		t.Errorf("sent %q", got)
	}
	if n := r.w.nodes[0]; n.exclusive != 0 || len(n.idle) != 1 {
		t.Errorf("%d connections in use, %d idle", n.exclusive, len(n.idle))
	}
}

// Where the slot has moved the client waits on, with what is left of its time.
func TestBlockedElsewhere(t *testing.T) {
	for _, kind := range []string{"MOVED", "ASK"} {
		r, conn := blockedRig(t)
		r.pass(time.Second)
		conn.Received([]byte("-"+kind+" 3300 10.0.0.2:1\r\n"), r.now)
		want := cmd("CLIENT", "ID") + cmd("BLPOP", onA, "2.000")
		if kind == "ASK" {
			want = cmd("CLIENT", "ID") + cmd("ASKING") + cmd("BLPOP", onA, "2.000")
		}
		next := r.exclusive(1)
		if got := take(next); got != want {
			t.Errorf("%s: sent %q", kind, got)
		}
		if got := r.got(); got != "" {
			t.Errorf("%s: the client got %q", kind, got)
		}
		next.Received([]byte(":5\r\n"+strings.Repeat("+OK\r\n", strings.Count(want, "ASKING"))+"*-1\r\n"), r.now)
		if got := r.got(); got != "*-1\r\n" {
			t.Errorf("%s: %q", kind, got)
		}
	}
	r, conn := blockedRig(t)
	conn.Received([]byte("-MOVED 3300 10.6.6.6:1\r\n"), r.now)
	for range 20 { // the topology may come to know it
		r.pass(100 * time.Millisecond)
		if len(r.w.nodes[0].waits) == 0 {
			continue
		}
		conn = r.exclusive(0)
		take(conn)
		conn.Received([]byte(":8\r\n-MOVED 3300 10.6.6.6:1\r\n"), r.now)
	}
	if got := r.got(); !strings.HasPrefix(got, "-CLUSTERDOWN keyway: ") {
		t.Errorf("a node that nobody knows: %q", got)
	}
	r, conn = blockedRig(t)
	conn.Received([]byte("-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"), r.now)
	if got := r.got(); !strings.HasPrefix(got, "-UNBLOCKED force") {
		t.Errorf("%q", got)
	}
}

// When the client leaves, the node is asked to end the wait; what it popped in
// that moment is told of, and the connection goes to nobody else.
func TestBlockedClientGone(t *testing.T) {
	r, conn := blockedRig(t)
	r.w.Gone(r.s)
	r.w.EndTurn()
	if got := r.sent(0); got != cmd("CLIENT", "UNBLOCK", "77", "ERROR") {
		t.Errorf("sent %q", got)
	}
	conn.Received([]byte("*2\r\n$1\r\nb\r\n$1\r\nv\r\n"), r.now)
	if n := len(r.w.EndTurn().Notes); r.w.stats.Undelivered != 1 || n != 1 {
		t.Errorf("%d undelivered, %d notes", r.w.stats.Undelivered, n)
	}
	if n := r.w.nodes[0]; n.exclusive != 0 || len(n.idle) != 0 {
		t.Errorf("%d connections in use, %d idle", n.exclusive, len(n.idle))
	}
	r, conn = blockedRig(t)
	r.w.Gone(r.s)
	r.pass(200 * time.Millisecond)
	if conn.State() != pool.Closed {
		t.Errorf("a node that does not answer keeps the connection: %s", conn.State())
	}
}

// A command that the node had not begun when it was unblocked, because of a pause,
// may be executed for nobody when the pause ends: what it popped then is told of.
func TestUnblockedInAPause(t *testing.T) {
	for _, tc := range []struct {
		withError bool
		client    string
		then      string
		lost      uint64
	}{
		{false, "*-1\r\n", "+PONG\r\n", 0},
		{true, unblocked, "+PONG\r\n", 0},
		{false, "*-1\r\n", "*-1\r\n", 0},
		{false, "*-1\r\n", "*2\r\n$1\r\nb\r\n$1\r\nv\r\n", 1},
	} {
		r, conn := blockedRig(t)
		if !r.w.unblock(r.s.id, tc.withError) {
			t.Fatal("no client was blocked")
		}
		if got := r.sent(0); got != cmd("CLIENT", "UNBLOCK", "77", "ERROR") {
			t.Errorf("sent %q", got)
		}
		conn.Received([]byte(unblocked), r.now)
		if got := r.got(); got != tc.client {
			t.Errorf("the client got %q", got)
		}
		if got := take(conn); got != cmd("PING") {
			t.Errorf("sent %q", got)
		}
		conn.Received([]byte(tc.then), r.now)
		r.w.EndTurn()
		r.w.Tick()
		if r.w.stats.Undelivered != tc.lost || conn.State() != pool.Closed || r.w.nodes[0].exclusive != 0 {
			t.Errorf("%q: %d undelivered; the connection is %s, %d in use", tc.then, r.w.stats.Undelivered, conn.State(), r.w.nodes[0].exclusive)
		}
	}
}

func TestBlockedOnANodeThatDies(t *testing.T) {
	r, conn := blockedRig(t)
	conn.Fail(r.now, "reset")
	if got := r.got(); !strings.Contains(got, "may have been executed") {
		t.Errorf("%q", got)
	}
	if n := r.w.nodes[0]; n.exclusive != 0 {
		t.Errorf("%d connections in use", n.exclusive)
	}
}
