package pool

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
		{functionList("keyway_2", "keyway_3_closing"), 2, false, 3},
		{functionList("keyway_2", "keyway_3_closing"), 3, false, 3}, // until the record is there
		{functionList("keyway_2", "keyway_3_closing", "keyway_3"), 3, true, 3},
		{functionList("keyway_2", "keyway_3_closing"), 4, true, 3},
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
}

// TestBusyNodeIsAskedForItsRegister: no request is sent over a connection before the node has said
// what its register is, and before the connection has its name, although a script that keeps the
// node busy may end at any time. Requests get the node's BUSY. When the script has ended, the first
// one gets its reply.
func TestBusyNodeIsAskedForItsRegister(t *testing.T) {
	const busy = "-BUSY Redis is busy\r\n"
	for _, name := range []string{"", "keyway:kw:1a"} {
		b := newBench(t, Config{Name: name, Epoch: 1})
		// answer answers what the connection asks: while the node is busy, after the script has
		// ended, or, if it ends in between, the first question only.
		answer := func(state string) (written string) {
			for range 9 {
				sent := b.written(-1)
				if sent == "" {
					break
				}
				written += sent
				replies := busy
				switch {
				case state == "ended" && strings.Contains(sent, askRegister):
					replies = functionList("keyway_1") + echoOf(sent)
				case state == "ended":
					replies = "+OK\r\n"
				case strings.Contains(sent, askRegister):
					replies = busy + busy
				}
				if state == "ends" {
					replies, state = strings.TrimSuffix(replies, busy)+busy, "ended"
					if strings.Contains(sent, askRegister) {
						replies = busy + echoOf(sent)
					}
				}
				if strings.Contains(sent, "<") {
					break
				}
				b.c.Received([]byte(replies), b.now)
			}
			return written
		}
		b.send("a")
		b.c.Connected(b.now)
		for _, request := range []string{"a", "b", "c"} {
			if request != "a" {
				b.send(request)
			}
			if got := answer("busy"); strings.Contains(got, "<") || b.c.State() != Ready {
				t.Errorf("%s: wrote %q; the link is %s: %s", name, got, b.c.State(), b.c.Reason())
			}
			b.expect(request + `: "` + strings.TrimSuffix(busy, "\r\n") + `\r\n"`)
		}
		b.send("d")
		b.send("e")
		got := answer("ends")
		if !strings.HasSuffix(got, "<d><e>") || strings.Count(got, askRegister) != 2 ||
			(name != "") != strings.Contains(got, setName+askRegister) {
			t.Errorf("%s: when the script ends, the link writes %q", name, got)
		}
		b.expect()
	}
}

// TestLinkForABusyNode: a link for what ends a script is ready while the script runs. It does not
// ask for the register.
func TestLinkForABusyNode(t *testing.T) {
	const busy = "-BUSY Redis is busy\r\n"
	b := newBench(t, Config{Name: "keyway:kw:1a", Epoch: 1})
	b.c.WhileBusy = true
	b.send("a")
	b.c.Connected(b.now)
	sent := b.written(-1)
	b.c.Received([]byte(busy), b.now)
	sent += b.written(-1)
	b.c.Received([]byte(busy), b.now)
	if sent += b.written(-1); !strings.HasSuffix(sent, "<a>") || strings.Contains(sent, "FUNCTION") || b.c.Epoch != 1 {
		t.Errorf("the link is %s in epoch %d, and wrote %q", b.c.State(), b.c.Epoch, sent)
	}
}

// TestQueuedForAnotherLayout: what was placed by the layout of an earlier epoch, and waited for the
// connection, is not written once the connection is greeted by that of a later epoch.
func TestQueuedForAnotherLayout(t *testing.T) {
	for _, c := range []struct {
		when string // the layout is replaced
		lost bool
	}{{"before", false}, {"while dialing", true}, {"while down", true}, {"while greeting", true}} {
		b := newBench(t, Config{Epoch: 1})
		later := b.set.Config
		later.Epoch = 2
		replace := func(when string) {
			if when == c.when {
				b.set.Configure(later)
			}
		}
		replace("before")
		if c.when == "while down" {
			b.c.Open(b.now)
			b.c.Fail(b.now, "EOF")
			b.c.dialing.refused = false // as after a failure in the greeting
		}
		b.send("a")
		replace("while down")
		for b.c.State() != Dialing {
			b.pass(10 * time.Millisecond)
		}
		replace("while dialing")
		b.c.Connected(b.now)
		sent := b.written(-1)
		replace("while greeting")
		b.c.Received([]byte(functionList("keyway_2")+echoOf(sent)), b.now)
		if got := strings.Contains(b.written(-1), "<a>"); got == c.lost {
			t.Errorf("the layout is replaced %s: the request was written: %v; the link is %s (%s)", c.when, got,
				b.c.State(), b.c.Reason())
		}
		if c.lost {
			b.expect("a failed: sent false, midway false, timeout false")
			if b.c.ConnectError() != "" {
				t.Errorf("%s: requests are refused: %s", c.when, b.c.ConnectError())
			}
		}
	}
}

// TestEveryNodeIsAskedForItsRegister: connections that end at the question for the register, however
// many in a row, are no reason to leave it out: a node whose epoch begins ends them, too. Operators see
// where they ended.
func TestEveryNodeIsAskedForItsRegister(t *testing.T) {
	for _, last := range []string{"", "-BUSY Redis is busy\r\n", "-ERR unknown command\r\n"} {
		for _, epoch := range []int64{0, 1} {
			b := newBench(t, Config{Epoch: epoch})
			for attempt := range 9 {
				if got := b.greetNamed(); !strings.HasPrefix(got, askRegister) {
					t.Fatalf("epoch %d, attempt %d: greeted with %q", epoch, attempt, got)
				}
				b.c.Received([]byte(last), b.now)
				b.c.Fail(b.now, "EOF")
			}
			if got := b.c.Reason(); last == "" && got != "EOF (at FUNCTION LIST)" {
				t.Errorf("the link is down: %s", got)
			}
			b.c.Received([]byte(functionList("keyway_9")+echoOf(b.greetNamed())), b.now)
			if b.c.State() == Ready || b.c.Epoch != 9 {
				t.Errorf("epoch %d: the link is %s; the node is in epoch %d", epoch, b.c.State(), b.c.Epoch)
			}
		}
	}
}

// TestEndWhileTheEpochBegins: a node whose epoch is not that of the layout yet can be reached, however often
// it has said so. A connection that it ends meanwhile is no reason to refuse requests.
func TestEndWhileTheEpochBegins(t *testing.T) {
	b := newBench(t, Config{Epoch: 1})
	for range 20 {
		b.c.Received([]byte(functionList("keyway_2_closing")+echoOf(b.greetNamed())), b.now)
	}
	b.greetNamed()
	b.c.Fail(b.now, "EOF")
	if reason := b.c.ConnectError(); reason != "" {
		t.Errorf("requests are refused: %s", reason)
	}
}

// TestRequestsOfAnEarlierEpoch: a request that was placed in an earlier epoch does not reach the node.
// If it is sent again over the same link, it does.
func TestRequestsOfAnEarlierEpoch(t *testing.T) {
	b := newBench(t, Config{Epoch: 1})
	to := &fate{}
	b.c.Send(&resent{b, to}, resp.AppendCommand(nil, "GET", "x"), b.now, 0)
	c := b.set.Config
	c.Epoch = 2
	b.set.Configure(c)
	for _, want := range []State{Down, Ready} {
		for b.c.State() != Dialing {
			b.pass(10 * time.Millisecond)
		}
		b.c.Connected(b.now)
		b.c.Received([]byte(functionList("keyway_2")+echoOf(b.written(-1))), b.now)
		if b.c.State() != want {
			t.Fatalf("the link is %s (%s), want %s", b.c.State(), b.c.Reason(), want)
		}
	}
	if got := b.written(-1); strings.Count(got, "GET") != 1 {
		t.Errorf("the link writes %q", got)
	}
}

// resent is a request that is sent again, for the receiver to, once it has failed.
type resent struct {
	b  *bench
	to Receiver
}

func (r *resent) Reply(*Conn, []byte, Piece)              {}
func (r *resent) Failed(c *Conn, frame []byte, _ Failure) { c.Send(r.to, frame, r.b.now, 0) }

// fate is what has become of a request.
type fate struct {
	reply  string
	failed *Failure
}

func (f *fate) Reply(_ *Conn, _ []byte, p Piece)          { f.reply += string(p.Bytes) }
func (f *fate) Failed(_ *Conn, _ []byte, failure Failure) { f.failed = &failure }
