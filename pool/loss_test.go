package pool

import (
	"testing"
	"time"
)

// sender sends what it asked for once more when its connection has ended, as a client
// of this package does.
type sender struct {
	asker
	again bool
}

func (s *sender) WillFail(frame []byte) { *s.log = append(*s.log, string(frame)+" will fail") }

func (s *sender) Failed(c *Conn, frame []byte, f Failure) {
	s.asker.Failed(c, frame, f)
	if s.again {
		s.again = false
		c.Send(s, frame, int64(time.Hour), int64(2*time.Hour))
	}
}

// A connection that has served is dialed again at once when it ends; what its
// receivers send anew, even from within Failed, is written in its order.
func TestSentAgainInOrder(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.send("first")
	b.written(-1)
	b.c.Received([]byte("+OK\r\n"), b.now)
	b.log = nil
	for _, name := range []string{"a", "b", "c", "d"} {
		s := &sender{asker: asker{name: name, log: &b.log}, again: name != "b"}
		b.c.Send(s, []byte("<"+name+">"), b.now, b.now+int64(2*time.Second))
		if name == "b" {
			b.written(-1)
		}
	}
	b.c.Fail(b.now, "EOF")
	b.expect("<b> will fail", "<a> will fail",
		"a failed: sent true, midway false, timeout false", "b failed: sent true, midway false, timeout false",
		"c failed: sent false, midway false, timeout false", "d failed: sent false, midway false, timeout false")
	if b.c.Duty() != Dial || b.c.ConnectError() != "" {
		t.Fatalf("the connection is %s: %s", b.c.State(), b.c.ConnectError())
	}
	b.c.Connected(b.now)
	ping := b.written(-1)
	b.c.Received([]byte(greetingReply(ping)), b.now)
	if got := b.written(-1); got != "<a><c><d>" {
		t.Errorf("written: %q", got)
	}
}

// A node that closes a connection in its greeting, as CLIENT KILL may have it do, can be
// reached: requests wait for the next attempt.
func TestClosedInGreeting(t *testing.T) {
	b := newBench(t, Config{})
	s := &sender{asker: asker{name: "a", log: &b.log}, again: true}
	b.c.Send(s, []byte("<a>"), b.now, b.now+int64(2*time.Second))
	b.c.Connected(b.now)
	b.c.Fail(b.now, "EOF")
	b.expect("a failed: sent false, midway false, timeout false")
	if b.c.State() != Down || b.c.ConnectError() != "" || b.c.InFlight() != 1 {
		t.Errorf("the connection is %s, %d in flight: %q", b.c.State(), b.c.InFlight(), b.c.ConnectError())
	}
}

// A connection that ends soon, and has served nothing, is not dialed again at once.
// Requests wait meanwhile: the node can be reached. They do not wait beyond their
// deadline.
func TestUselessConnectionBacksOff(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.c.Fail(b.now, "EOF")
	if b.c.State() != Down || b.c.ConnectError() != "" {
		t.Fatalf("the connection is %s: %q", b.c.State(), b.c.ConnectError())
	}
	b.send("a")
	b.c.dialing.retryAt = b.now + int64(time.Hour)
	b.pass(2 * time.Second)
	b.expect("a failed: sent false, midway false, timeout false")
	b.pass(time.Second)
	b.expect("")
	if b.c.InFlight() != 0 || b.c.InFlightBytes() != 0 {
		t.Errorf("%d in flight, %d bytes held", b.c.InFlight(), b.c.InFlightBytes())
	}
}
