package proxy

import (
	"testing"

	"github.com/keyway-proxy/keyway/pool"
)

// TestProtocolsApart: what a client of RESP3 asks goes over connections that
// speak it, and nobody else's do.
func TestProtocolsApart(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("HELLO 3\r\n")
	n, c := r.w.anyMaster(r.s)
	answerAll(r, c)
	take(c)
	c.Received([]byte("+PONG\r\n"), r.now)
	if got := r.got(); got[:2] != "%7" {
		t.Errorf("%q", got)
	}
	r.feed(cmd("GET", onA))
	r.w.Tick()
	if got := r.sent(0); got != "" {
		t.Errorf("sent on a connection that speaks RESP2: %q", got)
	}
	if own := r.w.nodes[0].conns[1]; !own.RESP3 || own.InFlight() != 1 {
		t.Error("not sent on a connection that speaks RESP3")
	}
	if n.conns[0].RESP3 {
		t.Error("the other connection speaks RESP3")
	}
}

// MGET over several nodes: what a RESP3 node says of a missing key stands in its
// place among the others' values.
func TestNullsInMergedReplies(t *testing.T) {
	for version, null := range map[string]string{"2": "$-1\r\n", "3": "_\r\n"} {
		r := newRig(t, Options{})
		if version == "3" {
			r.feed("HELLO 3\r\n")
			_, c := r.w.anyMaster(r.s)
			answerAll(r, c)
			take(c)
			c.Received([]byte("+PONG\r\n"), r.now)
			r.got()
		}
		r.feed(cmd("MGET", onA, onB, onA, onB, onB))
		nodes := []*pool.Conn{r.w.nodes[0].conn(r.s), r.w.nodes[1].conn(r.s)}
		for _, c := range nodes {
			if version == "3" && c.State() != pool.Ready {
				answerAll(r, c)
			}
			take(c)
		}
		nodes[1].Received([]byte("*3\r\n$1\r\n1\r\n"+null+null), r.now)
		nodes[0].Received([]byte("*2\r\n"+null+"$1\r\n2\r\n"), r.now)
		if got, want := r.got(), "*5\r\n"+null+"$1\r\n1\r\n$1\r\n2\r\n"+null+null; got != want {
			t.Errorf("RESP%s: got %q, want %q", version, got, want)
		}
	}
}

// TestUnwantedRepliesAreLeftOut: replies that are not wanted are left out, those behind them
// are not.
func TestUnwantedRepliesAreLeftOut(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("CLIENT REPLY SKIP\r\n" + cmd("GET", onA) + cmd("GET", onA) + "CLIENT REPLY OFF\r\n" + cmd("GET", onA) + cmd("MGET", onA, onB) + "PING\r\n" + "CLIENT REPLY ON\r\n" + cmd("GET", onA))
	r.sent(0)
	r.sent(1)
	r.node(1, "*1\r\n$1\r\n9\r\n")
	r.node(0, "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n*1\r\n$1\r\n4\r\n$1\r\n5\r\n")
	if got := r.got(); got != "$1\r\n2\r\n+OK\r\n$1\r\n5\r\n" {
		t.Errorf("%q", got)
	}
}
