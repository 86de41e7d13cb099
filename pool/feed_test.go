package pool

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// messages is a Listener that records what it is told.
type messages struct{ log []string }

func (m *messages) Up(*Feed)                        { m.log = append(m.log, "up") }
func (m *messages) Message(_ *Feed, message []byte) { m.log = append(m.log, string(message)) }
func (m *messages) Down(*Feed)                      { m.log = append(m.log, "down") }

// readyFeed returns a feed whose greeting is over, and what it has told its listener.
func readyFeed(t *testing.T) (*Feed, *messages) {
	cfg := Config{ConnectTimeout: time.Second, RequestTimeout: time.Second}
	m := new(messages)
	f := NewSet(cfg, rand.New(rand.NewPCG(1, 2))).Feed("10.0.0.1:6379", nil, m)
	f.Open(0)
	f.Connected(0)
	ping := string(f.NextWrite())
	f.Wrote(len(ping), 0)
	if f.Received([]byte(greetingReply(ping)), 0); f.State() != Ready {
		t.Fatalf("the feed is %s: %s", f.State(), f.Reason())
	}
	return f, m
}

// Messages arrive whole and in order, however the node's bytes are cut.
func TestFeedDeliversWholeMessages(t *testing.T) {
	large := "$100000\r\n" + strings.Repeat("x", 100000) + "\r\n"
	want := []string{"up", "*1\r\n+subscribe\r\n", large, "+PONG\r\n", "-ERR no\r\n"}
	for _, size := range []int{1, 7, 4096, 1 << 20} {
		f, m := readyFeed(t)
		for stream := strings.Join(want[1:], ""); stream != ""; {
			n := min(size, len(stream))
			f.Received([]byte(stream[:n]), 0)
			stream = stream[n:]
		}
		if strings.Join(m.log, "|") != strings.Join(want, "|") {
			t.Errorf("%d bytes at a time: %.200q", size, m.log)
		}
		if n := cap(f.input.part); n > 4*maxBufferedReply {
			t.Errorf("%d bytes are kept after a large message", n)
		}
	}
}

// A feed that has ended counts as refused until it is ready again, and forgets the
// commands that were not written.
func TestFeedEnds(t *testing.T) {
	for name, end := range map[string]func(f *Feed){
		"the socket ends": func(f *Feed) { f.Fail(0, "EOF") },
		"a push message":  func(f *Feed) { f.Received([]byte(">1\r\n+x\r\n"), 0) },
		"garbage":         func(f *Feed) { f.Received([]byte("?\r\n"), 0) },
	} {
		f, m := readyFeed(t)
		f.SendCommand([]byte("<lost>"))
		end(f)
		got := strings.Join(m.log, " ")
		if got != "up down" || f.State() != Down || f.ConnectError() == "" || !f.Busy() {
			t.Errorf("%s: %q, the feed is %s: %q", name, got, f.State(), f.ConnectError())
		}
		f.Tick(f.dialing.retryAt)
		f.Connected(f.dialing.retryAt)
		ping := string(f.NextWrite())
		f.Wrote(len(ping), f.dialing.retryAt)
		f.Received([]byte(greetingReply(ping)), f.dialing.retryAt)
		if b := f.NextWrite(); f.State() != Ready || f.ConnectError() != "" || len(b) != 0 {
			t.Errorf("%s: the feed is %s and writes %q", name, f.State(), b)
		}
	}
}

// TestFeedGoesOnElsewhere: another process that gets a feed's connection between any two bytes
// delivers each message whole and once. It writes nothing, and is only told that the feed is up, when it
// is to go on.
func TestFeedGoesOnElsewhere(t *testing.T) {
	const stream = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$10\r\n0123456789\r\n+PONG\r\n*1\r\n$3\r\nabc\r\n"
	for cut := range len(stream) + 1 {
		f, m := readyFeed(t)
		f.Received([]byte(stream[:cut]), 0)
		part, ok := f.Carry()
		if !ok {
			t.Fatalf("the feed is %s", f.State())
		}
		to := new(messages)
		next := NewSet(f.set.Config, rand.New(rand.NewPCG(1, 2))).Feed(f.Addr, nil, to)
		next.Open(0)
		Adopt(&next.Link, part, 0)
		if !next.Paused() || len(to.log) > 0 || len(next.NextWrite()) > 0 {
			t.Fatalf("cut at %d: before it goes on: %q", cut, to.log)
		}
		GoOn(&next.Link, 0)
		next.Received([]byte(stream[cut:]), 0)
		got := strings.Join(append(m.log[1:], to.log[1:]...), "")
		if got != stream || next.Paused() || to.log[0] != "up" {
			t.Errorf("cut at %d: %q and %q", cut, m.log, to.log)
		}
		f.SendCommand([]byte("<unwritten>"))
		if _, ok := f.Carry(); ok {
			t.Error("a feed goes over before its commands are written")
		}
	}
}
