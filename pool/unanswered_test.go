package pool

import (
	"strings"
	"testing"
	"time"
)

// TestForgottenRequest: the reply to a request whose receiver has gone is dropped, and does not
// count as late. The request neither times out nor fails.
func TestForgottenRequest(t *testing.T) {
	b := newBench(t, Config{}).ready()
	for _, name := range []string{"a", "b", "c"} {
		b.send(name)
	}
	b.written(-1)
	waiting := func() string {
		var names []string
		for _, to := range b.c.Unanswered() {
			names = append(names, to.(*asker).name)
		}
		return strings.Join(names, "")
	}
	if got := waiting(); got != "abc" {
		t.Errorf("waiting: %q", got)
	}
	for place, to := range b.c.Unanswered() {
		if to.(*asker).name == "b" {
			if frame := string(b.c.DropReply(place)); frame != "<b>" {
				t.Errorf("forgot %q", frame)
			}
		}
	}
	if got := waiting(); got != "ac" {
		t.Errorf("still waiting: %q", got)
	}
	b.c.Received([]byte("+A\r\n+B\r\n+C\r\n"), b.now)
	b.expect(`a: "+A\r\n"`, `c: "+C\r\n"`)
	if b.c.Stats.Late != 0 {
		t.Errorf("%+v", b.c.Stats)
	}
	b.send("d")
	b.written(-1)
	b.c.DropReply(0)
	b.pass(5 * time.Second)
	b.c.Fail(b.now, "reset")
	b.expect()
}

// TestSlowReplyIsReportedOnce: a reply that takes long is reported as slow, and only once.
func TestSlowReplyIsReportedOnce(t *testing.T) {
	const long = 20 * time.Millisecond
	b := newBench(t, Config{}).ready()
	b.send("a")
	b.send("b")
	b.written(-1)
	half := strings.Repeat("x", maxBufferedReply)
	for range 2 {
		if b.pass(time.Second); b.c.IsReplySlow(b.now, long) {
			t.Error("before the reply has begun")
		}
		b.c.Received([]byte("$32768\r\n"+half), b.now)
		if b.pass(long - 1); b.c.IsReplySlow(b.now, long) {
			t.Error("too early")
		}
		if b.pass(1); !b.c.IsReplySlow(b.now, long) || b.c.IsReplySlow(b.now, long) {
			t.Error("not said, or twice")
		}
		b.c.Received([]byte(half+"\r\n"), b.now)
	}
}
