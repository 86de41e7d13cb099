package proxy

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestStuckBehindAScript: when a script has kept a node silent for a sixth of the
// request timeout, what clients send goes over a new connection, on which the node can
// say BUSY. What is behind the script already is answered when it ends, and its clients'
// later commands do not overtake it.
func TestStuckBehindAScript(t *testing.T) {
	const eval = "EVAL x 1 " + onA + "\r\n"
	get, set := cmd("GET", onA), cmd("SET", onA, "1")
	for name, c := range map[string]struct {
		in, first, then string // what the client sends, and what the node answers early and late
		stuck           bool
	}{
		"a script":                 {eval, "", "$1\r\nx\r\n", true},
		"a function":               {"FCALL f 1 " + onA + "\r\n", "", ":1\r\n", true},
		"behind a read":            {get + eval, "", "$1\r\nx\r\n$1\r\nx\r\n", true},
		"in a transaction":         {"MULTI\r\n" + eval + "EXEC\r\n", "", "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n", true},
		"the second of two":        {eval + eval, "$1\r\nx\r\n", "$1\r\nx\r\n", true},
		"a read":                   {get, "", "$1\r\nx\r\n", false},
		"a read behind":            {eval + get, "$1\r\nx\r\n", "$1\r\nx\r\n", false},
		"a transaction of no code": {"MULTI\r\n" + get + "EXEC\r\n", "", "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			n := r.w.nodes[0]
			old := n.conns[0]
			r.pass(time.Second) // in which nothing is asked
			r.feed(c.in)
			r.sent(0)
			r.pass(100 * time.Millisecond)
			if c.first != "" {
				r.node(0, c.first)
			}
			other, third := r.w.Open(nil, "peer:2", "keyway:1"), r.w.Open(nil, "peer:3", "keyway:1")
			r.w.Feed(other, []byte(get))
			r.sent(0)
			r.pass(100 * time.Millisecond)
			if isNew := n.conns[0] != old; isNew != (c.stuck && c.first == "") {
				t.Fatalf("after 200 ms there is a new connection: %t", isNew)
			}
			r.pass(100 * time.Millisecond)
			fresh := n.conns[0]
			if isNew := fresh != old; isNew != c.stuck {
				t.Fatalf("after 300 ms there is a new connection: %t", isNew)
			}
			if !c.stuck {
				return
			}
			before := r.w.Snapshot().Nodes[0]
			if up, of := r.w.Up(); up != of || before.InFlight == 0 {
				t.Errorf("the node is said to be down, or to have %d requests", before.InFlight)
			}
			r.w.Feed(other, []byte(set))
			r.w.Feed(third, []byte(set))
			fresh.Connected(r.now)
			take(fresh)
			fresh.Received([]byte("-BUSY Redis is busy\r\n"), r.now)
			if got := r.sent(0); got != set {
				t.Errorf("sent over the new connection: %q", got)
			}
			fresh.Received([]byte("-BUSY Redis is busy\r\n"), r.now)
			if got := string(third.Output()); got != "-BUSY Redis is busy\r\n" {
				t.Errorf("who came later got %q", got)
			}
			old.Received([]byte(c.then+"$1\r\ny\r\n"), r.now)
			r.w.EndTurn()
			if got := string(other.Output()); got != "$1\r\ny\r\n" || r.got() == "" {
				t.Errorf("behind the script: %q", got)
			}
			if got := r.sent(0); got != set {
				t.Errorf("then sent over the new connection: %q", got)
			}
			r.pass(20 * time.Millisecond)
			after := r.w.Snapshot().Nodes[0]
			if old.State() != pool.Closed || after.BytesIn < before.BytesIn+uint64(len(c.then)) {
				t.Errorf("the old connection is %s; its bytes are counted: %d, then %d", old.State(), before.BytesIn, after.BytesIn)
			}
		})
	}
}

// TestReadsThatAScriptOutlasted: a node says no more that it is busy. When the script's
// time is over, reads behind it are sent again; a write may have been executed.
func TestReadsThatAScriptOutlasted(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("EVAL x 1 " + onA + "\r\n")
	r.pass(50 * time.Millisecond)
	reader, writer := r.w.Open(nil, "peer:2", "keyway:1"), r.w.Open(nil, "peer:3", "keyway:1")
	r.w.Feed(reader, []byte(cmd("GET", onA)))
	r.w.Feed(writer, []byte(cmd("SET", onA, "1")))
	r.sent(0)
	r.pass(500 * time.Millisecond)
	fresh := r.w.nodes[0].conns[0]
	fresh.Connected(r.now)
	take(fresh)
	fresh.Received([]byte("-BUSY Redis is busy\r\n"), r.now)
	r.pass(470 * time.Millisecond)
	const unknown = "-ERR keyway: the connection to node a (10.0.0.1:1) ended after the command was sent (no answer within 1s); it may have been executed\r\n"
	if got := string(writer.Output()); got != unknown {
		t.Errorf("the write: %q", got)
	}
	if got := r.sent(0); got != cmd("PING")+cmd("GET", onA) {
		t.Fatalf("sent again: %q", got)
	}
	r.node(0, "-BUSY Redis is busy\r\n-BUSY Redis is busy\r\n")
	if got := string(reader.Output()); got != "-BUSY Redis is busy\r\n" {
		t.Errorf("the read: %q", got)
	}
}
