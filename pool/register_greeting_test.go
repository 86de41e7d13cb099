package pool

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

// askRegister is the question for a node's register.
const askRegister = "*4\r\n$8\r\nFUNCTION\r\n$4\r\nLIST\r\n$11\r\nLIBRARYNAME\r\n$8\r\nkeyway_*\r\n"

// functionList returns a reply to FUNCTION LIST, as Redis 7.0 writes it.
func functionList(names ...string) string {
	b := fmt.Sprintf("*%d\r\n", len(names))
	for _, name := range names {
		b += fmt.Sprintf("*6\r\n$12\r\nlibrary_name\r\n$%d\r\n%s\r\n$6\r\nengine\r\n$3\r\nLUA\r\n"+
			"$9\r\nfunctions\r\n*0\r\n", len(name), name)
	}
	return b
}

// TestGreetingReadsTheRegister: a link to a node of a later epoch than that of this keyway
// is never used, and any other is.
func TestGreetingReadsTheRegister(t *testing.T) {
	const busy = "-BUSY Redis is busy\r\n"
	for _, c := range []struct {
		reply  string
		served int64
		ready  bool
		epoch  int64
	}{
		{functionList(), 0, true, 0},
		{functionList("keyway_1"), 0, false, 1},
		{functionList("keyway_1"), 1, true, 1},
		{functionList("keyway_2", "keyway_10", "keyway_9", "keyway_9_done"), 9, false, 10},
		{functionList("keyway_2"), 10, true, 2},
		{functionList("keyway_1_plan", "keyway_", "keyway_01", "Keyway_4", "keyway_2x"), 0, true, 0},
		{"-ERR unknown command `FUNCTION`, with args beginning with: `LIST`, \r\n", 0, true, 0},
		{"-NOPERM this user has no permissions to run the 'function|list' command\r\n", 0, true, 0},
		{"-LOADING Redis is loading the dataset in memory\r\n", 0, false, 0},
		{"+OK\r\n", 0, false, 0},
		{functionList(make([]string, 8000)...), 0, false, 0}, // longer than any register
	} {
		b := newBench(t, Config{Epoch: c.served})
		b.c.Open(b.now)
		b.c.Connected(b.now)
		sent := b.written(-1)
		if !strings.HasPrefix(sent, askRegister) {
			t.Fatalf("greeted with %q", sent)
		}
		for i := 0; i < len(c.reply); i += 4000 { // in pieces, as it may arrive
			b.c.Received([]byte(c.reply[i:min(i+4000, len(c.reply))]), b.now)
		}
		b.c.Received([]byte(echoOf(sent)), b.now)
		if got := b.c.State() == Ready; got != c.ready || b.c.Epoch != c.epoch {
			t.Errorf("%.80q in epoch %d: the link is %s (%s), the node's epoch %d", c.reply, c.served,
				b.c.State(), b.c.Reason(), b.c.Epoch)
		}
	}
	// A socket that takes only the question leaves the PING for later.
	b := newBench(t, Config{})
	b.c.Open(b.now)
	b.c.Connected(b.now)
	b.written(len(askRegister))
	b.c.Received([]byte(noRegister), b.now)
	if b.c.Received([]byte(echoOf(b.written(-1))), b.now); b.c.State() != Ready {
		t.Errorf("after a partial write the link is %s: %s", b.c.State(), b.c.Reason())
	}
	// A script that ends between the question and the PING leaves the register unread.
	b = newBench(t, Config{})
	b.c.Open(b.now)
	b.c.Connected(b.now)
	b.c.Received([]byte(busy+echoOf(b.written(-1))), b.now)
	sent := b.written(-1)
	if b.c.State() == Ready || !strings.HasPrefix(sent, askRegister) {
		t.Fatalf("the link is %s after a busy node; wrote %q", b.c.State(), sent)
	}
	if b.c.Received([]byte(functionList("keyway_1")+echoOf(sent)), b.now); b.c.State() != Down {
		t.Errorf("the link is %s", b.c.State())
	}
}

// TestNodeThatClosesAtTheRegister: a node that closes its connections at FUNCTION LIST is
// used without a register once it has answered a PING right before. Until then, and if
// connections end for another reason, the question is asked again.
func TestNodeThatClosesAtTheRegister(t *testing.T) {
	ping := string(resp.AppendCommand(nil, "PING"))[4:] // without its number of arguments
	for _, last := range []string{"", "-ERR unknown command\r\n"} {
		b := newBench(t, Config{})
		greet := func() string { return b.greetNamed() }
		for range 3 { // a server that starts
			if got := greet(); !strings.HasPrefix(got, askRegister) {
				t.Fatalf("greeted with %q", got)
			}
			b.c.Fail(b.now, "EOF")
			if got := greet(); strings.Contains(got, "FUNCTION") || !strings.Contains(got, ping) {
				t.Fatalf("tried with %q", got)
			}
			b.c.Fail(b.now, "EOF")
		}
		greet()
		b.c.Received([]byte(last), b.now)
		b.c.Fail(b.now, "EOF")
		b.c.Received([]byte(echoOf(greet())), b.now)
		if got := b.written(-1); !strings.HasPrefix(got, askRegister) {
			t.Fatalf("after the PING: %q", got)
		}
		b.c.Received([]byte(last), b.now)
		b.c.Fail(b.now, "EOF")
		if b.c.Received([]byte(echoOf(greet())), b.now); b.c.State() != Ready {
			t.Errorf("after %q the link is %s: %s", last, b.c.State(), b.c.Reason())
		}
	}
}

// TestNodeThatWasBusyAtTheRegister: what a busy node has not said on one connection does not make
// keyway ask on the next one, where the node counts as one without a register.
func TestNodeThatWasBusyAtTheRegister(t *testing.T) {
	b := newBench(t, Config{})
	b.greetNamed()
	b.c.Received([]byte("-BUSY Redis is busy\r\n"), b.now)
	b.c.Fail(b.now, "EOF")
	b.greetNamed()
	b.c.Fail(b.now, "EOF")
	b.c.Received([]byte(echoOf(b.greetNamed())), b.now)
	b.written(-1)
	b.c.Fail(b.now, "EOF")
	if b.c.Received([]byte(echoOf(b.greetNamed())), b.now); b.c.State() != Ready {
		t.Errorf("the link is %s, and writes %q", b.c.State(), b.written(-1))
	}
}
