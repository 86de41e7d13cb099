package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
)

// ask makes the connection send n requests.
func (b *bench) ask(n int) {
	for range n {
		b.c.Send(sink{}, []byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"), b.now, b.now+int64(time.Second))
	}
}

// TestDurationsOfReplies: the duration of a request is from Send to the complete reply, also for a reply
// after its timeout. It is counted for each of several replies that arrive together.
func TestDurationsOfReplies(t *testing.T) {
	b := newBench(t, Config{RequestTimeout: time.Minute}).ready()
	b.ask(2)
	b.now += int64(3 * time.Millisecond)
	b.ask(3)
	b.written(-1)
	b.now += int64(time.Millisecond)
	b.c.Received([]byte("$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r"), b.now)
	var want metrics.Histogram
	want.ObserveMany(int64(4*time.Millisecond), 2)
	want.ObserveMany(int64(time.Millisecond), 2)
	if b.c.Stats.Latency != want {
		t.Errorf("before the end of the last reply: %v", b.c.Stats.Latency)
	}
	b.now += int64(7 * time.Millisecond)
	b.c.Received([]byte("\na\r\n"), b.now)
	want.Observe(int64(8 * time.Millisecond))
	b.ask(1)
	b.written(-1)
	b.c.DropReply(0) // as a timeout does
	b.now += int64(time.Second)
	b.c.Received([]byte("$1\r\na\r\n"), b.now)
	want.Observe(int64(time.Second))
	if b.c.Stats.Latency != want {
		t.Errorf("%v, want %v", b.c.Stats.Latency, want)
	}
}

// TestWritesAndQueue: a request counts as sent when it is completely written, and as waiting before.
func TestWritesAndQueue(t *testing.T) {
	b := newBench(t, Config{})
	look := func(when string, requests, writes uint64, waiting int) {
		t.Helper()
		if s := &b.c.Stats; s.Requests != requests || s.Writes != writes || b.c.Waiting() != waiting {
			t.Errorf("%s: %d requests sent in %d writes, %d waiting; want %d, %d, %d",
				when, s.Requests, s.Writes, b.c.Waiting(), requests, writes, waiting)
		}
	}
	b.ask(2)
	look("while the link is dialing", 0, 0, 2)
	b.ready()
	all := len(b.c.NextWrite())
	look("when it is ready", 0, 0, 2)
	b.written(all/2 + 1)
	look("after one and a bit", 1, 1, 1)
	b.ask(3)
	look("with three more", 1, 1, 4)
	b.written(-1)
	look("when all are written", 5, 2, 0)
	b.ask(1)
	b.c.Fail(b.now, "broken")
	look("after the end of the link", 5, 2, 0)
}

// TestQueueTimeOfAReply: while a reply is delivered, its connection knows when the request was written. So
// does a failure.
func TestQueueTimeOfAReply(t *testing.T) {
	b := newBench(t, Config{}).ready()
	var got []time.Duration
	start := b.now
	note := times(func(written int64) { got = append(got, time.Duration(written-start)) })
	ask := func() { b.c.Send(note, []byte("*1\r\n$4\r\nPING\r\n"), b.now, 0) }
	ask()
	ask()
	b.written(20) // the second is not complete
	b.now += int64(5 * time.Millisecond)
	ask()
	b.now += int64(time.Millisecond)
	b.written(-1)
	ask()
	b.written(-1)
	b.now += int64(time.Second)
	b.c.Received([]byte(strings.Repeat("+PONG\r\n", 4)), b.now)
	want := []time.Duration{0, 6 * time.Millisecond, 6 * time.Millisecond, 6 * time.Millisecond}
	for i, d := range want {
		if len(got) != len(want) || got[i] != d {
			t.Fatalf("written at %v, want %v", got, want)
		}
	}
	got = nil
	b.now = start
	ask()
	b.now += int64(time.Millisecond)
	b.written(-1)
	ask()
	b.c.Fail(b.now, "broken")
	if len(got) != 2 || got[0] != time.Millisecond || got[1] != time.Duration(-start) {
		t.Errorf("of those that failed, one was written at %v", got)
	}
}

// times is a receiver that learns when its requests were written.
type times func(written int64)

func (f times) Reply(c *Conn, _ []byte, _ Piece)          { f(c.WrittenAt()) }
func (f times) Failed(_ *Conn, _ []byte, failure Failure) { f(failure.WrittenAt) }

// TestErrorsOfANode: error replies are counted by their first word.
func TestErrorsOfANode(t *testing.T) {
	b := newBench(t, Config{}).ready()
	replies := []string{
		"-ERR x\r\n", "-MOVED 1 a:1\r\n", "-LOADING\r\n", "-WRONGTYPE x\r\n", "-ERR\r\n", "-\r\n",
		"-CUSTOM of a script\r\n",
		"$6\r\n-ERR x\r\n", "-OOM " + strings.Repeat("x", 2*maxBufferedReply) + "\r\n",
	}
	b.ask(len(replies))
	b.written(-1)
	for reply := range strings.SplitAfterSeq(strings.Join(replies, ""), "x") { // in pieces
		b.c.Received([]byte(reply), b.now)
	}
	e := &b.c.Stats.Errors
	for word, n := range map[string]uint64{
		"ERR": 2, "MOVED": 1, "LOADING": 1, "WRONGTYPE": 1, "OOM": 1, metrics.OtherError: 2,
	} {
		if e.Of(word) != n {
			t.Errorf("%d errors %s, want %d", e.Of(word), word, n)
		}
	}
	if e.Total() != 8 || e.Refused() != 7 || b.c.State() != Ready {
		t.Errorf("%d errors, %d without redirects; the link is %s", e.Total(), e.Refused(), b.c.State())
	}
}

// TestTimeOfConnects: the time of successful attempts is counted, from dialing to the last reply of the
// greeting.
func TestTimeOfConnects(t *testing.T) {
	b := newBench(t, Config{})
	b.c.Open(b.now)
	b.c.Fail(b.now+int64(100*time.Millisecond), "refused")
	b.pass(time.Second)
	b.now += int64(20 * time.Millisecond)
	b.ready()
	if s := &b.c.Stats; s.Dials != 2 || time.Duration(s.Connecting) != 20*time.Millisecond {
		t.Errorf("%d attempts, of which the successful took %v", s.Dials, time.Duration(s.Connecting))
	}
}
