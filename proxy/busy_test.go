package proxy

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

const busy = "-BUSY Redis is busy running a script.\r\n"

// TestBlockedBehindScriptIsUnblocked: a node is busy when it is asked for the connection's id, but not any more
// when the client begins to wait. keyway knows the id from the last wait, so it can end this one.
func TestBlockedBehindScriptIsUnblocked(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("BLPOP", onA, "0"))
	r.answerAlone(0, ":7\r\n"+cmd(onA, "x"))
	r.got()
	r.feed(cmd("BLPOP", onA, "0"))
	r.answerAlone(0, busy)
	other := r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Received(other, []byte(cmd("CLIENT", "UNBLOCK", strconv.FormatUint(r.s.ID(), 10))))
	if sent := r.sent(0); !strings.Contains(sent, cmd("CLIENT", "UNBLOCK", "7", "ERROR")) {
		t.Fatalf("the node got %q", sent)
	}
	r.answerAlone(0, "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
	if got := r.got(); got != "*-1\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// TestTextOfScriptHasTimeOfItsOwn: a node that was busy answers late that it does not know a script. It gets as long
// for the text as for any command.
func TestTextOfScriptHasTimeOfItsOwn(t *testing.T) {
	r := newRig(t, Options{})
	const text, sha = "return 1", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
	r.feed(cmd("EVAL", text, "1", onA))
	r.sent(0)
	r.node(0, ":1\r\n")
	r.feed(cmd("EVALSHA", sha, "1", onA)) // sent as EVAL: the node may not have kept the text
	r.sent(0)
	r.node(0, ":1\r\n")
	r.got()
	r.feed(cmd("EVALSHA", sha, "1", onA))
	r.sent(0)
	retired := r.shared(0)
	r.pass(900 * time.Millisecond) // the timeout is a second
	retired.Received([]byte("-NOSCRIPT No matching script. Please use EVAL.\r\n"), r.now)
	r.endTurn()
	if sent := take(retired); !strings.Contains(sent, "EXISTS") {
		t.Fatalf("the node got %q", sent)
	}
	retired.Received([]byte("*1\r\n:0\r\n"), r.now)
	r.endTurn()
	r.pass(200 * time.Millisecond)
	greet(r, r.shared(0))
	if sent := r.sent(0); !strings.Contains(sent, text) {
		t.Fatalf("the node got %q, and the client %q", sent, r.got())
	}
	r.node(0, ":1\r\n")
	if got := r.got(); got != ":1\r\n" {
		t.Errorf("the client got %q", got)
	}
}
