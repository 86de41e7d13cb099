package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// greetNamed lets the connection connect, and returns the first thing that it writes.
func (b *bench) greetNamed() string {
	b.t.Helper()
	b.c.Open(b.now)
	for b.c.State() != Dialing {
		b.pass(10 * time.Millisecond)
	}
	b.c.Connected(b.now)
	return b.written(-1)
}

// setName is the step of the greeting that names the connection.
var setName = string(resp.AppendCommand(nil, "CLIENT", "SETNAME", "keyway:kw:1a"))

// TestGreetingNamesTheConnection: a node that refuses the name is used without one.
func TestGreetingNamesTheConnection(t *testing.T) {
	for _, reply := range []string{"+OK\r\n", "-ERR unknown command 'CLIENT'\r\n", "-NOPERM no\r\n"} {
		b := newBench(t, Config{Name: "keyway:kw:1a"})
		if got := b.greetNamed(); got != setName {
			t.Fatalf("greeted with %q", got)
		}
		b.c.Received([]byte(reply), b.now)
		b.c.Received([]byte(greetingReply(b.written(-1))), b.now)
		if b.c.State() != Ready {
			t.Errorf("%q: the connection is %s", reply, b.c.State())
		}
	}
}

// TestNodeThatClosesAtTheName: a node that closes the connection at CLIENT SETNAME, with an
// error or without, is greeted without it, at once and from then on, also by other
// connections. A node that died just then gets a name again.
func TestNodeThatClosesAtTheName(t *testing.T) {
	for _, last := range []string{"", "-ERR unknown command\r\n"} {
		b := newBench(t, Config{Name: "keyway:kw:1a"})
		b.greetNamed()
		b.c.Received([]byte(last), b.now)
		b.c.Fail(b.now, "EOF")
		if got := b.greetNamed(); !strings.Contains(got, "PING") {
			t.Errorf("after %q greeted with %q", last, got)
		}
		b.c.Received([]byte("-LOADING soon\r\n"), b.now)
		if got := b.greetNamed(); got != setName {
			t.Errorf("after other failures greeted with %q", got)
		}
		b.c.Fail(b.now, "EOF")
		b.c.Received([]byte("-ERR unknown command\r\n"+echoOf(b.greetNamed())), b.now)
		if b.c.State() != Ready {
			t.Fatalf("the connection is %s: %s", b.c.State(), b.c.Reason())
		}
		other := b.set.Conn("10.0.0.1:6379", nil)
		other.Open(b.now)
		other.Connected(b.now)
		if got := string(other.NextWrite()); !strings.Contains(got, "PING") {
			t.Errorf("another connection is greeted with %q", got)
		}
	}
}

// TestConnectionThatEndedAtTheName: a connection to a node that ended while it got its name, such as
// by CLIENT KILL, is no reason to leave the next one without a name: a switch of the layout would
// not find it.
func TestConnectionThatEndedAtTheName(t *testing.T) {
	b := newBench(t, Config{Name: "keyway:kw:1a"})
	b.greetNamed()
	b.c.Fail(b.now, "EOF")
	sent := b.greetNamed()
	b.send("a")
	b.c.Received([]byte(noRegister+echoOf(sent)), b.now)
	if got := b.written(-1); b.c.State() == Ready || got != setName {
		t.Errorf("the connection is %s, and wrote %q", b.c.State(), got)
	}
	b.c.Received([]byte("+OK\r\n"), b.now)
	b.c.Received([]byte(greetingReply(b.written(-1))), b.now)
	if got := b.written(-1); got != "<a>" || !b.set.Names(b.c.Addr) {
		t.Errorf("the connection is %s, and wrote %q", b.c.State(), got)
	}
}

// TestNamedForAnotherLayout: what was placed by the layout of an earlier epoch does not reach the node either
// if the connection gets its name late.
func TestNamedForAnotherLayout(t *testing.T) {
	b := newBench(t, Config{Name: "keyway:kw:1a", Epoch: 1})
	b.greetNamed()
	b.c.Fail(b.now, "EOF")
	sent := b.greetNamed()
	b.send("a")
	later := b.set.Config
	later.Epoch = 2
	b.set.Configure(later)
	b.c.Received([]byte(functionList("keyway_2")+echoOf(sent)), b.now)
	if got := b.written(-1); got != setName {
		t.Fatalf("the connection is %s, and wrote %q", b.c.State(), got)
	}
	b.c.Received([]byte("+OK\r\n"), b.now)
	b.c.Received([]byte(functionList("keyway_2")+echoOf(b.written(-1))), b.now)
	if got := b.written(-1); strings.Contains(got, "<a>") {
		t.Errorf("the connection is %s, and wrote %q", b.c.State(), got)
	}
	b.expect("a failed: sent false, midway false, timeout false")
}

// TestErrorBesideTheName: an error that a node sends of itself before it closes is the
// reason that clients and operators see, although it seems to answer CLIENT SETNAME.
func TestErrorBesideTheName(t *testing.T) {
	b := newBench(t, Config{Name: "keyway:kw:1a"})
	b.greetNamed()
	b.c.Received([]byte("-ERR max number of clients reached\r\n"), b.now)
	b.written(-1)
	b.c.Fail(b.now, "EOF")
	if got := b.c.ConnectError(); got != "the node refuses: ERR max number of clients reached" {
		t.Errorf("%q", got)
	}
}

// TestBusyNodeIsNotNameless: a connection that ended at its name, and one to the busy node that did
// without, are no reason to leave later ones without a name.
func TestBusyNodeIsNotNameless(t *testing.T) {
	const busy = "-BUSY Redis is busy\r\n"
	b := newBench(t, Config{Name: "keyway:kw:1a"})
	b.greetNamed()
	b.c.Received([]byte(busy), b.now)
	b.c.Fail(b.now, "EOF")
	b.greetNamed()
	b.c.Received([]byte(busy+busy), b.now)
	if b.c.State() != Ready {
		t.Fatalf("the connection is %s: %s", b.c.State(), b.c.Reason())
	}
	b.c.Fail(b.now, "EOF")
	if got := b.greetNamed(); got != setName {
		t.Errorf("greeted with %q", got)
	}
}
