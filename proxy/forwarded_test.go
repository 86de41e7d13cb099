package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/pool"
)

// forwardingShell moves the inside of large replies past the worker, as the shell does on Linux.
type forwardingShell struct {
	r         *rig
	accepts   func(n int) int // how many of n bytes the client's socket accepts
	got       string          // what the client has
	forwarded int
}

func newForwardingShell(r *rig, accepts func(n int) int) *forwardingShell {
	sh := &forwardingShell{r: r, accepts: accepts}
	r.w.WriteNow = func(s *Session, b []byte) int {
		n := accepts(len(b))
		sh.take(s, string(b[:n]))
		return n
	}
	return sh
}

// take gives bytes to the client, if it is the rig's.
func (sh *forwardingShell) take(s *Session, b string) {
	if s.Pending() > 0 {
		sh.r.t.Fatal("sent in front of what waits")
	}
	if s == sh.r.s {
		sh.got += b
	}
}

// receive gives keyway bytes of a node, cut anywhere.
func (sh *forwardingShell) receive(conn *pool.Conn, bytes string) {
	for len(bytes) > 0 {
		n := min(len(bytes), 1+rand.IntN(200<<10))
		if to, most := pool.Forwardable(&conn.Link); most > 0 {
			n = min(len(bytes), most)
			sent := sh.accepts(n)
			sh.take(to.(*Session), bytes[:sent])
			pool.Forwarded(&conn.Link, sent, sh.r.now)
			sh.forwarded += sent
			bytes, n = bytes[sent:], n-sent
		}
		if n > 0 {
			conn.Received([]byte(bytes[:n]), sh.r.now)
		}
		if bytes = bytes[n:]; rand.IntN(2) == 0 {
			sh.read()
		}
	}
}

// read gives the client what waits for it.
func (sh *forwardingShell) read() { sh.got += outputOf(sh.r.s) }

func largeReply(size int) string {
	text := strings.Repeat("\r\n$3\r\nabc\r\n+OK\r\n:1\r\n", size/20+1)[:size]
	return fmt.Sprintf("$%d\r\n%s\r\n", size, text)
}

func acceptAll(n int) int  { return n }
func acceptSome(n int) int { return rand.IntN(n + 1) }

// TestForwardedRepliesAreWhole: large replies of which the shell moves most past the worker reach the client as they
// are, in their order, whatever its socket accepts. They are counted like others.
func TestForwardedRepliesAreWhole(t *testing.T) {
	sizes := []int{39 << 10, 40 << 10, 56<<10 - 1, 56 << 10, 57 << 10, 128 << 10, 300 << 10, 1 << 20, 3<<20 + 7}
	for name, accepts := range map[string]func(int) int{
		"all": acceptAll, "some": acceptSome, "nothing": func(int) int { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			sh, want := newForwardingShell(r, accepts), ""
			for _, size := range sizes {
				large := largeReply(size)
				for _, reply := range []string{large, "*3\r\n" + large + ":1\r\n" + large, "$1\r\nx\r\n", large} {
					sh.receive(r.ask(cmd("GET", onA)), reply)
					r.endTurn()
					sh.read()
					if want += reply; sh.got != want {
						t.Fatalf("%d bytes: the client got %d bytes of %d, or others", size, len(sh.got), len(want))
					}
					if !r.answered() {
						t.Fatal("the reply has not ended")
					}
				}
			}
			if out, _ := r.bytesOut(); out != len(want) {
				t.Errorf("%d bytes were counted of %d", out, len(want))
			}
			if _, n := r.bytesOut(); n != sh.forwarded || (n > 0) != (name != "nothing") {
				t.Errorf("%d bytes were counted as forwarded, of %d", n, sh.forwarded)
			}
		})
	}
}

// TestNotForwarded: the shell is offered nothing where the bytes of a reply do not go to the client as they come.
func TestNotForwarded(t *testing.T) {
	begun := largeReply(1 << 20)[:64<<10]
	for name, c := range map[string]struct {
		commands, begun string
		accepts         int
		then            func(r *rig)
		offered         bool
	}{
		"nobody forbids it":           {commands: cmd("GET", onA), accepts: 1 << 20, offered: true},
		"the client has not read all": {commands: cmd("GET", onA), accepts: 1},
		"an earlier reply is missing": {commands: cmd("GET", onB) + cmd("GET", onA), accepts: 1 << 20},
		"no reply is wanted":          {commands: cmd("CLIENT", "REPLY", "OFF") + cmd("GET", onA), accepts: 1 << 20},
		"replies are merged":          {commands: cmd("MGET", onA, onB), begun: "*1\r\n", accepts: 1 << 20},
		"the client is closed": {
			commands: cmd("GET", onA), accepts: 1 << 20,
			then: func(r *rig) { r.s.Kill() },
		},
		"the client has left": {
			commands: cmd("GET", onA), accepts: 1 << 20,
			then: func(r *rig) { r.w.Gone(r.s) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			newForwardingShell(r, func(n int) int { return min(n, c.accepts) })
			conn := r.ask(c.commands)
			conn.Received([]byte(c.begun+begun), r.now)
			if c.then != nil {
				c.then(r)
			}
			if _, n := pool.Forwardable(&conn.Link); (n > 0) != c.offered || n > 1<<20-64<<10 {
				t.Errorf("%d bytes were offered", n)
			}
		})
	}
}
