package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// blockers are the commands that may block, each with a key of node a.
var blockers = []string{
	"BLPOP b 3", "BRPOP b 3", "BLMOVE b b LEFT LEFT 3", "BRPOPLPUSH b b 3", "BLMPOP 3 1 b LEFT",
	"BZPOPMIN b 3", "BZPOPMAX b 3", "BZMPOP 3 1 b MIN", "XREAD BLOCK 3000 STREAMS b $",
	"XREADGROUP GROUP g c BLOCK 3000 STREAMS b >",
	"XREADGROUP GROUP streams c BLOCK 3000 STREAMS b >",
	"XREADGROUP GROUP g streams NOACK COUNT 2 block 3000 streams b >",
	"XREADGROUP GROUP block count BLOCK 0 BLOCK 3000 STREAMS b >",
}

// unownedTable is a cluster's in which nobody owns onA's slot.
func unownedTable(t *testing.T) *router.Table {
	t.Helper()
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}, {ID: "b", Addr: "10.0.0.2:1", Master: true}},
		[][]slots.Range{{{First: 0, Last: 3000}}, {{First: 9000, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	return router.NewSlots(m)
}

// Whatever happens to a command that may block, and however often it is sent again, it
// goes over a connection of its client's own.
func TestBlockingCommandsKeepTheirLane(t *testing.T) {
	for _, line := range blockers {
		args := strings.Fields(line)
		for name, sendAgain := range map[string]func(r *rig){
			"a slot without an owner": func(r *rig) {
				whole := r.w.table
				r.w.SetTable(unownedTable(t))
				r.feed(cmd(args...))
				r.w.SetTable(whole)
				r.pass(100 * time.Millisecond)
			},
			"a cluster that is down": func(r *rig) {
				r.feed(cmd(args...))
				conn := r.exclusive(0)
				take(conn)
				conn.Received([]byte(":7\r\n-CLUSTERDOWN The cluster is down\r\n"), r.now)
				r.pass(200 * time.Millisecond)
			},
			"a redirect": func(r *rig) {
				r.feed(cmd(args...))
				conn := r.exclusive(0)
				take(conn)
				conn.Received([]byte(":7\r\n-MOVED 3300 10.0.0.2:1\r\n"), r.now)
				r.w.moveSlot(3300, 0)
			},
		} {
			r := newClusterRig(t)
			sendAgain(r)
			if got := r.sent(0) + r.sent(1); got != "" {
				t.Errorf("%s after %s: sent over a shared connection: %q", line, name, got)
				continue
			}
			node := 0
			if name == "a redirect" {
				node = 1
			}
			conn := r.exclusive(node)
			if got := take(conn); !strings.HasPrefix(got, cmd("CLIENT", "ID")) || !strings.Contains(got, cmd(args[0])[4:]) {
				t.Errorf("%s after %s: sent %q", line, name, got)
				continue
			}
			conn.Received([]byte(":8\r\n*-1\r\n"), r.now)
			if got := r.got(); got != "*-1\r\n" || r.s.blocking != nil || r.w.nodes[node].exclusive != 0 {
				t.Errorf("%s after %s: the client got %q", line, name, got)
			}
		}
	}
}

// TestEveryBlockingCommandIsTried: blockers has all of them.
func TestEveryBlockingCommandIsTried(t *testing.T) {
	for _, name := range strings.Fields("blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop xread xreadgroup") {
		if c := command.Lookup([]byte(name)); c.Handling != command.Block {
			t.Errorf("%s is %s", name, c.Handling)
		}
		if !strings.Contains(strings.ToLower(strings.Join(blockers, "\n")), name+" ") {
			t.Errorf("%s is not tried", name)
		}
	}
}

// A command that waits for its slot to have an owner can be unblocked, and its client
// may leave.
func TestBlockedWithoutAnOwner(t *testing.T) {
	for _, withError := range []bool{false, true} {
		r := newClusterRig(t)
		r.w.SetTable(unownedTable(t))
		r.feed(cmd("BLPOP", onA, "3") + cmd("PING"))
		if !r.w.unblock(r.s.id, withError) {
			t.Fatal("no client was blocked")
		}
		want := map[bool]string{false: "*-1\r\n", true: unblocked}[withError] + "+PONG\r\n"
		if got := r.got(); got != want {
			t.Errorf("the client got %q", got)
		}
	}
	r := newClusterRig(t)
	whole := r.w.table
	r.w.SetTable(unownedTable(t))
	r.feed(cmd("BLPOP", onA, "3"))
	r.w.EOF(r.s)
	r.w.Gone(r.s)
	r.w.SetTable(whole)
	r.pass(200 * time.Millisecond)
	if n := r.w.nodes[0]; n.exclusive != 0 || n.waiting != 0 || r.sent(0) != "" {
		t.Errorf("%d connections in use, %d calls wait", n.exclusive, n.waiting)
	}
}

// A command that does not block goes over the shared connection, whatever its group
// and consumer are called.
func TestStreamsThatDoNotBlock(t *testing.T) {
	for _, line := range []string{"XREAD STREAMS b 0", "XREADGROUP GROUP block block COUNT 1 STREAMS b >", "XREAD COUNT 2 STREAMS b 0"} {
		r := newClusterRig(t)
		r.feed(cmd(strings.Fields(line)...))
		if got := r.sent(0); got != cmd(strings.Fields(line)...) {
			t.Errorf("%s: sent %q", line, got)
		}
	}
}
