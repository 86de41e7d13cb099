package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestSlowReaderDelaysOthers: a client that takes a large reply slowly delays writes
// that wait behind it for a second in all, however often it lags and whatever other
// nodes answer it meanwhile; where nobody waits, and where others only read, the reply
// goes at its pace and is not buffered.
func TestSlowReaderDelaysOthers(t *testing.T) {
	for _, behind := range []string{"", cmd("SET", onA, "1"), cmd("GET", "{b}1"), cmd("GET", onA)} {
		others := strings.Contains(behind, "SET")
		r := newRig(t, Options{})
		conn := r.shared(0)
		r.feed(cmd("GET", onA) + strings.Repeat(cmd("GET", onB), 1000))
		r.w.Received(r.w.Open(nil, "peer:2", "keyway:1"), []byte(behind))
		r.sent(0)
		r.sent(1)
		chunk := []byte(strings.Repeat("x", 128<<10))
		conn.Received([]byte("$536870912\r\n"), r.now)
		paused, most := 0, 0
		for range 1000 { // ten seconds
			r.shared(1).Received([]byte("$1\r\n1\r\n"), r.now)
			for sent := 0; !conn.Paused() && sent < 2; sent++ { // the node is faster
				conn.Received(chunk, r.now)
			}
			if fresh := r.shared(0); fresh.State() == pool.Dialing {
				greet(r, fresh)
			}
			most = max(most, r.s.Pending())
			for range 2 {
				r.s.Wrote(min(len(r.s.Output()), 64<<10))
			}
			if conn.Paused() {
				paused++
			}
			r.pass(10 * time.Millisecond)
		}
		if others == (paused > 110) {
			t.Errorf("behind it: %q; the node was not read from for %d of 1000 ticks", behind, paused)
		}
		if !others && most > 1<<20+len(chunk) {
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
			conn := r.shared(0)
			writer := r.w.Open(nil, "peer:2", "keyway:1")
			r.feed(cmd("GET", onA))
			r.w.Received(writer, []byte(cmd("SET", onA, "1")))
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
