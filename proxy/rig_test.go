package proxy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// The rig is what tests need of a Worker. What it takes from unexported fields stands in this
// file alone, so that the tests do not change when the fields do.

// rig is a worker with two standalone nodes on static slots, a below 8192 and b
// from there on, driven by hand.
type rig struct {
	t   testing.TB
	w   *Worker
	s   *Session
	now int64

	seen map[*pool.Link]bool // all links that the shell has been shown
	// apart are those of them, in order, that are none of the nodes' shared connections, and
	// were taken for no command: the feeds, and the connections of clients that track.
	apart []*pool.Link
}

func newRig(t testing.TB, o Options) *rig {
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "b", Addr: "10.0.0.2:1", Master: true}}
	table, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	o.Backend = pool.Config{ConnectTimeout: time.Second, RequestTimeout: time.Second}
	r := &rig{t: t, w: New(o, table), now: int64(time.Hour), seen: map[*pool.Link]bool{}}
	r.w.Turn(r.now, time.Unix(1000, 0))
	for _, n := range r.w.Nodes {
		for _, c := range n.Shared.Conns {
			c.Connected(r.now)
			greeting := string(c.NextWrite())
			c.Wrote(len(greeting), r.now)
			c.Received([]byte(greetingAnswer(greeting)), r.now)
		}
	}
	r.s = r.w.Open(nil, "peer:1", "keyway:1")
	r.endTurn()
	r.w.Server.NextHello = math.MaxInt64
	return r
}

// newClusterRig is a rig whose two nodes are a Redis Cluster.
func newClusterRig(t testing.TB, o Options) *rig {
	r := newRig(t, o)
	r.w.SetTable(clusterTable(t))
	for _, n := range r.w.Nodes {
		greet(r, n.Shared.Conns[0])
	}
	r.endTurn()
	return r
}

func clusterTable(t testing.TB) *router.Table {
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true, Aliases: []string{"a.example:1"}},
		{ID: "b", Addr: "10.0.0.2:1", Master: true}},
		[][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	return router.NewSlots(m)
}

func newFailoverRig(t *testing.T, o Options) *rig {
	r := newRig(t, o)
	r.w.SetTable(failoverTable(t, ""))
	for _, n := range r.w.Nodes[:2] {
		greet(r, n.Shared.Conns[0])
	}
	r.endTurn()
	return r
}

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

// readRig is a rig whose node a has two replicas, on static slots or as a cluster.
// Node 0 is a, 1 is b, and the replicas come behind, in step.
func readRig(t testing.TB, o Options, cluster bool) *rig {
	t.Helper()
	r := newRig(t, o)
	table := r.w.Table.WithReplicas([][]string{{"10.0.1.1:1", "10.0.1.2:1"}})
	if cluster {
		m, err := slots.NewMap([]slots.Node{{Addr: "10.0.0.1:1", Master: true}, {Addr: "10.0.0.2:1", Master: true},
			{Addr: "10.0.1.1:1", Of: "10.0.0.1:1"}, {Addr: "10.0.1.2:1", Of: "10.0.0.1:1"}},
			[][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
		if err != nil {
			t.Fatal(err)
		}
		table = router.NewSlots(m)
	}
	r.w.SetTable(table)
	r.look() // connects
	for i, n := range r.w.Nodes {
		if n.Shared.Conns[0].State().String() == "dialing" {
			said := strings.Join(answerAll(r, n.Shared.Conns[0]), "")
			want := map[bool]string{true: "READONLY", false: "READWRITE"}[i >= 2]
			if strings.Contains(said, want) != cluster {
				t.Fatalf("node %d was greeted with %q", i, said)
			}
		}
	}
	r.inStep(0)
	return r
}

// sent is what a node's connection has to write.
func (r *rig) sent(node int) string {
	out := ""
	for c := r.w.Nodes[node].Shared.Conns[0]; len(c.NextWrite()) > 0; {
		out += string(c.NextWrite())
		c.Wrote(len(c.NextWrite()), r.now)
	}
	return out
}

// dies ends a node's connection, and the attempt to connect anew.
func (r *rig) dies(node int) {
	c := r.w.Nodes[node].Shared.Conns[0]
	c.Fail(r.now, "reset")
	for c.State() != pool.Dialing {
		r.pass(10 * time.Millisecond)
	}
	c.Fail(r.now, "connection refused")
}

// sharedAll returns the shared connections to a node: first keyway's, then those of other states and users.
func (r *rig) sharedAll(node int) []*pool.Conn { return r.w.Nodes[node].Shared.Conns }

// connOf returns a client's connection to a node.
func (r *rig) connOf(s *Session, node int) *pool.Conn { return r.w.Nodes[node].Conn(s) }

// shared returns the connection to a node that clients in the default state share.
func (r *rig) shared(node int) *pool.Conn { return r.w.Nodes[node].Shared.Conns[0] }

func (r *rig) node(node int, reply string) {
	r.w.Nodes[node].Shared.Conns[0].Received([]byte(reply), r.now)
}

// become puts the client into a state.
func (r *rig) become(state engine.State) { r.s.Set(state) }

func (r *rig) feed(s string) { r.w.Received(r.s, []byte(s)); r.endTurn() }

// EndTurn ends a turn, and keeps in mind the links that it shows.
func (r *rig) endTurn() *Ready {
	ready := r.w.EndTurn()
	for _, l := range ready.Links {
		if !r.seen[l] {
			r.seen[l] = true
			if !r.carriesCommands(l) {
				r.apart = append(r.apart, l)
			}
		}
	}
	return ready
}

// carriesCommands reports whether a link is a shared connection or was taken for a command.
func (r *rig) carriesCommands(l *pool.Link) bool {
	for _, n := range r.w.Nodes {
		for _, c := range n.Shared.Conns {
			if &c.Link == l {
				return true
			}
		}
		for _, use := range n.InUse {
			if &use.Conn.Link == l {
				return true
			}
		}
	}
	return false
}

// last returns the last link to a node that was shown and is of a kind, or nil.
func (r *rig) last(node int, kind func(*pool.Link) bool) *pool.Link {
	for _, l := range slices.Backward(r.apart) {
		if l.Addr == r.w.Table.Nodes[node].Addr && l.State() != pool.Closed && kind(l) {
			return l
		}
	}
	return nil
}

// isFeed reports whether a link outside the shared ones is for subscriptions. These are all
// in RESP2. The one for invalidations is in RESP3, and a client's own connection has a
// CLIENT TRACKING in its greeting.
func isFeed(l *pool.Link) bool             { return l.Prelude == nil && !l.RESP3 }
func isInvalidationFeed(l *pool.Link) bool { return l.Prelude == nil && l.RESP3 }
func isOwn(l *pool.Link) bool              { return l.Prelude != nil }

// turn has the client send in and take what comes of it. It takes no memory itself.
func (r *rig) turn(in []byte, answer func()) {
	r.w.Turn(r.now, r.w.Wall)
	r.w.Received(r.s, in)
	for _, c := range r.endTurn().Links {
		for out := c.NextWrite(); len(out) > 0; out = c.NextWrite() {
			c.Wrote(len(out), r.now)
		}
	}
	answer()
	for _, s := range r.endTurn().Sessions {
		for out := s.Output(); len(out) > 0; out = s.Output() {
			s.Wrote(len(out))
		}
	}
	r.w.Taken()
}

// asked has a sibling do what the worker wants of it, and answer.
func (r *rig) asked(sibling *rig) {
	for _, ask := range r.endTurn().Asks {
		if answer := ask.Do(sibling.w); ask.Token != 0 {
			defer r.w.Answered(ask.Token, answer)
		}
	}
	r.w.Taken()
}

// got is what the client is sent.
func (r *rig) got() string {
	r.endTurn()
	out := ""
	for len(r.s.Output()) > 0 {
		b := r.s.Output()
		out += string(b)
		r.s.Wrote(len(b))
	}
	return out
}

// plain returns a node's first shared connection. The node is never asked for its software.
func (r *rig) plain(node int) *pool.Conn {
	r.w.Server.NextHello = math.MaxInt64
	return r.w.Nodes[node].Shared.Conns[0]
}

func (r *rig) pass(d time.Duration) {
	for end := r.now + int64(d); r.now < end; {
		r.now += int64(10 * time.Millisecond)
		r.w.Turn(r.now, time.Unix(1000, 0))
		r.w.Tick()
		r.endTurn()
	}
}

// exclusive brings up the connection that was taken last for one client.
func (r *rig) exclusive(node int) *pool.Conn {
	r.t.Helper()
	r.endTurn()
	waits := r.w.Nodes[node].InUse
	if len(waits) == 0 {
		r.t.Fatal("no connection was taken")
	}
	conn := waits[len(waits)-1].Conn
	if conn.State() != pool.Ready { // it may be one that was idle
		greet(r, conn)
	}
	return conn
}

// ask makes the client send a command about a key of node a, and returns the connection on which the node gets it.
func (r *rig) ask(command string) *pool.Conn {
	r.feed(command)
	conn := r.shared(0)
	switch {
	case len(r.w.Nodes[0].InUse) > 0:
		conn = r.exclusive(0)
	case conn.State() != pool.Ready: // it has taken the place of one with a large reply
		greet(r, conn)
	}
	take(conn)
	return conn
}

// bytesOut returns how many bytes were counted as sent to the client, and how many of them as forwarded.
func (r *rig) bytesOut() (all, forwarded int) {
	if r.w.Stats.BytesOut != r.s.BytesOut {
		r.t.Errorf("%d bytes were sent to the client, and %d to all", r.s.BytesOut, r.w.Stats.BytesOut)
	}
	return int(r.s.BytesOut), int(r.w.Stats.BytesForwarded)
}

// answerAlone answers what was last sent over a connection of its own.
func (r *rig) answerAlone(node int, reply string) {
	conn := r.exclusive(node)
	take(conn)
	conn.Received([]byte(reply), r.now)
}

// conns are the links of all connections to a node, brought up, and what they had to
// write written.
func (r *rig) conns(node int) (all []*pool.Link) {
	n := r.w.Nodes[node]
	for _, c := range n.Shared.Conns {
		all = append(all, &c.Link)
	}
	for _, use := range n.InUse {
		all = append(all, &use.Conn.Link)
	}
	for _, l := range r.apart {
		if l.Addr == n.Addr && l.State() != pool.Closed {
			all = append(all, l)
		}
	}
	for _, c := range all {
		if c.State() == pool.Dialing {
			answerAll(r, c)
		}
		take(c)
	}
	return all
}

// look lets it be time for a look at the replicas.
func (r *rig) look() {
	r.now = max(r.now+int64(100*time.Millisecond), r.w.Reads.Replicas.Next())
	r.w.Turn(r.now, time.Unix(1000, 0))
	r.w.Tick()
	r.endTurn()
}

// inStep answers a look: the replicas are so many bytes behind.
func (r *rig) inStep(behind int) {
	r.t.Helper()
	r.look()
	r.asksHow(0, "role:master\r\nmaster_replid:s\r\nmaster_repl_offset:1000\r\n")
	for _, replica := range []int{2, 3} {
		r.asksHow(replica, fmt.Sprintf("role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\n"+
			"slave_repl_offset:%d\r\n", 1000-behind))
	}
}

func (r *rig) asksHow(node int, answer string) {
	r.t.Helper()
	if got := r.sent(node); got != infoFrame {
		r.t.Fatalf("node %d was sent %q", node, got)
	}
	r.node(node, fmt.Sprintf("$%d\r\n%s\r\n", len(answer), answer))
}

// wants checks where a command goes: to the node that answers it, and nowhere else.
func (r *rig) wants(node int, command, answer string) {
	r.t.Helper()
	r.feed(command)
	for i := range r.w.Nodes {
		want := ""
		if i == node {
			want = command
		}
		if got := r.sent(i); got != want {
			r.t.Errorf("%q: node %d was sent %q", command, i, got)
		}
	}
	r.node(node, answer)
	if got := r.got(); got != answer {
		r.t.Errorf("%q: the client got %q", command, got)
	}
}

// replica is the one that the rig's client reads from.
func (r *rig) replica() int { return 2 + int(r.s.ID())%2 }

// redirected makes a client of RESP2 that tracks, and is told through another. It
// greets the connection to node a.
func redirected(t *testing.T, r *rig) (target *Session, own *pool.Link) {
	target = r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Received(target, []byte("CLIENT ID\r\n"))
	id := strings.Trim(outputOf(target), ":\r\n")
	r.w.Received(target, []byte("SUBSCRIBE __redis__:invalidate\r\n"))
	r.confirm()
	r.feed("CLIENT TRACKING ON REDIRECT " + id + "\r\n")
	for node := range r.w.Nodes {
		feed := r.last(node, isInvalidationFeed)
		answerAll(r, feed)
		take(feed)
		feed.Received([]byte("+PONG\r\n"), r.now)
	}
	r.endTurn()
	for node := range r.w.Nodes {
		if c := r.last(node, isOwn); c != nil {
			answerAll(r, c)
			take(c)
			c.Received([]byte("+PONG\r\n"), r.now)
			own = c
		}
	}
	if got := r.got(); got != "+OK\r\n" {
		t.Fatalf("%q", got)
	}
	return target, own
}

// greetAll brings up all connections that the worker has just dialed, and answers a PING that
// waited for that.
func (r *rig) greetAll() {
	for _, c := range r.endTurn().Links {
		if c.State() == pool.Dialing {
			answerAll(r, c)
			for range strings.Count(take(c), "PING") {
				c.Received([]byte("+PONG\r\n"), r.now)
			}
		}
	}
}

// confirm has all nodes confirm what their feeds subscribe to, and no longer.
func (r *rig) confirm() {
	r.endTurn()
	for node := range r.w.Nodes {
		feed := r.last(node, isFeed)
		if feed.State() == pool.Dialing {
			greet(r, feed)
		}
		for _, command := range strings.Split(take(feed), "*2\r\n")[1:] {
			feed.Received([]byte("*3\r\n"+command+":1\r\n"), r.now)
		}
	}
	r.endTurn()
}

// link is a pool.Link, or what has one.
type link interface {
	State() pool.State
	Connected(now int64)
	NextWrite() []byte
	Wrote(n int, now int64)
	Received(b []byte, now int64)
}

func greet(r *rig, conn link) {
	conn.Connected(r.now)
	conn.Received([]byte(greetingAnswer(take(conn))), r.now)
}

func take(conn link) string {
	out := ""
	for b := conn.NextWrite(); len(b) > 0; b = conn.NextWrite() {
		out += string(b)
		conn.Wrote(len(b), 0)
	}
	return out
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

// greetingAnswer is what a node answers to a step of the greeting.
func greetingAnswer(step string) string {
	switch {
	case strings.Contains(step, "HELLO"):
		return "%2\r\n+server\r\n+redis\r\n+id\r\n:42\r\n"
	case strings.Contains(step, "FUNCTION"): // and PING: the node has no register
		return "*0\r\n" + step[strings.Index(step, "PING\r\n")+6:]
	case strings.Contains(step, "PING"):
		return step[strings.Index(step, "PING\r\n")+6:]
	}
	return "+OK\r\n"
}

func outputOf(s *Session) (out string) {
	for len(s.Output()) > 0 {
		out += string(s.Output())
		s.Wrote(len(s.Output()))
	}
	return out
}

func cmd(args ...string) string { return string(resp.AppendCommand(nil, args...)) }

// answered reports whether every command of the client has its reply.
func (r *rig) answered() bool { return !r.s.Expecting() }

// waiting returns how many calls for a node wait to be sent again.
func (r *rig) waiting(node int) int { return r.w.Nodes[node].Retries.Waiting() }

// holdsBuffer reports whether the client holds memory besides its Session.
func (r *rig) holdsBuffer() bool {
	s := r.s
	return s.In != nil || s.Unsent.Memory() > 0 || s.Expecting()
}

// mayAskVersion lets the worker ask a node for its version at the next tick.
func (r *rig) mayAskVersion() { r.w.Server.NextHello = 0 }

// channelOf returns a channel whose messages are published at a node of a cluster.
func (r *rig) channelOf(node int) string {
	publisher := r.w.Open(nil, "peer:3", "keyway:1")
	for i := 0; ; i++ {
		channel := fmt.Sprint("c", i)
		r.w.Received(publisher, []byte(cmd("PUBLISH", channel, "x")))
		found := false
		for n := range r.w.Nodes {
			if r.sent(n) != "" {
				r.node(n, ":0\r\n")
				found = n == node
			}
		}
		if r.endTurn(); found {
			r.w.Gone(publisher)
			return channel
		}
	}
}
