package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

const busyReply = "-BUSY Redis is busy running a script\r\n"

// busyFor lets time pass in which node a says BUSY to whatever it is asked over the
// shared connection.
func (r *rig) busyFor(d time.Duration) {
	for range int(d / (100 * time.Millisecond)) {
		r.node(0, strings.Repeat(busyReply, strings.Count(r.sent(0), "*")))
		r.pass(100 * time.Millisecond)
	}
}

// A node that says BUSY is not silent: a script, writes behind it, and a client that is
// blocked, get their true replies when it ends or is killed, however long that takes.
// If the node says nothing any more, they time out. Reads behind the script get BUSY.
func TestBusyIsNotSilence(t *testing.T) {
	const eval = "EVAL x 1 " + onA + "\r\n"
	const overdue = "-ERR keyway: the connection to node a (10.0.0.1:1) ended after the command was sent (no answer within 1s); it may have been executed\r\n"
	for name, c := range map[string]struct {
		ends                    string // what the node says when the script ends
		script, writer, blocked string // what the clients get
	}{
		"ends":      {"$4\r\ndone\r\n+OK\r\n$1\r\n1\r\n", "$4\r\ndone\r\n", "+OK\r\n", "*-1\r\n"},
		"is killed": {"-ERR killed\r\n+OK\r\n$1\r\n1\r\n", "-ERR killed\r\n", "+OK\r\n", "*-1\r\n"},
		"is silent": {"", overdue, overdue, overdue},
	} {
		r := newRig(t, Options{})
		blocked := r.w.Open(nil, "peer:3", "keyway:1")
		r.w.Feed(blocked, []byte(cmd("BLPOP", "{b}q", "1")))
		alone := r.exclusive(0)
		take(alone)
		alone.Received([]byte(":7\r\n"), r.now)
		r.feed(eval)
		r.sent(0)
		r.pass(50 * time.Millisecond)
		writer := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(writer, []byte(cmd("SET", onA, "1")))
		reader := r.w.Open(nil, "peer:4", "keyway:1")
		r.w.Feed(reader, []byte(cmd("GET", onA)))
		old := r.w.nodes[0].conns[0]
		r.sent(0)
		r.pass(500 * time.Millisecond)
		fresh := r.w.nodes[0].conns[0]
		fresh.Connected(r.now)
		take(fresh)
		fresh.Received([]byte(busyReply), r.now)
		r.busyFor(300 * time.Millisecond)
		if got := string(reader.Output()); got != busyReply {
			t.Errorf("%s: the read got %q", name, got)
		}
		r.busyFor(5 * time.Second)
		if got := r.got() + string(writer.Output()) + string(blocked.Output()); got != "" {
			t.Fatalf("%s: while the node says BUSY clients get %q", name, got)
		}
		if c.ends == "" {
			r.pass(1200 * time.Millisecond)
		} else {
			old.Received([]byte(c.ends), r.now)
			alone.Received([]byte("*-1\r\n"), r.now)
		}
		r.w.EndTurn()
		for _, client := range []struct{ name, got, want string }{
			{"the script", r.got(), c.script}, {"the write", string(writer.Output()), c.writer}, {"BLPOP", string(blocked.Output()), c.blocked},
		} {
			if client.got != client.want {
				t.Errorf("%s: %s got %q", name, client.name, client.got)
			}
		}
	}
}

// While a node that sentinels watch runs a script no connection to it can be had: it
// answers ROLE with BUSY. That it says so is enough.
func TestBusyGreetingIsNotSilence(t *testing.T) {
	r := newRig(t, Options{})
	r.w.nodes[0].sentinel = true
	r.feed("EVAL x 1 " + onA + "\r\n")
	r.sent(0)
	old := r.w.nodes[0].conns[0]
	r.pass(200 * time.Millisecond)
	for range 300 {
		if fresh := r.w.nodes[0].conns[0]; fresh.Duty() == pool.Dial {
			fresh.Connected(r.now)
			take(fresh)
			fresh.Received([]byte(busyReply), r.now)
		}
		r.pass(10 * time.Millisecond)
	}
	if got := r.got(); got != "" {
		t.Fatalf("while the node says BUSY the client gets %q", got)
	}
	old.Received([]byte("$4\r\ndone\r\n"), r.now)
	if got := r.got(); got != "$4\r\ndone\r\n" {
		t.Errorf("the client gets %q", got)
	}
}

// A script that is behind one that ran for long has the request timeout for itself: until
// then the node need not say BUSY again.
func TestScriptBehindAScript(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("EVAL x 1 " + onA + "\r\nEVAL x 1 " + onA + "\r\n")
	r.sent(0)
	old := r.w.nodes[0].conns[0]
	r.pass(200 * time.Millisecond)
	greet(r, r.w.nodes[0].conns[0])
	r.busyFor(5 * time.Second)
	old.Received([]byte("$3\r\none\r\n"), r.now)
	r.pass(950 * time.Millisecond)
	if got := r.got(); got != "$3\r\none\r\n" {
		t.Fatalf("the client gets %q", got)
	}
	r.busyFor(time.Second)
	old.Received([]byte("$3\r\ntwo\r\n"), r.now)
	if got := r.got(); got != "$3\r\ntwo\r\n" {
		t.Errorf("the client gets %q", got)
	}
}

// What has waited behind a script and is then redirected has the request timeout for
// itself, at the other node.
func TestRedirectedBehindAScript(t *testing.T) {
	r := newClusterRig(t)
	set := cmd("SET", "{b}2", "1")
	r.feed("EVAL x 1 " + onA + "\r\n" + set)
	r.sent(0)
	old := r.w.nodes[0].conns[0]
	r.pass(200 * time.Millisecond)
	greet(r, r.w.nodes[0].conns[0])
	r.busyFor(3 * time.Second)
	old.Received([]byte("$4\r\ndone\r\n-MOVED 3300 10.0.0.2:1\r\n"), r.now)
	r.w.EndTurn()
	if got := r.sent(1); got != set {
		t.Fatalf("the other node is sent %q", got)
	}
	r.pass(500 * time.Millisecond)
	r.node(1, "+OK\r\n")
	if got := r.got(); got != "$4\r\ndone\r\n+OK\r\n" {
		t.Errorf("the client gets %q", got)
	}
}

// A node that is busy refuses ASKING, and may be done by the time it reads the command
// behind that. Its redirect then means nothing: the client gets BUSY, and a later command
// of the client, which went through, is not overtaken.
func TestBusyForAsking(t *testing.T) {
	r := newClusterRig(t)
	first, second := cmd("SET", onA, "1"), cmd("SET", onA, "2")
	r.feed(first + second)
	r.sent(0)
	r.node(0, "-ASK 3300 10.0.0.2:1\r\n-ASK 3300 10.0.0.2:1\r\n")
	if got := r.sent(1); got != pool.Asking+first+pool.Asking+second {
		t.Fatalf("the other node is sent %q", got)
	}
	r.node(1, busyReply+"-MOVED 3300 10.0.0.1:1\r\n+OK\r\n+OK\r\n")
	if got := r.got(); got != busyReply+"+OK\r\n" {
		t.Errorf("the client gets %q", got)
	}
	if got := r.sent(0); got != "" {
		t.Errorf("sent again: %q", got)
	}
}
