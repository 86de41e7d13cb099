package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestLargeRequestsGoAlone: a request of a megabyte goes over a connection of its
// own, so others neither wait for it nor end with it; its client's commands keep
// their order.
func TestLargeRequestsGoAlone(t *testing.T) {
	value := strings.Repeat("x", largeFrame)
	const refused = "-ERR Protocol error: invalid bulk length\r\n"
	for name, c := range map[string]struct{ in, alone, reply, got string }{
		"a command": {cmd("SET", onA, value), cmd("SET", onA, value), "+OK\r\n", "+OK\r\n"},
		"refused":   {cmd("SET", onA, value), cmd("SET", onA, value), refused, refused},
		"a transaction": {
			cmd("MULTI") + cmd("SET", onA, value) + cmd("EXEC"), cmd("MULTI") + cmd("SET", onA, value) + cmd("EXEC"),
			"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
		},
		"a part": {cmd("MSET", onA, value, onB, "1"), cmd("MSET", onA, value), "+OK\r\n", "+OK\r\n"},
	} {
		r := newRig(t, Options{})
		later := cmd("GET", "{"+onA+"}") // of the same slot
		r.feed(cmd("GET", onA) + c.in + later)
		if got := r.sent(0); got != cmd("GET", onA) {
			t.Fatalf("%s: before the earlier command was answered: %.60q", name, got)
		}
		r.node(0, "$-1\r\n")
		r.w.EndTurn()
		conn := r.exclusive(0)
		if got := take(conn); got != c.alone {
			t.Fatalf("%s: sent %.80q", name, got)
		}
		other := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(other, []byte(later))
		if got := r.sent(0); got != later {
			t.Errorf("%s: another client's, or a later command: %.60q", name, got)
		}
		conn.Received([]byte(c.reply), r.now)
		if r.sent(1) != "" {
			r.node(1, "+OK\r\n")
		}
		r.w.EndTurn()
		if got := r.sent(0); got != later {
			t.Errorf("%s: the later command: %.60q", name, got)
		}
		r.node(0, "$-1\r\n$-1\r\n")
		if got := r.got(); got != "$-1\r\n"+c.got+"$-1\r\n" {
			t.Errorf("%s: the client got %.200q", name, got)
		}
		if idle := len(r.w.nodes[0].idle); (idle == 1) != (c.reply != refused) {
			t.Errorf("%s: %d connections are kept", name, idle)
		}
	}
}

// TestLargeRequestOfAGoneClient is carried out to its end.
func TestLargeRequestOfAGoneClient(t *testing.T) {
	r := newRig(t, Options{})
	set := cmd("SET", onA, strings.Repeat("x", largeFrame))
	r.feed(set)
	conn := r.exclusive(0)
	sent := string(conn.NextWrite()[:1000])
	conn.Wrote(1000)
	r.w.Gone(r.s)
	for range 10 {
		r.pass(10 * time.Millisecond)
	}
	if sent += take(conn); sent != set {
		t.Errorf("the node was sent %d bytes of %d", len(sent), len(set))
	}
	conn.Received([]byte("+OK\r\n"), r.now)
	if n := r.w.nodes[0]; n.exclusive != 0 || len(n.idle) != 1 {
		t.Errorf("%d connections in use, %d idle", n.exclusive, len(n.idle))
	}
}

// TestLargeReplies: when a reply announces that it is large, others get a connection
// that is not behind it; the next read of the key has one of its own.
func TestLargeReplies(t *testing.T) {
	r := newRig(t, Options{})
	old := r.w.nodes[0].conns[0]
	other := r.w.Open(nil, "peer:2", "keyway:1")
	reply := "$1048576\r\n" + strings.Repeat("x", largeFrame) + "\r\n"
	get, small := cmd("GET", onA), cmd("GET", "{"+onA+"}")
	r.feed(get + small)
	r.sent(0)
	old.Received([]byte(reply[:100_000]), r.now)
	r.w.Feed(other, []byte(small))
	r.feed(small) // behind the first client's own, which has not been answered
	r.w.EndTurn()
	fresh := r.w.nodes[0].conns[0]
	if fresh == old {
		t.Fatal("others still wait behind the reply")
	}
	greet(r, fresh)
	if got := r.sent(0); got != small {
		t.Errorf("sent over the new connection: %q", got)
	}
	r.node(0, "$1\r\n1\r\n")
	r.w.EndTurn()
	if got := string(other.Output()); got != "$1\r\n1\r\n" {
		t.Errorf("another client got %q", got)
	}
	old.Received([]byte(reply[100_000:]+"$1\r\n2\r\n"), r.now)
	if got := r.got(); got != reply+"$1\r\n2\r\n" {
		t.Errorf("the client got %d bytes", len(got))
	}
	r.w.EndTurn()
	if got := r.sent(0); got != small {
		t.Errorf("then sent over the new connection: %q", got)
	}
	r.node(0, "$1\r\n3\r\n")
	if r.pass(time.Second); old.State() != pool.Closed || r.got() != "$1\r\n3\r\n" {
		t.Errorf("the old connection is %s", old.State())
	}
	for i, again := range []string{reply, "$1\r\n4\r\n"} {
		r.feed(get)
		r.answerAlone(0, again)
		if got := r.got(); got != again {
			t.Errorf("read %d: %d bytes", i, len(got))
		}
		r.w.EndTurn()
	}
	if r.feed(get); r.sent(0) != get {
		t.Error("a value that is small again is read over a connection of its own")
	}
}

// TestSlowReaderDelaysOthers: a client that takes a large reply slowly delays writes
// that wait behind it for a second in all, however often it lags and whatever other
// nodes answer it meanwhile; where nobody waits, and where others only read, the reply
// goes at its pace and is not buffered.
func TestSlowReaderDelaysOthers(t *testing.T) {
	for _, behind := range []string{"", cmd("SET", onA, "1"), cmd("GET", "{b}1"), cmd("GET", onA)} {
		others := strings.Contains(behind, "SET")
		r := newRig(t, Options{})
		conn := r.w.nodes[0].conns[0]
		r.feed(cmd("GET", onA) + strings.Repeat(cmd("GET", onB), 1000))
		r.w.Feed(r.w.Open(nil, "peer:2", "keyway:1"), []byte(behind))
		r.sent(0)
		r.sent(1)
		chunk := []byte(strings.Repeat("x", 128<<10))
		conn.Received([]byte("$536870912\r\n"), r.now)
		paused, most := 0, 0
		for range 1000 { // ten seconds
			r.w.nodes[1].conns[0].Received([]byte("$1\r\n1\r\n"), r.now)
			for sent := 0; !conn.Paused() && sent < 2; sent++ { // the node is faster
				conn.Received(chunk, r.now)
			}
			if fresh := r.w.nodes[0].conns[0]; fresh.State() == pool.Dialing {
				greet(r, fresh)
			}
			most = max(most, r.s.Pending())
			for range 2 {
				r.s.Wrote(min(len(r.s.Output()), keepsUp))
			}
			if conn.Paused() {
				paused++
			}
			r.pass(10 * time.Millisecond)
		}
		if others == (paused > 110) {
			t.Errorf("behind it: %q; the node was not read from for %d of 1000 ticks", behind, paused)
		}
		if !others && most > softOutput+len(chunk) {
			t.Errorf("behind it: %q; %d bytes were buffered", behind, most)
		}
	}
}

// TestSlowReaderNearItsLimit: where a write waits behind a large reply, a slow client gets
// what it may leave unread, and after that as much as it takes in a request timeout. A
// client that takes nothing is closed sooner.
func TestSlowReaderNearItsLimit(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		size   int // of the reply
		pace   int // bytes that the client takes in 10 ms
		closed bool
		within time.Duration // of that, the write's reply
	}{
		"it ends in time":  {50 * mb, 128 << 10, false, 4 * time.Second},
		"it does not":      {500 * mb, 128 << 10, true, 4 * time.Second},
		"it takes nothing": {500 * mb, 0, true, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{ClientOutput: 24 * mb})
			conn := r.w.nodes[0].conns[0]
			writer := r.w.Open(nil, "peer:2", "keyway:1")
			r.feed(cmd("GET", onA))
			r.w.Feed(writer, []byte(cmd("SET", onA, "1")))
			r.sent(0)
			reply := fmt.Sprintf("$%d\r\n", c.size)
			left, began, got := c.size+len("\r\n"), r.now, -len(reply)
			conn.Received([]byte(reply), r.now)
			zeros := make([]byte, 128<<10)
			for left > 0 && r.now < began+int64(10*time.Second) {
				for range 64 { // the node is faster
					if n := min(left, len(zeros)); n > 0 && !conn.Paused() {
						piece := zeros[:n]
						if left -= n; left == 0 {
							piece = append(make([]byte, n-2), "\r\n"...)
						}
						conn.Received(piece, r.now)
					}
				}
				for n := c.pace; n > 0 && len(r.s.Output()) > 0; {
					took := min(n, len(r.s.Output()))
					r.s.Wrote(took)
					n, got = n-took, got+took
				}
				if r.s.Dead() {
					r.w.Gone(r.s)
				}
				r.pass(10 * time.Millisecond)
			}
			if took := time.Duration(r.now - began); took > c.within {
				t.Errorf("the write has waited for %s", took)
			}
			if conn.Received([]byte("+OK\r\n"), r.now); string(writer.Output()) != "+OK\r\n" {
				t.Errorf("the write: %q", writer.Output())
			}
			if closed := r.s.Dead(); closed != c.closed {
				t.Errorf("the client is closed: %t; it got %d bytes", closed, got)
			}
		})
	}
}
