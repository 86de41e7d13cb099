package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestLargeRepliesGoStraightToTheSocket: large pieces of a reply are offered to the client's socket at once. Only
// what it does not accept is kept, and all bytes reach the client in their order, also where the reply waits
// behind another one or a small one follows.
func TestLargeRepliesGoStraightToTheSocket(t *testing.T) {
	large := fmt.Sprintf("$%d\r\n%s\r\n", 300<<10, strings.Repeat("0123456789abcdef", 300<<10/16))
	small := "$1\r\nx\r\n"
	for name, c := range map[string]struct {
		accepts func(n int) int
		keeps   bool
	}{
		"all":     {func(n int) int { return n }, false},
		"a part":  {func(n int) int { return rand.IntN(n + 1) }, true},
		"nothing": {func(int) int { return 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			got, most := "", 0
			r.w.WriteNow = func(s *Session, b []byte) int {
				if s != r.s || s.Pending() > 0 {
					t.Fatal("written in front of what waits")
				}
				n := c.accepts(len(b))
				got += string(b[:n])
				return n
			}
			receive := func(node int, reply string) {
				for len(reply) > 0 {
					n := min(len(reply), 128<<10)
					r.shared(node).Received([]byte(reply[:n]), r.now)
					most = max(most, r.s.Pending())
					reply = reply[n:]
				}
			}
			r.feed(cmd("GET", onA))
			r.sent(0)
			receive(0, large)
			got += outputOf(r.s)
			if got != large || (most > 0) != c.keeps || !r.answered() {
				t.Fatalf("%d bytes of %d have arrived, %d were kept", len(got), len(large), most)
			}

			// Three replies of two nodes: the second node's first, and then a large one in front of or behind it.
			for _, replies := range [][3]string{{large, small, small}, {small, large, small}} {
				got = ""
				r.feed(cmd("GET", onB) + cmd("GET", onA) + cmd("GET", onB))
				r.sent(0)
				r.sent(1)
				receive(0, replies[1])
				receive(1, replies[0])
				receive(1, replies[2])
				got += outputOf(r.s)
				if want := strings.Join(replies[:], ""); got != want {
					t.Errorf("%d bytes of %d have arrived, or others", len(got), len(want))
				}
			}
		})
	}
}

// TestConnectionsOfOneClientAreKept: as many connections for one client alone are kept as were in use in the last
// second or two, and are used again. Later, only a few are left.
func TestConnectionsOfOneClientAreKept(t *testing.T) {
	r := newRig(t, Options{})
	const clients = 50
	popped := cmd(onA, "x")
	var all []*Session
	for i := range clients {
		all = append(all, r.w.Open(nil, fmt.Sprintf("peer:%d", 2+i), "keyway:1"))
	}
	round := func() (dialed, left int) {
		before := len(r.seen)
		for _, s := range all {
			r.w.Received(s, []byte(cmd("BLPOP", onA, "0")))
			r.exclusive(0)
		}
		for range all {
			r.answerAlone(0, ":7\r\n"+popped) // CLIENT ID comes first
		}
		for i, s := range all {
			if got := outputOf(s); got != popped {
				t.Errorf("client %d got %q", i, got)
			}
		}
		r.pass(10 * time.Millisecond)
		for l := range r.seen {
			if l.State() == pool.Ready {
				left++
			}
		}
		return len(r.seen) - before, left - len(r.w.Nodes) // without the shared ones
	}
	if dialed, left := round(); dialed != clients || left != clients {
		t.Errorf("%d clients: %d connections were dialed, %d are left", clients, dialed, left)
	}
	r.pass(900 * time.Millisecond)
	if dialed, left := round(); dialed != 0 || left != clients {
		t.Errorf("%d clients, nearly a second later: %d connections were dialed, %d are left", clients, dialed, left)
	}
	r.pass(3 * time.Second)
	if dialed, _ := round(); dialed != clients-4 {
		t.Errorf("%d clients, three seconds later: %d connections were dialed", clients, dialed)
	}
}
