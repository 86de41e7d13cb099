package proxy

import (
	"strings"
	"testing"
)

// TestLateCommands: what keyway answers itself stands in its place in EXEC's reply,
// and is carried out when the node has executed the block, not before.
func TestLateCommands(t *testing.T) {
	queue := "MULTI\r\n" + cmd("SET", onA, "1") + "CLIENT SETNAME me\r\nCLIENT GETNAME\r\n" + cmd("GET", onA)
	const queued = "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
	for name, c := range map[string]struct{ replies, want, after string }{
		"executed": {"*4\r\n+OK\r\n+PONG\r\n+PONG\r\n$1\r\n1\r\n", "*4\r\n+OK\r\n+OK\r\n$2\r\nme\r\n$1\r\n1\r\n", "$2\r\nme\r\n"},
		"aborted":  {execAbort, execAbort, "$-1\r\n"},
		"null":     {"*-1\r\n", "*-1\r\n", "$-1\r\n"},
	} {
		r := newRig(t, Options{})
		r.feed(queue)
		r.got()
		r.feed("CLIENT LIST\r\nDISCARD\r\nCLIENT GETNAME\r\n") // nothing is carried out before EXEC
		if got := r.got(); got != "+QUEUED\r\n+OK\r\n$-1\r\n" {
			t.Fatalf("%q", got)
		}
		r.feed(queue + "EXEC\r\nCLIENT GETNAME\r\n")
		ping := cmd("PING")
		if got := r.sent(0); got != cmd("MULTI")+cmd("SET", onA, "1")+ping+ping+cmd("GET", onA)+cmd("EXEC") {
			t.Errorf("sent %q", got)
		}
		r.node(0, queued+c.replies)
		if got := r.got(); got != queued+c.want+c.after {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestLongLateReply: a reply of keyway's that is longer than what it takes the place of
// leaves the node's replies behind it as they are.
func TestLongLateReply(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("MULTI\r\nCLIENT NO-EVICT perhaps\r\n" + cmd("GET", onA) + "EXEC\r\n")
	r.sent(0)
	r.node(0, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n$10\r\n0123456789\r\n")
	const queued = "+OK\r\n+QUEUED\r\n+QUEUED\r\n"
	if got := r.got(); got != queued+"*2\r\n-ERR syntax error\r\n$10\r\n0123456789\r\n" {
		t.Errorf("%q", got)
	}
}

// TestLateCommandsThatWait: one that other workers answer keeps its place, and
// nothing comes between the pieces of EXEC's reply.
func TestLateCommandsThatWait(t *testing.T) {
	for _, early := range []bool{true, false} {
		lateCommandsThatWait(t, early)
	}
}

func lateCommandsThatWait(t *testing.T, early bool) {
	r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2, Index: 1})
	r.s.set(resp3)
	r.w.nodes[0].conns[0].RESP3, r.w.nodes[1].conns[0].RESP3 = true, true
	r.feed(cmd("GET", onB) + "MULTI\r\nSLOWLOG LEN\r\n" + cmd("GET", onA) + "CLIENT GETNAME\r\nSLOWLOG LEN\r\nEXEC\r\nECHO 2\r\n")
	r.got()
	r.sent(0)
	r.sent(1)
	if early {
		r.w.push(r.s, []byte(">1\r\n+early\r\n"))
	}
	r.node(0, "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+PONG\r\n$1\r\nv\r\n+PONG\r\n+PONG\r\n")
	r.node(1, "$1\r\nb\r\n")
	r.w.push(r.s, []byte(">1\r\n+late\r\n"))
	if got := r.got(); got != "$1\r\nb\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n" {
		t.Errorf("before the siblings have answered: %q", got)
	}
	r.asked(sibling)
	got := r.got()
	if reply, ok := strings.CutPrefix(got, ":0\r\n$1\r\nv\r\n_\r\n:0\r\n>1\r\n"); !ok || !strings.HasSuffix(reply, "$1\r\n2\r\n") {
		t.Errorf("%q", got)
	}
}

// TestAllNodesInMulti: what concerns all nodes is queued where there is one, and
// refused where there have come to be more.
func TestAllNodesInMulti(t *testing.T) {
	r := newRig(t, Options{})
	both := r.w.masters
	r.w.masters = both[:1]
	r.feed("MULTI\r\nDBSIZE\r\nFLUSHALL\r\nEXEC\r\n")
	if got := r.sent(0); got != cmd("MULTI")+cmd("DBSIZE")+cmd("FLUSHALL")+cmd("EXEC") {
		t.Errorf("sent %q", got)
	}
	r.node(0, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n+OK\r\n")
	if got := r.got(); got != "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n+OK\r\n" {
		t.Errorf("%q", got)
	}
	r.feed("MULTI\r\nDBSIZE\r\n")
	r.got()
	r.w.masters = both
	r.feed("EXEC\r\n")
	if got := r.got(); got != "-"+errMultiSpread+"\r\n" {
		t.Errorf("%q", got)
	}
}
