package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// failoverTable is a cluster's whose node a is followed by c: as long as a lives, when
// it has failed, when c has taken its place, and when a follows c. b has no replica.
func failoverTable(t testing.TB, state string) *router.Table {
	t.Helper()
	nodes := []slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}, {ID: "b", Addr: "10.0.0.2:1", Master: true},
		{ID: "c", Addr: "10.0.0.3:1", Of: "10.0.0.1:1", Replica: true}}
	lower, upper := []slots.Range{{First: 0, Last: 8191}}, []slots.Range{{First: 8192, Last: 16383}}
	owned := [][]slots.Range{lower, upper, nil}
	switch state {
	case "elected": // and known to be no replica any more, but not yet to own anything
		nodes[2].Of, nodes[2].Replica = "", false
	case "elected and failed":
		nodes[0].Master, nodes[2].Of, nodes[2].Replica = false, "", false
		owned[0] = nil
	case "failed":
		nodes[0].Master, nodes[2].Of = false, ""
		owned[0] = nil
	case "swapped":
		nodes[0].Master, nodes[0].Replica, nodes[0].Of = false, true, "10.0.0.3:1"
		nodes[2] = slots.Node{ID: "c", Addr: "10.0.0.3:1", Master: true}
		owned = [][]slots.Range{nil, upper, lower}
	case "over":
		nodes = nodes[1:]
		nodes[1] = slots.Node{ID: "c", Addr: "10.0.0.3:1", Master: true}
		owned = [][]slots.Range{upper, lower}
	}
	m, err := slots.NewMap(nodes, owned)
	if err != nil {
		t.Fatal(err)
	}
	return router.NewSlots(m)
}

func newFailoverRig(t *testing.T, o Options) *rig {
	r := newRig(t, o)
	r.w.SetTable(failoverTable(t, ""))
	for _, n := range r.w.nodes[:2] {
		greet(r, n.conns[0])
	}
	r.w.EndTurn()
	return r
}

// failsOver has c take a's place, and brings its connection up.
func (r *rig) failsOver() {
	r.w.SetTable(failoverTable(r.t, "over"))
	greet(r, r.w.nodes[1].conns[0])
	r.pass(200 * time.Millisecond)
}

// A master that has a replica dies: whatever surely was not executed waits for the new
// master, in its order, and so do reads; a write that was on the way is told that
// nobody knows.
func TestFailoverIsAPause(t *testing.T) {
	for _, state := range []string{"", "failed", "elected", "elected and failed"} {
		r := newFailoverRig(t, Options{})
		r.feed(cmd("GET", onA) + cmd("INCR", "{b}n"))
		r.sent(0)
		r.feed(cmd("SET", "{b}2", "x"))
		r.dies(0)
		if state != "" {
			r.w.SetTable(failoverTable(t, state))
		}
		lines := map[string]string{
			"a write":       cmd("SET", "{b}3", "x"),
			"a script":      cmd("EVAL", "s", "1", "{b}3"),
			"a transaction": cmd("MULTI") + cmd("SET", "{b}3", "x") + cmd("EXEC"),
			"some":          cmd("APPEND", "{b}3", "1") + cmd("APPEND", "{b}3", "2") + cmd("APPEND", "{b}3", "3"),
		}
		clients := map[string]*Session{}
		for name, line := range lines {
			clients[name] = r.w.Open(nil, "peer:2", "keyway:1")
			r.w.Feed(clients[name], []byte(line))
		}
		blocked := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(blocked, []byte(cmd("BLPOP", "{b}4", "0")))
		r.pass(500 * time.Millisecond)
		if got := r.got(); got != "" {
			t.Errorf("state %q: the client got %q", state, got)
		}
		r.failsOver()
		sent := ""
		for range 20 {
			got := r.sent(1)
			if got == "" {
				break
			}

			sent += got
			r.answerAll(1, got)
			r.pass(100 * time.Millisecond)
		}
		if got, want := r.got(), "$1\r\nv\r\n"+strings.Replace(unknownOutcome, "a (10.0.0.1:1)", "10.0.0.1:1", 1)+"+OK\r\n"; got != want {
			t.Errorf("state %q: the client got %q", state, got)
		}
		for name, line := range lines {
			if !inOrder(sent, line) || strings.Contains(string(clients[name].Output()), "CLUSTERDOWN") {
				t.Errorf("state %q, %s: the new master was sent %q, the client got %q", state, name, sent, clients[name].Output())
			}
		}
		if strings.Count(sent, "INCR") > 0 {
			t.Errorf("state %q: a write was sent again", state)
		}
		if waits := r.w.nodes[1].waits; len(waits) != 1 || waits[0].sess != blocked {
			t.Errorf("state %q: BLPOP does not wait at the new master", state)
		}
	}
}

// inOrder reports whether the frames of want stand in sent, one behind the other.
func inOrder(sent, want string) bool {
	for frame := range strings.SplitSeq(want[1:], "*") {
		_, after, found := strings.Cut(sent, "*"+frame)
		if !found {
			return false
		}
		sent = after
	}
	return true
}

// answerAll answers each of the commands that a node was sent.
func (r *rig) answerAll(node int, sent string) {
	for frame := range strings.SplitSeq(sent, "*") {
		switch f := strings.Split(frame, "\r\n"); {
		case len(f) < 3:
		case f[2] == "GET":
			r.node(node, "$1\r\nv\r\n")
		case f[2] == "EXEC":
			r.node(node, "*1\r\n+OK\r\n")
		case f[2] == "EVAL" || f[2] == "EXISTS" || f[2] == "APPEND":
			r.node(node, ":1\r\n")
		default:
			r.node(node, "+OK\r\n")
		}
	}
}

// What waits for a failover waits for backend.hold; if none comes, those who come later
// are told at once.
func TestHoldIsBounded(t *testing.T) {
	r := newFailoverRig(t, Options{Hold: 3 * time.Second})
	r.dies(0)
	r.feed(cmd("GET", onA))
	r.pass(2900 * time.Millisecond)
	if got := r.got(); got != "" {
		t.Errorf("too early: %q", got)
	}
	r.pass(150 * time.Millisecond)
	const refused = "-CLUSTERDOWN keyway: node 10.0.0.1:1 cannot be reached (no answer within 1s); the command was not executed\r\n"
	if got := r.got(); got != refused {
		t.Errorf("%q", got)
	}
	atOnce := 0
	for range 100 {
		s := r.w.Open(nil, "peer:2", "keyway:1")
		r.w.Feed(s, []byte(cmd("GET", onA)))
		r.w.EndTurn()
		if string(s.Output()) == refused {
			atOnce++
		}
	}
	if atOnce < 100-minRetried {
		t.Errorf("%d of 100 are told at once", atOnce)
	}
	if n := r.w.nodes[0]; n.waiting == 0 || n.waiting > minRetried {
		t.Errorf("%d wait to see the end", n.waiting)
	}
}

// Where no failover can come, or it would change nothing, commands fail at once.
func TestNotHeld(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		fail func(r *rig)
		key  string
	}{
		"a master without replicas":        {fail: func(r *rig) { r.dies(1); r.w.Looked(r.now) }, key: onB},
		"no hold":                          {o: Options{Hold: -1}, fail: func(r *rig) { r.dies(0) }, key: onA},
		"a node that refuses the password": {fail: func(r *rig) { r.dies(0); r.w.nodes[0].conns[0].RetryNow(r.now); r.refuses("WRONGPASS x") }, key: onA},
	} {
		r := newFailoverRig(t, c.o)
		c.fail(r)
		r.feed(cmd("GET", c.key))
		if got := r.got(); !strings.HasPrefix(got, "-CLUSTERDOWN keyway: ") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// refuses answers the greeting of node a's connection with an error.
func (r *rig) refuses(said string) {
	c := r.w.nodes[0].conns[0]
	c.Connected(r.now)
	take(c)
	c.Received([]byte("-"+said+"\r\n"), r.now)
	if c.State() == pool.Ready {
		r.t.Fatal("the node does not refuse")
	}
}

// Commands for all masters wait for a failover too: each part goes to its own master, or
// to the one that has taken its place. One that any master can answer goes to another.
func TestAllMastersWaitForAFailover(t *testing.T) {
	for name, c := range map[string]struct {
		sent     string
		replies  [2]string // of b and of c, the new master
		got      string
		unsent   bool // the master dies before the command is sent
		unheard  bool // while it is on the way
		toOthers bool // it goes to another master
	}{
		"DBSIZE, the master being dead": {sent: cmd("DBSIZE"), replies: [2]string{":1\r\n", ":2\r\n"}, got: ":3\r\n"},
		"DBSIZE that is not sent yet":   {sent: cmd("DBSIZE"), replies: [2]string{":1\r\n", ":2\r\n"}, got: ":3\r\n", unsent: true},
		"DBSIZE that is on the way":     {sent: cmd("DBSIZE"), replies: [2]string{":1\r\n", ":2\r\n"}, got: ":3\r\n", unheard: true},
		"KEYS":                          {sent: cmd("KEYS", "*"), replies: [2]string{"*1\r\n$1\r\na\r\n", "*1\r\n$1\r\nb\r\n"}, got: "*2\r\n$1\r\nb\r\n$1\r\na\r\n"},
		"FLUSHALL":                      {sent: cmd("FLUSHALL"), replies: [2]string{"+OK\r\n", "+OK\r\n"}, got: "+OK\r\n"},
		"SCAN at that master":           {sent: cmd("SCAN", "0"), replies: [2]string{"", "*2\r\n$1\r\n0\r\n*0\r\n"}, got: "*2\r\n"},
		"COMMAND":                       {sent: cmd("COMMAND"), replies: [2]string{"*0\r\n", ""}, got: "*0\r\n", unsent: true, toOthers: true},
	} {
		r := newFailoverRig(t, Options{})
		r.s = r.w.Open(nil, "peer:2", "keyway:1") // whose commands for any master go to a
		switch {
		case c.unsent:
			r.feed(c.sent)
			r.dies(0)
		case c.unheard:
			r.feed(c.sent)
			r.sent(0)
			r.dies(0)
		default:
			r.dies(0)
			r.feed(c.sent)
		}
		old := r.sent(1)
		if c.replies[0] != "" {
			r.node(1, c.replies[0])
		}
		r.pass(500 * time.Millisecond)
		if got := r.got(); (got != "") != c.toOthers {
			t.Errorf("%s: before the failover the client got %q", name, got)
			continue
		} else if c.toOthers {
			if got != c.got || old != c.sent {
				t.Errorf("%s: b was sent %q, the client got %q", name, old, got)
			}
			continue
		}
		r.failsOver()
		if sent := r.sent(1); sent != c.sent {
			t.Errorf("%s: the new master was sent %q", name, sent)
			continue
		}
		r.node(1, c.replies[1])
		if got := r.got(); !strings.HasPrefix(got, c.got) {
			t.Errorf("%s: the client got %q", name, got)
		}
		if sent := r.sent(0); sent != "" {
			t.Errorf("%s: b was sent %q once more", name, sent)
		}
	}
}

// A command for all masters that waits for one of them keeps its place among its
// client's commands.
func TestAllMastersKeepTheirPlace(t *testing.T) {
	r := newFailoverRig(t, Options{})
	first, second, third := cmd("SET", onA, "1"), cmd("FLUSHALL"), cmd("SET", onA, "2")
	r.feed(first + second + third)
	r.dies(0)
	r.sent(1)
	r.node(1, "+OK\r\n")
	r.pass(500 * time.Millisecond)
	r.failsOver()
	if sent := r.sent(1); sent != first+second+third {
		t.Errorf("the new master was sent %q", sent)
	}
}

// A client that leaves takes what waits for it away.
func TestHeldClientLeaves(t *testing.T) {
	r := newFailoverRig(t, Options{})
	r.dies(0)
	r.feed(cmd("SET", onA, "x") + cmd("SET", onA, "y"))
	if n := r.w.nodes[0]; n.waiting != 1 || n.waitingBytes == 0 {
		t.Errorf("%d calls wait, %d bytes", n.waiting, n.waitingBytes)
	}
	a := r.w.nodes[0]
	r.w.Gone(r.s)
	if a.waiting != 0 || a.waitingBytes != 0 {
		t.Errorf("%d calls wait, %d bytes", a.waiting, a.waitingBytes)
	}
	r.failsOver()
	if got := r.sent(1); got != "" {
		t.Errorf("sent %q", got)
	}
}

// TestRedirectedBehindOneThatWaits: a command does not follow its redirect past an
// earlier one that followed it and was put off there.
func TestRedirectedBehindOneThatWaits(t *testing.T) {
	r := newClusterRig(t)
	first, second := cmd("SET", onA, "1"), cmd("SET", onA, "2")
	r.feed(first + second)
	r.sent(0)
	r.node(0, "-MOVED 3300 10.0.0.2:1\r\n")
	if got := r.sent(1); got != first {
		t.Fatalf("sent %q", got)
	}
	r.node(1, "-CLUSTERDOWN The cluster is down\r\n")
	r.node(0, "-MOVED 3300 10.0.0.2:1\r\n")
	if got := r.sent(1); got != "" {
		t.Errorf("%q has passed the first", got)
	}
	for range 2 {
		r.pass(300 * time.Millisecond)
	}
	if got := r.sent(1); got != first+second {
		t.Errorf("sent %q", got)
	}
	r.node(1, "+OK\r\n+OK\r\n")
	if got := r.got(); got != "+OK\r\n+OK\r\n" || len(r.s.moving) > 0 {
		t.Errorf("%q, still moving: %v", got, r.s.moving)
	}
}
