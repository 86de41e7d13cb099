package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/pull"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// movers are the nodes at the other ends of the connections over which keys move.
type movers struct {
	r       *rig
	before  func(command string) // called before a node executes one
	moved   string               // the address of the node that answers MOVED
	isEmpty bool                 // the nodes have no keys
	sent    map[string][]string  // by the node's address, the names of the commands
	read    []string             // the keys that have been read, in order
	value   string               // what DUMP returns
	queued  int                  // commands of the transaction that a node is in; -1: it will be discarded
	hangs   string               // the address of the node that executes nothing in round trips
	isFull  bool                 // they have no room for guards
	get     string               // their reply to GET
	info    string               // and to INFO
	fits    int                  // keys for which a node has room in a transaction; 0: any
	copies  map[*pool.Link]bool  // the connections to destinations
}

func newMovers(r *rig) *movers {
	return &movers{
		r: r, value: "abc", sent: map[string][]string{}, copies: map[*pool.Link]bool{}, before: func(string) {},
	}
}

// count returns how often all nodes were sent a command.
func (m *movers) count(name string) (n int) {
	for _, names := range m.sent {
		for _, sent := range names {
			if sent == name {
				n++
			}
		}
	}
	return n
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

// roundTrip lets the nodes execute what they have got by now, and no more.
func (m *movers) roundTrip() {
	m.r.pass(10 * time.Millisecond)
	frames := make([]string, len(m.r.apart))
	for i, l := range m.r.apart {
		if l.Addr != m.hangs {
			frames[i] = take(l)
		}
	}
	for i, l := range m.r.apart[:len(frames)] {
		switch {
		case l.State() == pool.Dialing:
			l.Connected(m.r.now)
		case l.State() == pool.Greeting && frames[i] != "":
			l.Received([]byte(greetingAnswer(frames[i])), m.r.now)
		case frames[i] != "":
			m.execute(l, frames[i])
		}
	}
	m.r.endTurn()
}

// touch lets a client read a key, and returns how many round trips that takes before its new node gets the command.
func (m *movers) touch(s *Session, key string) (roundTrips int) {
	m.r.t.Helper()
	m.r.w.Received(s, []byte(cmd("GET", key)))
	for m.r.endTurn(); !m.answers(); roundTrips++ {
		if m.roundTrip(); roundTrips == 30 {
			m.r.t.Fatalf("key %s has not come; the client got %q", key, outputOf(s))
		}
	}
	return roundTrips
}

// answers answers the client's command that a node has got, and returns false if none has.
func (m *movers) answers() bool {
	for i := range 2 {
		if m.r.sent(i) != "" {
			m.r.node(i, "$1\r\nx\r\n")
			return true
		}
	}
	return false
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
		if name == "WATCH" {
			m.copies[l] = true
		}
		reply := "+OK\r\n"
		switch isGuard := p.Len() > 1 && strings.HasPrefix(string(p.Arg(1)), "keyway:guard:"); {
		case l.Addr == m.moved:
			reply = "-MOVED 1 10.0.0.3:1\r\n"
		case name == "MULTI":
			m.queued = 0
		case name == "RESTORE" && m.fits > 0 && m.queued == m.fits:
			reply, m.queued = "-OOM command not allowed when used memory > 'maxmemory'.\r\n", -1
		case name == "EXEC" && m.queued < 0:
			reply = "-EXECABORT Transaction discarded because of previous errors.\r\n"
		case (name == "RESTORE" || name == "DEL") && m.queued < 0:
			reply = "+QUEUED\r\n"
		case name == "RESTORE", name == "DEL":
			m.queued++
			reply = "+QUEUED\r\n"
		case name == "MEMORY" && m.isEmpty:
			reply = "$-1\r\n"
		case name == "MEMORY":
			reply = fmt.Sprintf(":%d\r\n", len(m.value))
		case name == "SET" && m.isFull:
			reply = "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
		case name == "EXISTS" && m.isEmpty && !isGuard,
			name == "EXISTS" && m.isFull && isGuard,
			name == "EXISTS" && !isGuard && m.copies[l]:
			reply = ":0\r\n"
		case name == "EXISTS", name == "OBJECT":
			reply = ":1\r\n"
		case name == "GET", name == "INFO":
			reply = map[string]string{"GET": m.get, "INFO": resp2Bulk(m.info)}[name]
		case name == "TIME":
			reply = "*2\r\n$4\r\n1000\r\n$1\r\n0\r\n"
		case name == "EXEC":
			reply = fmt.Sprintf("*%d\r\n", m.queued) + strings.Repeat("+OK\r\n", m.queued)
		case name == "UNLINK":
			reply = ":1\r\n"
		case name == "PEXPIRETIME":
			reply = ":-1\r\n"
		case name == "DUMP" && m.isEmpty:
			reply = "$-1\r\n"
		case name == "DUMP":
			m.read = append(m.read, string(p.Arg(1)))
			reply = fmt.Sprintf("$%d\r\n%s\r\n", len(m.value), m.value)
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
	m := newMovers(r)
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

// TestRoundTripsOfAKey: while the former node has nearly all keys that it is asked for, a batch begins without waiting
// for what it says of the next one: that saves a round trip. A key that it does not have takes one, as before, also
// if a batch is under way. When it lacks keys, no batch begins in vain.
func TestRoundTripsOfAKey(t *testing.T) {
	r := newRig(t, Options{})
	r.replaceLayout(movingTable(t, r))
	m := newMovers(r)
	keys := 0
	touch := func(s *Session) int {
		keys++
		return m.touch(s, fmt.Sprintf("{k}:%d", keys))
	}
	touch(r.s) // connects
	first := touch(r.s)
	for range 20 {
		touch(r.s)
	}
	if later := touch(r.s); first != 5 || later != 4 {
		t.Errorf("a key has come after %d round trips, later after %d", first, later)
	}
	r.feed(cmd("GET", "{k}:under way"))
	m.roundTrip()
	m.roundTrip()
	moved := m.count("UNLINK")
	m.isEmpty = true
	if n := touch(r.w.Open(nil, "peer:2", "")); n != 1 || m.count("UNLINK") != moved {
		t.Errorf("a key that had left took %d round trips beside another one", n)
	}
	for range 10 {
		m.turn()
	}
	m.answers()
	for range 10 {
		if n := touch(r.s); n != 1 {
			t.Errorf("a key that had left took %d round trips", n)
		}
	}
	for range 10 {
		m.turn()
	}
	begun := m.count("WATCH")
	for range 10 {
		touch(r.s)
	}
	if n := m.count("WATCH") - begun; n > 0 {
		t.Errorf("%d batches have begun in vain", n)
	}
}

// TestAbsentKeyOnAFullNode: the new node of a key says that it is full before the former one says that it has no such
// key. The command is executed all the same: nothing has to move.
func TestAbsentKeyOnAFullNode(t *testing.T) {
	r := newRig(t, Options{})
	r.replaceLayout(movingTable(t, r))
	m := newMovers(r)
	for i := range 20 {
		m.touch(r.s, fmt.Sprintf("{k}:%d", i))
	}
	m.isFull, m.isEmpty = true, true
	for addr, names := range m.sent {
		if slices.Contains(names, "DUMP") { // the former node
			m.hangs = addr
		}
	}
	r.feed(cmd("GET", "{k}:absent"))
	for range 5 {
		m.roundTrip()
	}
	m.hangs = ""
	m.touch(r.s, "{k}:behind")
	if out := r.got(); strings.Contains(out, "OOM") {
		t.Errorf("the client got %q", out)
	}
}

// TestSlotMovesMeanwhile: the slot of a key that is on its way gets another owner. The key goes there.
func TestSlotMovesMeanwhile(t *testing.T) {
	r := newRig(t, Options{})
	moving := movingTable(t, r)
	r.replaceLayout(moving)
	id := 0
	if slots.Of([]byte("k")) >= 8192 {
		id = 1
	}
	m := newMovers(r)
	m.moved = moving.Nodes[id].Addr
	r.feed("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
	for range 10 {
		m.turn()
	}
	if len(m.sent[m.moved]) == 0 {
		t.Fatal("the former owner of the slot was not asked")
	}
	nodes := append(slices.Clone(moving.Nodes[:2]), router.Node{Name: "c", Addr: "10.0.0.3:1", Master: true})
	owned := make([][]slots.Range, 3)
	owned[1-id], owned[2] = []slots.Range{{First: 0, Last: 8191}}, []slots.Range{{First: 8192, Last: 16383}}
	if id == 0 {
		owned[1-id], owned[2] = owned[2], owned[1-id]
	}
	next, err := router.NewStaticSlots(nodes, owned)
	if err != nil {
		t.Fatal(err)
	}
	lower, upper := []slots.Range{{First: 0, Last: 8191}}, []slots.Range{{First: 8192, Last: 16383}}
	older, err := router.NewStaticSlots(nodes[:2], [][]slots.Range{upper, lower})
	if err != nil {
		t.Fatal(err)
	}
	r.w.Turn(r.now, time.Unix(1000, 0))
	r.w.SetTable(router.Moving(older, next))
	r.endTurn()
	for range 20 {
		m.turn()
	}
	if !slices.Contains(m.sent["10.0.0.3:1"], "RESTORE") {
		t.Errorf("the nodes got %q", m.sent)
	}
}

// TestBlockedClientOutlivesChanges: a blocked client waits at one node after another, for less than the
// request timeout at each, but for longer in all. It gets no error when its connection ends with a change.
func TestBlockedClientOutlivesChanges(t *testing.T) {
	r := newRig(t, Options{})
	id := int(slots.Of([]byte("k")) / 8192)
	r.feed(cmd("BLPOP", "k", "0"))
	for range 3 {
		conn := r.exclusive(id)
		if sent := take(conn); !strings.Contains(sent, "BLPOP") {
			t.Fatalf("the node got %q", sent)
		}
		conn.Received([]byte(":7\r\n"), r.now)
		r.pass(2 * time.Second / 3) // the timeout is a second
		r.w.Turn(r.now, time.Unix(1000, 0))
		pull.Hold(r.w, r.now+int64(time.Second))
		r.endTurn()
		if sent := r.sent(id); !strings.Contains(sent, "UNBLOCK") {
			t.Fatalf("the wait was not ended: %q", sent)
		}
		r.node(id, ":1\r\n")
		conn.Received([]byte("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"), r.now)
		pull.EndHold(r.w)
	}
	pool.Renew(&r.exclusive(id).Link, r.now, "the layout has changed")
	if got := r.got(); got != "" {
		t.Errorf("the client got %q", got)
	}
	if sent := take(r.exclusive(id)); !strings.Contains(sent, "BLPOP") {
		t.Errorf("the command was not sent anew: %q", sent)
	}
}

// TestHoldOutlivesReload: clients' commands wait for the change of the layout. Another table of the same
// epoch, which a keyway takes when it is reloaded, or learns late that the last change is done, does not let
// them go: nodes are about to end the connections over which they would be sent.
func TestHoldOutlivesReload(t *testing.T) {
	r := newRig(t, Options{})
	id := int(slots.Of([]byte("k")) / 8192)
	same := r.w.Table
	r.w.Turn(r.now, time.Unix(1000, 0))
	pull.Hold(r.w, r.now+int64(time.Second))
	r.feed(cmd("GET", "k"))
	r.replaceLayout(same)
	if sent := r.sent(id); sent != "" {
		t.Errorf("the node got %q", sent)
	}
	o := r.w.Options
	o.Backend.Epoch = 1
	Configure(r.w, o)
	r.replaceLayout(same)
	if sent := r.sent(id); !strings.Contains(sent, "GET") {
		t.Errorf("the node got %q in the next epoch", sent)
	}
}

// TestHoldWhileKeysMove: while keyways hold commands to take a change back, those for keys that stay wait, too.
func TestHoldWhileKeysMove(t *testing.T) {
	r := newRig(t, Options{})
	lower, upper, _, _ := layouts(t)
	r.replaceLayout(router.Moving(lower, upper))
	id := int(slots.Of([]byte("k")) / 8192)
	r.feed(cmd("GET", "k"))
	if sent := r.sent(id); !strings.Contains(sent, "GET") {
		t.Fatalf("the key does not stay: the node got %q", sent)
	}
	r.w.Turn(r.now, time.Unix(1000, 0))
	pull.Hold(r.w, r.now+int64(time.Second))
	r.feed(cmd("GET", "k"))
	if sent := r.sent(id); sent != "" {
		t.Errorf("the node got %q", sent)
	}
	pull.EndHold(r.w)
	r.endTurn()
	if sent := r.sent(id); !strings.Contains(sent, "GET") {
		t.Errorf("the node got %q after the hold", sent)
	}
}
