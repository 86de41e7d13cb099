package pool

import (
	"strings"
	"testing"
	"time"
)

// noRegister is the reply of a node without a register.
const noRegister = "*0\r\n"

// greetingReply returns the replies to the last step of a greeting: of a node without a
// register.
func greetingReply(frame string) string {
	if strings.Contains(frame, "FUNCTION") {
		return noRegister + echoOf(frame)
	}
	return echoOf(frame)
}

// echoOf returns the node's reply to a PING that carries a nonce.
func echoOf(frame string) string { return frame[strings.Index(frame, "PING\r\n")+6:] }

// checked returns a connection that sends an integrity check behind every second request.
func checked(t *testing.T) *bench {
	b := newBench(t, Config{RequestTimeout: time.Second})
	b.c.CheckEvery = 2
	return b.ready()
}

func TestMatchingRepliesPassTheCheck(t *testing.T) {
	b := checked(t)
	b.send("a")
	b.send("b")
	b.send("c")
	out := b.written(-1)
	check := out[len("<a><b>") : len(out)-len("<c>")]
	if !strings.HasPrefix(out, "<a><b>*2\r\n$4\r\nPING\r\n$16\r\n") || !strings.HasSuffix(out, "\r\n<c>") {
		t.Fatalf("written: %q", out)
	}
	b.c.Received([]byte("+A\r\n+B\r\n"+echoOf(check)+"+C\r\n"), b.now)
	b.expect(`a: "+A\r\n"`, `b: "+B\r\n"`, `c: "+C\r\n"`)
	if b.c.State() != Ready {
		t.Errorf("the connection is %s: %s", b.c.State(), b.c.Reason())
	}
}

func TestShiftedRepliesAreNoticed(t *testing.T) {
	b := checked(t)
	b.send("a")
	b.send("b")
	b.send("c")
	check := b.written(-1)[len("<a><b>"):]
	b.c.Received([]byte("+A\r\n"+echoOf(check[:len(check)-3])), b.now)
	b.c.Received([]byte("+C\r\n"), b.now)
	if b.c.State() == Ready || b.c.Stats.Violations != 1 || !strings.Contains(b.c.Reason(), "out of step") {
		t.Errorf("the connection is %s, %d violations: %s", b.c.State(), b.c.Stats.Violations, b.c.Reason())
	}
	if b.c.InFlight() != 0 || b.c.InFlightBytes() != 0 {
		t.Errorf("%d in flight, %d bytes held", b.c.InFlight(), b.c.InFlightBytes())
	}
}

// Any PING may get BUSY. It says nothing about the replies before it.
func TestErrorToTheCheckIsNoShift(t *testing.T) {
	b := checked(t)
	b.send("a")
	b.send("b")
	b.written(-1)
	b.c.Received([]byte("+A\r\n+B\r\n-BUSY Redis is busy running a script.\r\n"), b.now)
	if b.c.State() != Ready {
		t.Errorf("the connection is %s: %s", b.c.State(), b.c.Reason())
	}
}

func TestCheckAfterASecond(t *testing.T) {
	b := checked(t)
	b.c.CheckEvery = 1000
	b.send("a")
	b.written(-1)
	b.now += int64(999 * time.Millisecond)
	b.c.Tick(b.now)
	if out := b.written(-1); out != "" {
		t.Errorf("too early: %q", out)
	}
	b.c.Received([]byte("+A\r\n"), b.now)
	b.send("b")
	b.now += int64(time.Millisecond)
	b.c.Tick(b.now)
	if out := b.written(-1); !strings.Contains(out, "PING") {
		t.Errorf("no check after a second: %q", out)
	}
}
