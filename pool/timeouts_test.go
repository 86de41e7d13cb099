package pool

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A late reply is dropped: its request stays as a tombstone.
func TestTimeoutLeavesATombstone(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.send("x")
	b.send("a")
	b.written(-1)
	b.pass(time.Second)
	b.c.Received([]byte("+X\r\n"), b.now) // the node is slow, not dead
	b.send("b")
	b.written(-1)
	b.pass(time.Second + time.Millisecond)
	b.expect(`x: "+X\r\n"`, "a failed: sent true, midway false, timeout true")
	b.c.Received([]byte("+A\r\n+B\r\n"), b.now)
	b.expect(`b: "+B\r\n"`)
	if b.c.Stats.Late != 1 || b.c.Stats.Timeouts != 1 {
		t.Errorf("%+v", b.c.Stats)
	}
}

const limit = 2 * time.Second // the request timeout of the following tests

// Only silence times out. While a reply arrives in pieces, neither it nor the requests
// behind it time out, however long it takes. The pool keeps the reply of 100 bytes until
// it is complete, and passes that of 1 MB on in pieces.
func TestTransfersDoNotTimeOut(t *testing.T) {
	for _, size := range []int{100, 1 << 20} {
		b := newBench(t, Config{RequestTimeout: limit}).ready()
		b.send("a")
		b.send("b")
		b.written(-1)
		reply := fmt.Sprintf("$%d\r\n%s\r\n", size, strings.Repeat("x", size))
		for i := range 10 {
			b.c.Received([]byte(reply[i*len(reply)/10:(i+1)*len(reply)/10]), b.now)
			b.pass(limit * 9 / 10)
		}
		b.c.Received([]byte("+B\r\n"), b.now)
		if len(b.log) != 2 || b.log[0] != fmt.Sprintf("a: %q", reply) {
			t.Errorf("%d bytes: %.60q", size, b.log)
		}
	}
}

// The same holds while a request leaves in pieces.
func TestUploadsDoNotTimeOut(t *testing.T) {
	b := newBench(t, Config{RequestTimeout: limit}).ready()
	frame := "<" + strings.Repeat("x", 1<<20) + ">"
	b.c.SendOwned(&asker{name: "big", log: &b.log}, []byte(frame), b.now, b.now+int64(limit))
	b.send("b")
	for range 10 {
		b.written(100_000)
		b.pass(limit * 9 / 10)
	}
	b.written(-1)
	b.c.Received([]byte("+OK\r\n+B\r\n"), b.now)
	b.expect(`big: "+OK\r\n"`, `b: "+B\r\n"`)
}

func TestBrokenOffReplyTimesOut(t *testing.T) {
	b := newBench(t, Config{RequestTimeout: limit}).ready()
	b.send("a")
	b.written(-1)
	b.c.Received([]byte("$5\r\nab"), b.now)
	b.pass(limit)
	b.expect("a failed: sent true, midway false, timeout false")
}

// A node that takes requests and answers none is not kept by new requests.
func TestNodeWithoutAnswersTimesOut(t *testing.T) {
	b := newBench(t, Config{RequestTimeout: limit}).ready()
	b.send("a")
	b.written(-1)
	for range 3 {
		b.pass(limit * 4 / 10)
		b.send("more")
		b.written(-1)
	}
	if b.c.State() == Ready {
		t.Error("the connection goes on")
	}
}

func TestPausedReadingDoesNotTimeOut(t *testing.T) {
	b := newBench(t, Config{RequestTimeout: limit}).ready()
	b.send("a")
	b.written(-1)
	b.c.PauseReading()
	b.pass(limit * 9 / 10)
	b.c.ResumeReading()
	b.pass(limit * 9 / 10)
	b.c.Received([]byte("+A\r\n"), b.now)
	b.expect(`a: "+A\r\n"`)
}

// A node that runs a slow command answers a greeting as late as any request. One
// that has let requests time out must answer within connect_timeout.
func TestGreetingMayTakeLong(t *testing.T) {
	b := newBench(t, Config{RequestTimeout: 2 * time.Second})
	b.c.Open(b.now)
	b.c.Connected(b.now)
	b.written(-1)
	b.pass(1900 * time.Millisecond)
	if b.c.State() != Greeting {
		t.Fatalf("the connection is %s: %s", b.c.State(), b.c.Reason())
	}
	b.c.Received([]byte(noRegister+"$8\r\nkeyway-1\r\n"), b.now)
	b.send("a")
	b.written(-1)
	b.pass(2 * time.Second)
	b.expect("a failed: sent true, midway false, timeout false")
	b.c.Tick(b.now)
	b.c.Connected(b.now)
	b.pass(time.Second)
	if b.c.State() != Down {
		t.Errorf("after a second without an answer the connection is %s", b.c.State())
	}
}

// A connection fails if the node has sent nothing since before an overdue request.
func TestSilentNodeIsGivenUp(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.pass(time.Second)
	b.send("a")
	b.send("b")
	b.written(-1)
	b.pass(time.Second)
	b.send("c")
	b.pass(time.Second)
	b.expect("a failed: sent true, midway false, timeout false", "b failed: sent true, midway false, timeout false",
		"c failed: sent false, midway false, timeout false")
	if b.c.Stats.Timeouts != 2 {
		t.Errorf("%d timeouts are counted for two requests that were not answered in time", b.c.Stats.Timeouts)
	}
	if b.c.State() == Ready {
		t.Error("the connection goes on")
	}
}
