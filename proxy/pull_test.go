package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// movers are the nodes at the other ends of the connections over which keys move.
type movers struct {
	r      *rig
	before func(command string) // called before a node executes one
	sent   map[string][]string  // by the node's address, the names of the commands
}

// turn lets the nodes accept connections and execute what they have got.
func (m *movers) turn() {
	m.r.pass(10 * time.Millisecond)
	for _, l := range m.r.apart {
		if l.State() == pool.Dialing {
			l.Connected(m.r.now)
		}
		for out := take(l); out != ""; out = take(l) {
			if l.State() == pool.Greeting {
				l.Received([]byte(greetingAnswer(out)), m.r.now)
				continue
			}
			m.execute(l, out)
		}
	}
}

func (m *movers) execute(l *pool.Link, frames string) {
	var p resp.Parser
	for b := []byte(frames); len(b) > 0; {
		n, _, err := p.Next(b, &resp.DefaultLimits)
		if err != nil || n == 0 {
			m.r.t.Fatalf("the node got %q", b)
		}
		b = b[n:]
		name := string(p.Arg(0))
		m.sent[l.Addr] = append(m.sent[l.Addr], name)
		m.before(name)
		reply := "+OK\r\n"
		switch isGuard := p.Len() > 1 && strings.HasPrefix(string(p.Arg(1)), "keyway:guard:"); {
		case name == "EXISTS" && !isGuard && slices.Contains(m.sent[l.Addr], "WATCH"): // the destination
			reply = ":0\r\n"
		case name == "EXISTS", name == "OBJECT":
			reply = ":1\r\n"
		case name == "TIME":
			reply = "*2\r\n$4\r\n1000\r\n$1\r\n0\r\n"
		case name == "EXEC":
			reply = "*0\r\n"
		case name == "PEXPIRETIME":
			reply = ":-1\r\n"
		case name == "DUMP":
			reply = "$3\r\nabc\r\n"
		}
		l.Received([]byte(reply), m.r.now)
	}
}

// TestRestoreOverTheSocketThatWatched: the connection to the destination ends after the reply to WATCH,
// while no reply is due there. RESTORE does not go over the next one before that watches the key.
func TestRestoreOverTheSocketThatWatched(t *testing.T) {
	r := newRig(t, Options{})
	r.replaceLayout(movingTable(t, r))
	_, id := r.w.Table.Place([]byte("k"))
	destination := r.w.Table.Nodes[id].Addr
	m := &movers{r: r, sent: map[string][]string{}}
	isCut := false
	m.before = func(name string) {
		if name != "DUMP" || isCut {
			return
		}
		isCut = true
		for _, l := range r.apart {
			if l.Addr == destination {
				l.Fail(r.now, "cut")
			}
		}
		m.sent[destination] = nil
	}
	r.feed("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
	for range 100 {
		m.turn()
	}
	watch, restore := slices.Index(m.sent[destination], "WATCH"), slices.Index(m.sent[destination], "RESTORE")
	if !isCut || restore < 0 || watch < 0 || restore < watch {
		t.Errorf("over the next connection: %q", m.sent[destination])
	}
}
