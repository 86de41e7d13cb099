package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// lost ends node a's connection, which had been sent some bytes, and brings up the next
// one. It returns what that one is sent.
func (r *rig) lost(node int) string {
	r.t.Helper()
	c := r.w.nodes[node].conns[0]
	c.Fail(r.now, "reset")
	for c.State() != pool.Dialing {
		r.pass(10 * time.Millisecond)
	}
	greet(r, c)
	return r.sent(node)
}

// unknownOutcome is how the answer to a write begins that was on the way.
const unknownOutcome = "-ERR keyway: the connection to node a (10.0.0.1:1) ended after the command was sent (reset); it may have been executed\r\n"

// When a connection ends, what was not written and what only reads goes over the next
// one, in its order; only writes that were on the way are told that nobody knows.
func TestLostConnection(t *testing.T) {
	r := newRig(t, Options{})
	get1, get2, get3 := cmd("GET", "{b}1"), cmd("GET", "{b}2"), cmd("LRANGE", "{b}3", "0", "-1")
	r.feed(get1 + cmd("INCR", "{b}n") + get2)
	r.sent(0)
	r.feed(cmd("INCR", "{b}2") + get3 + cmd("SET", onB, "x"))
	if got := r.lost(0); got != get1+get2+cmd("INCR", "{b}2")+get3 {
		t.Errorf("the next connection is sent %q", got)
	}
	r.sent(1)
	r.node(1, "+OK\r\n")
	r.node(0, "$1\r\n1\r\n$1\r\n2\r\n:3\r\n*0\r\n")
	if got, want := r.got(), "$1\r\n1\r\n"+unknownOutcome+"$1\r\n2\r\n:3\r\n*0\r\n+OK\r\n"; got != want {
		t.Errorf("the client got %q", got)
	}
}

// What is sent again, or not, when the connection ends under it.
func TestWhatOutlivesItsConnection(t *testing.T) {
	for _, c := range []struct {
		name, sent string
		again      string // what the next connection is sent
	}{
		{"a read", cmd("GET", onA), cmd("GET", onA)},
		{"a write", cmd("SET", onA, "1"), ""},
		{"a read, its key written behind it", cmd("GET", onA) + cmd("SET", onA, "1"), ""},
		{"a read, another key written behind it", cmd("GET", onA) + cmd("SET", "{b}2", "1"), cmd("GET", onA)},
		{"a read, its key written before it", cmd("SET", onA, "1") + cmd("GET", onA), cmd("GET", onA)},
		{"a read, a transaction with another key behind it", cmd("GET", onA) + "MULTI\r\n" + cmd("GET", onA) + cmd("SET", "{b}2", "1") + "EXEC\r\n", cmd("GET", onA)},
		{"a read, a transaction with its key behind it", cmd("GET", onA) + "MULTI\r\n" + cmd("SET", "{b}2", "1") + cmd("INCR", onA) + "EXEC\r\n", ""},
		{"a read, a transaction with a script without keys behind it", cmd("GET", onA) + "MULTI\r\n" + cmd("SET", "{b}2", "1") + cmd("EVAL", "return 1", "0") + "EXEC\r\n", ""},
		{"a read, a transaction with a message behind it", cmd("GET", onA) + "MULTI\r\n" + cmd("SET", "{b}2", "1") + cmd("PUBLISH", "c", "m") + "EXEC\r\n", cmd("GET", onA)},
		{"a read, a message published behind it", cmd("GET", onA) + cmd("PUBLISH", "c", "m"), cmd("GET", onA)},
		{"a read, a script without keys behind it", cmd("GET", onA) + cmd("EVAL", "return 1", "0"), ""},
		{"a script", cmd("EVAL", "return 1", "1", onA), ""},
		{"a script that only reads", cmd("EVAL_RO", "return 1", "1", onA), cmd("EVAL_RO", "return 1", "1", onA)},
		{"a transaction", "MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n", ""},
		{"a transaction that only reads", "MULTI\r\n" + cmd("GET", onA) + "EXEC\r\n", cmd("MULTI") + cmd("GET", onA) + cmd("EXEC")},
		{"a transaction that only reads, its key written behind it", "MULTI\r\n" + cmd("GET", onA) + "EXEC\r\n" + cmd("SET", onA, "1"), ""},
		{"a transaction that only reads, another key written behind it", "MULTI\r\n" + cmd("GET", onA) + "PING\r\nEXEC\r\n" + cmd("SET", "{b}2", "1"), cmd("MULTI") + cmd("GET", onA) + cmd("PING") + cmd("EXEC")},
		{"a read of all keys", cmd("DBSIZE"), cmd("DBSIZE")},
		{"a read of all keys, one written behind it", cmd("DBSIZE") + cmd("SET", onA, "1"), ""},
		{"a read of all keys, one written elsewhere behind it", cmd("DBSIZE") + cmd("SET", onB, "1"), cmd("DBSIZE")},
		{"a read of all keys, a transaction behind it", cmd("KEYS", "*") + "MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n", ""},
		{"a message", cmd("PUBLISH", "c", "m"), ""},
	} {
		r := newRig(t, Options{})
		r.feed(c.sent)
		r.sent(0)
		if got := r.lost(0); got != c.again {
			t.Errorf("%s: the next connection is sent %q", c.name, got)
		}
	}
}

// A transaction that is lost with one node's connection keeps no read of another node
// from being sent again, though both connections end at once.
func TestLostAtTwoNodes(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("MULTI\r\n" + cmd("SET", onB, "1") + "EXEC\r\n" + cmd("GET", onA) + cmd("GET", onA))
	r.sent(0)
	r.sent(1)
	r.w.nodes[1].conns[0].Fail(r.now, "reset")
	if got := r.lost(0); got != cmd("GET", onA)+cmd("GET", onA) {
		t.Errorf("the next connection is sent %q", got)
	}
}

// A part of a reply that came over the old connection is no part of the new one.
func TestLostInsideAReply(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("GET", onB) + cmd("GET", onA) + cmd("MGET", onA, onB))
	r.sent(0)
	r.sent(1)
	r.node(0, "$40000\r\n"+strings.Repeat("x", 20000)) // parked behind b's reply
	if got, want := r.lost(0), cmd("GET", onA)+cmd("MGET", onA); got != want {
		t.Fatalf("the next connection is sent %q", got)
	}
	r.node(0, "$1\r\n1\r\n*1\r\n$1\r\n1\r\n")
	r.node(1, "$1\r\n2\r\n*1\r\n$1\r\n2\r\n")
	if got := r.got(); got != "$1\r\n2\r\n$1\r\n1\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n" || r.s.parked != 0 {
		t.Errorf("%d bytes parked, the client got %.80q", r.s.parked, got)
	}
}

// A read that its node answers by ending the connection does not do so for ever.
func TestLossesAreBounded(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("GET", onA))
	r.sent(0)
	times := 0
	for ; times < 20 && r.got() == ""; times++ {
		r.lost(0)
	}
	if times < 2 || times > 2*maxLosses {
		t.Errorf("answered after %d connections", times)
	}
}

// XREAD that waits is sent again over a connection of its own, with what is left of
// its time.
func TestBlockedReadOutlivesItsConnection(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("XREAD", "BLOCK", "3000", "STREAMS", onA, "1-1"))
	conn := r.exclusive(0)
	take(conn)
	conn.Received([]byte(":7\r\n"), r.now)
	r.pass(500 * time.Millisecond)
	conn.Fail(r.now, "reset")
	if got, want := take(r.exclusive(0)), cmd("CLIENT", "ID")+cmd("XREAD", "BLOCK", "2500", "STREAMS", onA, "1-1"); got != want {
		t.Errorf("sent %q", got)
	}
	if got := r.sent(0); got != "" {
		t.Errorf("over the shared connection: %q", got)
	}
}

// A call that outlives its connection does not overtake an earlier one of its client
// that waits to be sent again.
func TestLostBehindOneThatWaits(t *testing.T) {
	for _, then := range []string{cmd("SET", onA, "2"), cmd("FLUSHALL")} {
		r := newClusterRig(t)
		first := cmd("SET", onA, "1")
		r.feed(first)
		r.sent(0)
		r.feed(then)
		r.sent(1)
		r.node(0, "-TRYAGAIN x\r\n")
		again := r.lost(0)
		r.pass(100 * time.Millisecond)
		if r.w.nodes[1].conns[0].InFlight() > 0 {
			r.node(1, "+OK\r\n")
		}
		r.pass(200 * time.Millisecond)
		if again += r.sent(0); again != first+then {
			t.Errorf("the next connection is sent %q", again)
		}
	}
}
