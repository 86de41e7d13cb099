package proxy

import (
	"bytes"
	"strings"
	"testing"
)

// enlargement is a buffer that the shell copies.
type enlargement struct {
	of   []byte
	room int
	done func([]byte)
}

func (e enlargement) end() { e.done(append(make([]byte, 0, e.room), e.of...)) }

// TestLargeCommandsAreCopiedBesideTheLoop: a large command that arrives in pieces is whole at its node, although a
// worker never copies more than a MB of it by itself. The client is not read while the shell copies. What arrives even
// so, and a client that leaves then, do no harm.
func TestLargeCommandsAreCopiedBesideTheLoop(t *testing.T) {
	const piece = 100 << 10
	set := cmd("SET", onA, strings.Repeat("0123456789abcdef", 8<<20/16))
	for name, meanwhile := range map[string]func(r *rig, unread []byte) (read int){
		"nothing arrives":      func(*rig, []byte) int { return 0 },
		"a little arrives":     func(r *rig, b []byte) int { r.w.Received(r.s, b[:10]); return 10 },
		"more than fits":       func(r *rig, b []byte) int { r.w.Received(r.s, b[:2<<20]); return 2 << 20 },
		"the remainder":        func(r *rig, b []byte) int { r.w.Received(r.s, b); return len(b) },
		"the client is closed": func(r *rig, _ []byte) int { r.w.Gone(r.s); return -1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			var copies []enlargement
			r.w.Enlarge = func(b []byte, room int, done func([]byte)) {
				copies = append(copies, enlargement{b, room, done})
			}
			largest := 0
			for rest := []byte(set); len(rest) > 0; {
				n := min(piece, len(rest))
				r.w.Received(r.s, rest[:n])
				r.endTurn()
				if rest = rest[n:]; len(copies) == 0 {
					continue
				}
				c := copies[0]
				copies = nil
				largest = max(largest, len(c.of))
				if r.s.Reading() {
					t.Fatalf("the client is read while %d bytes of it are copied", len(c.of))
				}
				read := 0
				if len(rest) > 3<<20 {
					read = meanwhile(r, rest)
				}
				c.end()
				r.endTurn()
				if read < 0 {
					return
				}
				if rest = rest[read:]; len(rest) > 0 && len(copies) == 0 && !r.s.Reading() {
					t.Fatal("the client is not read any more")
				}
			}
			sent := take(r.exclusive(0))
			if !strings.HasSuffix(sent, set) {
				t.Errorf("the node got %d bytes instead of %d", len(sent), len(set))
			}
			if want := 3 << 20; name == "nothing arrives" && largest < want {
				t.Errorf("the shell has copied %d bytes at most, and the worker more", largest)
			}
			if bytes.Contains([]byte(r.got()), []byte("-")) {
				t.Error("the client got an error")
			}
		})
	}
}
