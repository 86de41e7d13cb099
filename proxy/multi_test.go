package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

const execAbort = "-EXECABORT Transaction discarded because of previous errors.\r\n"

func TestTransactionLeavesAsOneBlock(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("MULTI\r\n" + cmd("SET", onA, "1") + cmd("INCR", onA) + cmd("PING"))
	if got := r.got(); got != "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n" {
		t.Errorf("%q", got)
	}
	other := r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Feed(other, []byte(cmd("GET", onA)))
	r.feed("EXEC\r\n" + cmd("GET", onA))
	if got := r.sent(0); got != cmd("GET", onA)+cmd("MULTI")+cmd("SET", onA, "1")+cmd("INCR", onA)+cmd("PING")+cmd("EXEC")+cmd("GET", onA) {
		t.Errorf("sent %q", got)
	}
	r.node(0, "$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n:2\r\n+PONG\r\n$1\r\n2\r\n")
	if got := r.got(); got != "*3\r\n+OK\r\n:2\r\n+PONG\r\n$1\r\n2\r\n" {
		t.Errorf("%q", got)
	}
}

func TestTransactionErrors(t *testing.T) {
	for _, c := range []struct{ send, want string }{
		{"EXEC", "-ERR EXEC without MULTI\r\n"},
		{"DISCARD", "-ERR DISCARD without MULTI\r\n"},
		{"MULTI\r\nMULTI\r\nWATCH x\r\nEXEC", "+OK\r\n-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n*0\r\n"},
		{"MULTI\r\nEXEC", "+OK\r\n*0\r\n"},
		{"MULTI\r\nGET\r\nGET b\r\nEXEC", "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n+QUEUED\r\n" + execAbort},
		{"MULTI\r\nGET a\r\nGET b\r\nEXEC", "+OK\r\n+QUEUED\r\n-CROSSSLOT Keys in request don't hash to the same slot\r\n" + execAbort},
		{"MULTI\r\nMGET a b\r\nEXEC", "+OK\r\n-CROSSSLOT Keys in request don't hash to the same slot\r\n" + execAbort},
		{"MULTI\r\nOBJECT NOPE\r\nEXEC", "+OK\r\n-ERR unknown subcommand 'NOPE'. Try OBJECT HELP.\r\n" + execAbort},
		{"MULTI\r\nSHUTDOWN\r\nEXEC", "+OK\r\n-ERR Command not allowed inside a transaction\r\n" + execAbort},
		{"MULTI\r\nDBSIZE\r\nEXEC", "+OK\r\n-ERR keyway: 'DBSIZE' concerns several nodes; send it outside MULTI\r\n" + execAbort},
		{"MULTI\r\nGET\r\nDISCARD\r\nEXEC", "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n+OK\r\n-ERR EXEC without MULTI\r\n"},
		{"MULTI\r\nRESET\r\nEXEC", "+OK\r\n+RESET\r\n-ERR EXEC without MULTI\r\n"},
	} {
		r := newRig(t, Options{})
		r.feed(c.send + "\r\n")
		if got := r.got(); got != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.send, got, c.want)
		}
	}
}

func TestTransactionOutcome(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n")
	r.got()
	r.sent(0)
	r.w.nodes[0].conns[0].Fail(r.now, "reset")
	if got := r.got(); !strings.Contains(got, "may have been executed") {
		t.Errorf("%q", got)
	}
	r = newRig(t, Options{})
	r.feed("MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n")
	r.got()
	c := r.w.nodes[0].conns[0]
	c.Wrote(len(c.NextWrite()) - len(cmd("EXEC"))) // the node drops what no EXEC follows
	r.dies(0)
	if got := r.got(); !strings.HasPrefix(got, "-CLUSTERDOWN keyway: ") {
		t.Errorf("%q", got)
	}
}

func TestTransactionIsReplayed(t *testing.T) {
	block := cmd("MULTI") + cmd("SET", onA, "1") + cmd("EXEC")
	for name, replies := range map[string]string{
		"moved when queued":   "+OK\r\n-MOVED 3300 10.0.0.2:1\r\n" + execAbort,
		"moved at EXEC":       "+OK\r\n+QUEUED\r\n-MOVED 3300 10.0.0.2:1\r\n",
		"migrated when asked": "+OK\r\n-ASK 3300 10.0.0.2:1\r\n" + execAbort,
		"migrated at EXEC":    "+OK\r\n+QUEUED\r\n-ASK 3300 10.0.0.2:1\r\n",
	} {
		r := newClusterRig(t)
		r.feed("MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n")
		r.got()
		if got := r.sent(0); got != block {
			t.Fatalf("%s: sent %q", name, got)
		}
		r.node(0, replies)
		r.w.EndTurn()
		want := block
		if strings.Contains(replies, "-ASK") {
			want = cmd("ASKING") + block
		}
		if got := r.sent(1); got != want {
			t.Errorf("%s: sent on %q", name, got)
		}
		r.node(1, strings.Repeat("+OK\r\n", strings.Count(want, "*")-2)+"+QUEUED\r\n*1\r\n+OK\r\n")
		if got := r.got(); got != "*1\r\n+OK\r\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestExecTellsWhyTheNodeRefused(t *testing.T) {
	for replies, want := range map[string]string{
		"+OK\r\n-NOPERM this user\r\n-OOM x\r\n" + execAbort: "-EXECABORT Transaction discarded because of: NOPERM this user\r\n",
		"+OK\r\n+QUEUED\r\n+QUEUED\r\n" + execAbort:          execAbort,
		"+OK\r\n+QUEUED\r\n+QUEUED\r\n-MISCONF x\r\n":        "-MISCONF x\r\n",
	} {
		r := newRig(t, Options{})
		r.feed("MULTI\r\n" + cmd("SET", onA, "1") + cmd("INCR", onA) + "EXEC\r\n")
		r.got()
		r.sent(0)
		r.node(0, replies)
		if got := r.got(); got != want {
			t.Errorf("%q: %q", replies, got)
		}
	}
}

// watchRig has watched onA over a connection of the client's own.
func watchRig(t *testing.T) (*rig, *pool.Conn) {
	r := newClusterRig(t)
	r.feed(cmd("WATCH", onA) + cmd("GET", onA))
	if len(r.w.nodes[0].waits) != 1 {
		t.Fatal("no connection was taken")
	}
	conn := r.w.nodes[0].waits[0].conn
	greet(r, conn)
	if got := take(conn); got != cmd("WATCH", onA) {
		t.Fatalf("sent %q", got)
	}
	if got := r.sent(0); got != "" {
		t.Fatalf("GET did not wait for WATCH: %q", got)
	}
	conn.Received([]byte("+OK\r\n"), r.now)
	r.w.EndTurn()
	if got := r.sent(0); got != cmd("GET", onA) {
		t.Fatalf("sent %q", got)
	}
	r.node(0, "$-1\r\n")
	if got := r.got(); got != "+OK\r\n$-1\r\n" {
		t.Fatalf("%q", got)
	}
	return r, conn
}

// link is a pool.Link, or what has one.
type link interface {
	State() pool.State
	Connected(now int64)
	NextWrite() []byte
	Wrote(n int)
	Received(b []byte, now int64)
}

func greet(r *rig, conn link) {
	conn.Connected(r.now)
	ping := take(conn)
	conn.Received([]byte(ping[strings.Index(ping, "PING\r\n")+6:]), r.now)
}

func take(conn link) string {
	out := ""
	for b := conn.NextWrite(); len(b) > 0; b = conn.NextWrite() {
		out += string(b)
		conn.Wrote(len(b))
	}
	return out
}

// A node that closes the connection of a WATCH is no node that cannot be reached: the
// client learns at EXEC that it has to try again.
func TestWatchLosesItsConnection(t *testing.T) {
	for _, written := range []bool{false, true} {
		r, conn := watchRig(t)
		r.feed(cmd("WATCH", onA))
		if written {
			take(conn)
		}
		conn.Fail(r.now, "reset")
		if got := r.got(); got != "+OK\r\n" {
			t.Errorf("written %t: WATCH is answered %q", written, got)
		}
		r.feed("MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n")
		if got := r.got(); got != "+OK\r\n+QUEUED\r\n*-1\r\n" {
			t.Errorf("written %t: the transaction is answered %q", written, got)
		}
		if n := r.w.nodes[0]; n.exclusive != 0 || len(n.waits) != 0 {
			t.Errorf("written %t: %d connections are held", written, n.exclusive)
		}
	}
}

func TestWatch(t *testing.T) {
	block := cmd("MULTI") + cmd("SET", onA, "1") + cmd("EXEC")
	transact := "MULTI\r\n" + cmd("SET", onA, "1") + "EXEC\r\n"
	const begun = "+OK\r\n+QUEUED\r\n"
	for name, c := range map[string]struct{ replies, want string }{
		"unchanged":         {"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", "*1\r\n+OK\r\n"},
		"changed":           {"+OK\r\n+QUEUED\r\n*-1\r\n", "*-1\r\n"},
		"moved when queued": {"+OK\r\n-MOVED 3300 10.0.0.2:1\r\n" + execAbort, "*-1\r\n"},
		"moved at EXEC":     {"+OK\r\n+QUEUED\r\n-ASK 3300 10.0.0.2:1\r\n", "*-1\r\n"},
		"demoted":           {"+OK\r\n-READONLY You can't write against a read only replica.\r\n" + execAbort, "*-1\r\n"},
		"out of memory": {"+OK\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n" + execAbort,
			"-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.\r\n"},
	} {
		r, conn := watchRig(t)
		r.feed(transact)
		if got := take(conn); got != block {
			t.Fatalf("%s: sent %q", name, got)
		}
		conn.Received([]byte(c.replies), r.now)
		if got := r.got(); got != begun+c.want {
			t.Errorf("%s: %q", name, got)
		}
		if r.sent(0)+r.sent(1) != "" {
			t.Errorf("%s: something was sent again", name)
		}
		if n := r.w.nodes[0]; n.exclusive != 0 || len(n.idle) != 1 {
			t.Errorf("%s: %d connections in use, %d idle", name, n.exclusive, len(n.idle))
		}
	}
	t.Run("the connection was another in between", func(t *testing.T) {
		r, conn := watchRig(t)
		conn.Fail(r.now, "reset")
		for conn.State() != pool.Dialing {
			r.now += int64(time.Second)
			conn.Tick(r.now)
		}
		greet(r, conn)
		r.feed(transact)
		if got := r.got(); got != begun+"*-1\r\n" {
			t.Errorf("%q", got)
		}
		if got := take(conn); strings.Contains(got, "EXEC") {
			t.Errorf("sent %q", got)
		}
	})
	t.Run("lost before EXEC is sent", func(t *testing.T) {
		r, conn := watchRig(t)
		r.feed(transact)
		conn.Wrote(len(conn.NextWrite()) - len(cmd("EXEC")))
		conn.Fail(r.now, "reset")
		if got := r.got(); got != begun+"*-1\r\n" {
			t.Errorf("%q", got)
		}
	})
	t.Run("lost after EXEC was sent", func(t *testing.T) {
		r, conn := watchRig(t)
		r.feed(transact)
		take(conn)
		conn.Fail(r.now, "reset")
		if got := r.got(); !strings.Contains(got, "may have been executed") {
			t.Errorf("%q", got)
		}
	})
	t.Run("the slot has another owner", func(t *testing.T) {
		r, conn := watchRig(t)
		id, _ := r.w.table.ByAddr("10.0.0.2:1")
		r.w.moveSlot(3300, id)
		r.feed(transact)
		if got := r.got(); got != begun+"*-1\r\n" {
			t.Errorf("%q", got)
		}
		if got := take(conn); got != cmd("UNWATCH") {
			t.Errorf("sent %q", got)
		}
	})
	for _, end := range []string{"UNWATCH", "DISCARD", "RESET"} {
		t.Run(end, func(t *testing.T) {
			r, conn := watchRig(t)
			if end == "DISCARD" {
				r.feed("MULTI\r\n")
			}
			r.feed(end + "\r\n")
			if got := take(conn); got != cmd("UNWATCH") {
				t.Errorf("sent %q", got)
			}
			conn.Received([]byte("+OK\r\n"), r.now)
			if n := r.w.nodes[0]; n.exclusive != 0 || len(n.idle) != 1 {
				t.Errorf("%d connections in use, %d idle", n.exclusive, len(n.idle))
			}
		})
	}
	t.Run("the client leaves", func(t *testing.T) {
		r, conn := watchRig(t)
		r.w.Gone(r.s)
		r.w.Tick()
		if conn.State() != pool.Closed || r.w.nodes[0].exclusive != 0 {
			t.Errorf("the connection is %s, %d in use", conn.State(), r.w.nodes[0].exclusive)
		}
	})
}
