package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// largeBegins has r's client read a large value; the others' commands go behind that, and
// then the reply begins. It returns the connection that has taken the other's place, and
// what that one is sent.
func (r *rig) largeBegins(behind func()) (fresh *pool.Conn, again string) {
	r.t.Helper()
	old := r.w.nodes[0].conns[0]
	r.feed(cmd("GET", onA))
	behind()
	r.sent(0)
	old.Received([]byte(largeReplyHead()), r.now)
	r.pass(3 * rereadAfter)
	if fresh = r.w.nodes[0].conns[0]; fresh == old {
		r.t.Fatal("there is no new connection")
	}
	greet(r, fresh)
	return fresh, r.sent(0)
}

const largeReplyLen = 1048576 + len("$1048576\r\n\r\n")

func largeReplyHead() string { return "$1048576\r\n" + strings.Repeat("x", 50_000) }

func largeReplyRest() string {
	return strings.Repeat("x", largeReplyLen-2-len(largeReplyHead())) + "\r\n"
}

// TestReadsBehindALargeReply: reads that are behind a large reply are sent again over a
// new connection, and their replies that come over the old one are dropped. A client that
// has anything else there waits: its commands are executed once, in their order.
func TestReadsBehindALargeReply(t *testing.T) {
	get1, get2 := cmd("GET", "{b}1"), cmd("GET", "{b}2")
	set1, set2 := cmd("SET", "{b}1", "x"), cmd("SET", "{b}2", "x")
	onOld := map[string]string{"GET": "$3\r\nold\r\n", "SET": "+OK\r\n", "EVAL": "$3\r\nold\r\n", "EVAL_RO": "$3\r\nold\r\n"}
	for name, c := range map[string]struct {
		in    []string // what another client has sent
		again bool
	}{
		"a read":                                {[]string{get1}, true},
		"two reads":                             {[]string{get1, get2}, true},
		"two reads of one key":                  {[]string{get1, get1}, true},
		"a write":                               {[]string{set1}, false},
		"a read, its key written behind it":     {[]string{get1, set1}, false},
		"a read, another written behind it":     {[]string{get1, set2}, false},
		"a read, its key written before it":     {[]string{set1, get1}, false},
		"a read, another written before it":     {[]string{set2, get1}, false},
		"a read before and behind a write":      {[]string{get1, set2, get1}, false},
		"a script":                              {[]string{cmd("EVAL", "x", "1", onA)}, false},
		"a script that only reads":              {[]string{cmd("EVAL_RO", "x", "1", onA)}, true},
		"a read, a script without keys follows": {[]string{get1, cmd("EVAL", "x", "0")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			old, other := r.w.nodes[0].conns[0], r.w.Open(nil, "peer:2", "keyway:1")
			fresh, again := r.largeBegins(func() { r.w.Feed(other, []byte(strings.Join(c.in, ""))) })
			var late, want string
			for _, in := range c.in {
				late += onOld[strings.Split(in, "\r\n")[2]]
			}
			if want = late; c.again {
				want = strings.Repeat("$3\r\nnew\r\n", len(c.in))
			}
			if c.again != (again == strings.Join(c.in, "")) || !c.again && again != "" {
				t.Fatalf("the new connection is sent %q", again)
			}
			r.w.Feed(other, []byte(set1))
			if got := r.sent(0); got != "" {
				t.Errorf("a later command has not waited: %q", got)
			}
			if c.again {
				fresh.Received([]byte(want), r.now)
				if got := string(other.Output()); got != want {
					t.Errorf("before the large reply has passed: %q", got)
				}
			}
			old.Received([]byte(largeReplyRest()+late), r.now)
			if r.w.EndTurn(); r.sent(0) != set1 {
				t.Errorf("the later command is not sent")
			}
			fresh.Received([]byte("+OK\r\n"), r.now)
			if got := string(other.Output()); got != want+"+OK\r\n" {
				t.Errorf("the other client got %q", got)
			}
			if got := r.got(); len(got) != largeReplyLen {
				t.Errorf("the large reply has %d bytes", len(got))
			}
			calls := uint64(0)
			for _, n := range r.w.stats.Calls {
				calls += n
			}
			if r.pass(20 * time.Millisecond); old.State() != pool.Closed || old.Stats.Violations > 0 || calls != uint64(len(c.in)+2) {
				t.Errorf("the old connection is %s (%s); %d commands are counted", old.State(), old.Reason(), calls)
			}
		})
	}
}

// TestPartsBehindALargeReply: of a command over several nodes, the part that is behind the
// large reply goes again.
func TestPartsBehindALargeReply(t *testing.T) {
	r := newRig(t, Options{})
	other := r.w.Open(nil, "peer:2", "keyway:1")
	_, again := r.largeBegins(func() { r.w.Feed(other, []byte(cmd("MGET", "{b}1", onB))) })
	r.sent(1)
	r.node(1, "*1\r\n$1\r\n2\r\n")
	if r.node(0, "*1\r\n$1\r\n1\r\n"); again != cmd("MGET", "{b}1") {
		t.Errorf("sent again: %q", again)
	}
	if got := string(other.Output()); got != "*2\r\n$1\r\n1\r\n$1\r\n2\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// TestTransactionBehindALargeReply waits, though it only reads.
func TestTransactionBehindALargeReply(t *testing.T) {
	r := newRig(t, Options{})
	old, other := r.w.nodes[0].conns[0], r.w.Open(nil, "peer:2", "keyway:1")
	_, again := r.largeBegins(func() {
		r.w.Feed(other, []byte(cmd("GET", "{b}1")+"MULTI\r\n"+cmd("GET", "{b}1")+"EXEC\r\n"))
	})
	if again != "" {
		t.Errorf("sent again: %q", again)
	}
	old.Received([]byte(largeReplyRest()+"$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n"), r.now)
	if got := string(other.Output()); got != "$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// TestSameLargeValueForSeveral: who reads the same value behind its large reply gets it
// over a connection of its own.
func TestSameLargeValueForSeveral(t *testing.T) {
	r := newRig(t, Options{})
	other := r.w.Open(nil, "peer:2", "keyway:1")
	_, again := r.largeBegins(func() { r.w.Feed(other, []byte(cmd("GET", onA))) })
	if again != "" {
		t.Errorf("sent over the shared connection: %q", again)
	}
	if got := take(r.exclusive(0)); got != cmd("GET", onA) {
		t.Errorf("sent alone: %q", got)
	}
}

// TestLargeReplyOfAGoneClient: others do not wait behind it either.
func TestLargeReplyOfAGoneClient(t *testing.T) {
	r := newRig(t, Options{})
	other := r.w.Open(nil, "peer:2", "keyway:1")
	_, again := r.largeBegins(func() {
		r.w.Gone(r.s)
		r.w.Feed(other, []byte(cmd("GET", "{b}1")))
	})
	if again != cmd("GET", "{b}1") {
		t.Errorf("sent again: %q", again)
	}
}

// TestLostWithALargeReply: when the old connection ends, what was sent again is not
// sent a third time.
func TestLostWithALargeReply(t *testing.T) {
	r := newRig(t, Options{})
	old, other := r.w.nodes[0].conns[0], r.w.Open(nil, "peer:2", "keyway:1")
	r.largeBegins(func() { r.w.Feed(other, []byte(cmd("GET", "{b}1"))) })
	old.Fail(r.now, "reset")
	r.pass(20 * time.Millisecond)
	if got := r.sent(0); got != "" {
		t.Errorf("sent a third time: %q", got)
	}
	r.node(0, "$1\r\n1\r\n")
	if got := string(other.Output()); got != "$1\r\n1\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// TestRereadOnce: a read that was sent again, and is behind a large reply once more, waits.
func TestRereadOnce(t *testing.T) {
	r := newRig(t, Options{})
	second, third := r.w.Open(nil, "peer:2", "keyway:1"), r.w.Open(nil, "peer:3", "keyway:1")
	large, small := cmd("GET", "{b}1"), cmd("GET", "{b}2")
	fresh, again := r.largeBegins(func() {
		r.w.Feed(second, []byte(large))
		r.w.Feed(third, []byte(small))
	})
	if again != large+small {
		t.Fatalf("sent again: %q", again)
	}
	fresh.Received([]byte(largeReplyHead()), r.now)
	if r.pass(50 * time.Millisecond); r.w.nodes[0].conns[0] == fresh {
		t.Fatal("the second large reply has retired nothing")
	}
	greet(r, r.w.nodes[0].conns[0])
	if got := r.sent(0); got != "" {
		t.Errorf("sent a third time: %q", got)
	}
	fresh.Received([]byte(largeReplyRest()+"$1\r\n1\r\n"), r.now)
	if got := string(third.Output()); got != "$1\r\n1\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// TestNotRereadAtOnce: behind a large reply that passes quickly nothing is sent twice.
func TestNotRereadAtOnce(t *testing.T) {
	r := newRig(t, Options{})
	old, other := r.w.nodes[0].conns[0], r.w.Open(nil, "peer:2", "keyway:1")
	r.feed(cmd("GET", onA))
	r.w.Feed(other, []byte(cmd("GET", "{b}1")))
	r.sent(0)
	old.Received([]byte(largeReplyHead()), r.now)
	r.pass(10 * time.Millisecond)
	old.Received([]byte(largeReplyRest()+"$1\r\n1\r\n"), r.now)
	r.pass(50 * time.Millisecond)
	if got := r.sent(0); got != "" {
		t.Errorf("sent again: %q", got)
	}
	if got := string(other.Output()); got != "$1\r\n1\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// TestRedirectsBehindARetiredConnection: of two commands to one key that are redirected
// to the same node, the second does not go over a new connection while the first is on
// the one that was retired meanwhile.
func TestRedirectsBehindARetiredConnection(t *testing.T) {
	for _, ask := range []string{"-ASK 3300 10.0.0.2:1\r\n", "-MOVED 3300 10.0.0.2:1\r\n"} {
		r := newClusterRig(t)
		b := r.w.nodes[1]
		old, other := b.conns[0], r.w.Open(nil, "peer:2", "keyway:1")
		set1, set2 := cmd("SET", onA, "1"), cmd("SET", onA, "2")
		r.w.Feed(other, []byte(cmd("GET", onB)))
		r.feed(set1 + set2)
		r.sent(0)
		r.node(0, ask)
		r.w.EndTurn()
		if got := r.sent(1); !strings.HasSuffix(got, set1) {
			t.Fatalf("b was sent %q", got)
		}
		old.Received([]byte(largeReplyHead()), r.now)
		r.w.EndTurn()
		greet(r, b.conns[0])
		r.node(0, ask)
		if r.pass(50 * time.Millisecond); r.sent(1) != "" {
			t.Error("the second command has overtaken the first")
		}
		reply := "+OK\r\n"
		if strings.Contains(ask, "ASK") {
			reply = "+OK\r\n+OK\r\n"
		}
		old.Received([]byte(largeReplyRest()+reply), r.now)
		if got := r.got(); got != "+OK\r\n" {
			t.Fatalf("the client got %q", got)
		}
		again := ""
		for range 20 {
			r.pass(10 * time.Millisecond)
			again += r.sent(0) + r.sent(1)
		}
		if again != set2 {
			t.Errorf("then sent: %q", again)
		}
	}
}

// TestReplacementRefused: a node without a connection to spare refuses the one that takes
// the place of a retired one. It still answers over that one.
func TestReplacementRefused(t *testing.T) {
	for name, late := range map[string]bool{"at once": false, "when reads have gone there": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			old := r.w.nodes[0].conns[0]
			reader, writer := r.w.Open(nil, "peer:2", "keyway:1"), r.w.Open(nil, "peer:3", "keyway:1")
			r.feed(cmd("GET", onA))
			r.w.Feed(reader, []byte(cmd("GET", "{b}1")))
			r.sent(0)
			old.Received([]byte(largeReplyHead()), r.now)
			fresh := r.w.nodes[0].conns[0]
			if fresh == old {
				t.Fatal("the connection was not retired")
			}
			r.w.Feed(writer, []byte(cmd("SET", "{b}1", "x")))
			if late {
				r.pass(3 * rereadAfter)
			}
			fresh.Connected(r.now)
			take(fresh)
			fresh.Received([]byte("-ERR max number of clients reached\r\n"), r.now)
			r.pass(3 * rereadAfter)
			again := cmd("SET", "{b}1", "x")
			answers := "$1\r\n1\r\n+OK\r\n"
			if late {
				again += cmd("GET", "{b}1")
				answers += "$1\r\nx\r\n"
			}
			if got := r.sent(0); r.w.nodes[0].conns[0] != old || got != again {
				t.Fatalf("sent over the old connection: %q", got)
			}
			old.Received([]byte(largeReplyRest()+answers), r.now)
			want := "$1\r\n1\r\n"
			if late {
				want = "$1\r\nx\r\n"
			}
			if got := string(reader.Output()); got != want {
				t.Errorf("the reader got %q", got)
			}
			if got := string(writer.Output()); got != "+OK\r\n" {
				t.Errorf("the writer got %q", got)
			}
			r.w.Feed(writer, []byte(cmd("GET", "{b}1")))
			if got := r.sent(0); got != cmd("GET", "{b}1") {
				t.Errorf("later: %q", got)
			}
		})
	}
}
