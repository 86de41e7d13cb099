package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/slots"
)

func resp2Bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

// incarnation returns what a node says of itself in INFO, as far as that tells its incarnations apart.
func incarnation(run, data, role string) string {
	return fmt.Sprintf("run_id:%s\r\nrole:%s\r\nmaster_replid:%s\r\n", strings.Repeat(run, 40), role,
		strings.Repeat(data, 40))
}

// stayRig has a table whose keys move all, and former nodes that are known to be those of before the change.
func stayRig(t *testing.T) (*rig, *movers) {
	before := strings.Repeat("a", 16) + strings.Repeat("b", 16)
	r := newRig(t, Options{Moves: Moves{Incarnations: map[string]string{"10.0.0.1:1": before, "10.0.0.2:1": before}}})
	r.replaceLayout(movingTable(t, r))
	m := newMovers(r)
	m.info, m.get = incarnation("a", "b", "master"), "$1\r\nv\r\n"
	m.reads(cmd("GET", "{1}first")) // the source is connected, and asked who it is
	if m.count("INFO") == 0 || m.count("DUMP") != 1 {
		t.Fatalf("the nodes got %q", m.sent)
	}
	return r, m
}

// reads lets a client send commands, and returns the reply to the first and how many keys came.
func (m *movers) reads(commands ...string) (reply string, came int) {
	before := m.count("DUMP")
	m.r.feed(strings.Join(commands, ""))
	for range 30 {
		m.roundTrip()
		m.answers()
		m.r.endTurn()
	}
	return m.r.got(), m.count("DUMP") - before
}

// TestReadOfAKeyThatStays: a GET is answered by the former node of its key if that has it, and by the new one if not.
// Whatever else that may say, or a client may do, brings the key.
func TestReadOfAKeyThatStays(t *testing.T) {
	for name, of := range map[string]struct {
		get      string
		commands []string
		want     string
		comes    int
	}{
		"it is there":      {"$3\r\nabc\r\n", []string{cmd("GET", "{1}k")}, "$3\r\nabc\r\n", 0},
		"it is empty":      {"$0\r\n\r\n", []string{cmd("GET", "{1}k")}, "$0\r\n\r\n", 0},
		"it has left":      {"$-1\r\n", []string{cmd("GET", "{1}k")}, "$1\r\nx\r\n", 0},
		"it is no string":  {"-WRONGTYPE x\r\n", []string{cmd("GET", "{1}k")}, "-WRONGTYPE x\r\n", 0},
		"the node refuses": {"-LOADING x\r\n", []string{cmd("GET", "{1}k")}, "$1\r\nx\r\n", 1},
		"it is large": {resp2Bulk(strings.Repeat("v", 70000)), []string{cmd("GET", "{1}k")}, "$1\r\nx\r\n",
			1},
		"a write":                 {"$1\r\nv\r\n", []string{cmd("SET", "{1}k", "v")}, "$1\r\nx\r\n", 1},
		"a read of another kind":  {"$1\r\nv\r\n", []string{cmd("STRLEN", "{1}k")}, "$1\r\nx\r\n", 1},
		"with commands behind it": {"$1\r\nv\r\n", []string{cmd("GET", "{1}k"), cmd("GET", "{1}l")}, "$1\r\nx\r\n", 2},
		"in a transaction": {"$1\r\nv\r\n", []string{cmd("MULTI"), cmd("GET", "{1}k")},
			"+OK\r\n+QUEUED\r\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, m := stayRig(t)
			m.get = of.get
			if got, came := m.reads(of.commands...); got != of.want || came != of.comes {
				t.Errorf("got %.60q, and %d keys came; want %.60q and %d", got, came, of.want, of.comes)
			}
		})
	}
}

// TestReadBehindAWrite: a GET whose client waits for a reply is not answered by a node that may not have done yet what
// the client has asked for.
func TestReadBehindAWrite(t *testing.T) {
	r, m := stayRig(t)
	r.feed(cmd("SET", "{1}first", "new"))
	r.feed(cmd("GET", "{1}k"))
	for range 30 {
		m.roundTrip()
	}
	if m.count("GET") > 0 || m.count("DUMP") != 2 {
		t.Errorf("the nodes got %q", m.sent)
	}
}

// TestReadOfARestartedNode: a former node that was restarted, or has become a replica since, may have keys again that
// have left. What it has is not what clients get.
func TestReadOfARestartedNode(t *testing.T) {
	for name, now := range map[string]string{
		"restarted": incarnation("c", "b", "master"), "promoted": incarnation("a", "c", "master"),
		"a replica": incarnation("a", "b", "slave"), "silent": "",
	} {
		t.Run(name, func(t *testing.T) {
			r, m := stayRig(t)
			if _, came := m.reads(cmd("GET", "{1}k")); came != 0 {
				t.Fatal("it is not read from before")
			}
			m.info = now
			r.pass(time.Second)
			m.reads(cmd("GET", "{1}l")) // asks again
			if got, came := m.reads(cmd("GET", "{1}m")); got != "$1\r\nx\r\n" || came != 1 {
				t.Errorf("got %q, and %d keys came", got, came)
			}
		})
	}
}

// TestReadOverAnotherConnection: a node that has ended its connections may be another instance.
func TestReadOverAnotherConnection(t *testing.T) {
	r, m := stayRig(t)
	source := r.w.Table.Nodes[1-int(slots.Of([]byte("{1}k"))/8192)].Addr
	for _, l := range r.apart {
		if l.Addr == source {
			l.Fail(r.now, "cut")
		}
	}
	m.info = incarnation("c", "b", "master")
	if got, came := m.reads(cmd("GET", "{1}k")); got != "$1\r\nx\r\n" || came != 1 {
		t.Errorf("got %q, and %d keys came", got, came)
	}
	if got, came := m.reads(cmd("GET", "{1}l")); got != "$1\r\nx\r\n" || came != 1 {
		t.Errorf("got %q, and %d keys came", got, came)
	}
}

// TestReadOfASilentNode: a client whose read the former node does not answer gets an error in time.
func TestReadOfASilentNode(t *testing.T) {
	r, m := stayRig(t)
	m.hangs = r.w.Table.Nodes[1-int(slots.Of([]byte("{1}k"))/8192)].Addr
	if got, came := m.reads(cmd("GET", "{1}k")); got != "" || came != 0 {
		t.Errorf("got %q, and %d keys came", got, came)
	}
	r.pass(time.Second) // the timeout
	r.endTurn()
	want := "-TRYAGAIN keyway: key \"{1}k\" is still being moved from node "
	if got := r.got(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "the command was not executed\r\n") {
		t.Errorf("got %q", got)
	}
}

// TestReadOfAClientThatTracks: the invalidations that a client wants come from the node that answers it. One that asks
// for CLIENT NO-TOUCH has told only that node so. What a client with an account at the nodes may read they decide.
func TestReadOfAClientThatTracks(t *testing.T) {
	for name, state := range map[string]engine.State{
		"tracks": engine.Tracks, "does not touch": engine.NoTouch, "has an account at the nodes": engine.OfNodes,
	} {
		t.Run(name, func(t *testing.T) {
			r, m := stayRig(t)
			r.become(state)
			r.feed(cmd("GET", "{1}k"))
			for range 2 {
				m.roundTrip()
			}
			if m.count("GET") > 0 || m.count("EXISTS") < 2 {
				t.Errorf("the nodes got %q", m.sent)
			}
		})
	}
}

// TestReadWhenTheLayoutChanges: a read that is under way when the next layout comes begins anew by that.
func TestReadWhenTheLayoutChanges(t *testing.T) {
	r, m := stayRig(t)
	r.feed(cmd("GET", "{1}k"))
	older := r.w.Table
	_, settled := older.Sides()
	r.replaceLayout(settled)
	for range 10 {
		m.roundTrip()
		m.answers()
		r.endTurn()
	}
	if got := r.got(); got != "$1\r\nx\r\n" {
		t.Errorf("got %q", got)
	}
}
