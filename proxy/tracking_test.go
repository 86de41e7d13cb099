package proxy

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// answerAll greets a connection whatever its greeting asks, and returns the
// commands that it was sent until the PING at the end.
func answerAll(r *rig, c link) (said []string) {
	c.Connected(r.now)
	for c.State() == pool.Greeting {
		out := string(c.NextWrite())
		c.Wrote(len(out))
		said = append(said, out)
		c.Received([]byte(greetingAnswer(out)), r.now)
	}
	return said
}

// greetingAnswer is what a node answers to a step of the greeting.
func greetingAnswer(step string) string {
	switch {
	case strings.Contains(step, "HELLO"):
		return "%2\r\n+server\r\n+redis\r\n+id\r\n:42\r\n"
	case strings.Contains(step, "PING"):
		return step[strings.Index(step, "PING\r\n")+6:]
	}
	return "+OK\r\n"
}

// tracker is a client of RESP3 that tracks, with its connections to both nodes.
func tracker(t *testing.T) (r *rig, conns []*pool.Conn) {
	r = newRig(t, Options{})
	r.feed("HELLO 3\r\n")
	answerAll(r, r.w.masters[int(r.s.id)%2].conns[1])
	for _, n := range r.w.nodes {
		if len(n.conns) > 1 {
			take(n.conns[1])
			n.conns[1].Received([]byte("+PONG\r\n"), r.now)
		}
	}
	r.got()
	r.feed("CLIENT TRACKING ON BCAST\r\n")
	for _, n := range r.w.nodes {
		c := r.s.tracking.conns[n]
		if said := strings.Join(answerAll(r, c), ""); said != cmd("HELLO", "3")+cmd("CLIENT", "TRACKING", "ON", "BCAST")+cmd("PING", said[strings.Index(said, "keyway-"):len(said)-2]) {
			t.Fatalf("greeted with %q", said)
		}
		take(c)
		c.Received([]byte("+PONG\r\n"), r.now)
		conns = append(conns, c)
	}
	if got := r.got(); got != "+OK\r\n" {
		t.Fatalf("%q", got)
	}
	return r, conns
}

func invalidated(key string) string {
	return ">2\r\n$10\r\ninvalidate\r\n*1\r\n" + string(resp.AppendBulkString(nil, key))
}

// TestPushesKeepTheirPlace: what a node says to be invalid comes behind the
// replies that came before, and in front of those that did not.
func TestPushesKeepTheirPlace(t *testing.T) {
	r, conns := tracker(t)
	conns[0].Received([]byte(invalidated("x")), r.now)
	if got := r.got(); got != invalidated("x") {
		t.Errorf("%q", got)
	}
	r.feed(cmd("GET", onA) + cmd("GET", onB) + cmd("GET", onB))
	for _, c := range conns {
		take(c)
	}
	// The second is answered first, and is no longer valid at once.
	conns[1].Received([]byte("$1\r\n2\r\n"+invalidated(onB)), r.now)
	if got := r.got(); got != "" {
		t.Errorf("out of turn: %q", got)
	}
	conns[0].Received([]byte("$1\r\n1\r\n"), r.now)
	if got := r.got(); got != "$1\r\n1\r\n$1\r\n2\r\n"+invalidated(onB) {
		t.Errorf("%q", got)
	}
	// Nothing that came before stands in the way of this one.
	conns[0].Received([]byte(invalidated("y")), r.now)
	conns[1].Received([]byte("$1\r\n3\r\n"), r.now)
	if got := r.got(); got != invalidated("y")+"$1\r\n3\r\n" {
		t.Errorf("%q", got)
	}
}

// TestLostTrackingInvalidatesAll: a node that is lost knows nothing any more of
// what was read there, nor does one that has become another.
func TestLostTrackingInvalidatesAll(t *testing.T) {
	const nothing = ">2\r\n$10\r\ninvalidate\r\n_\r\n"
	r, conns := tracker(t)
	r.now += int64(2 * time.Second)
	conns[1].Fail(r.now, "reset")
	if got := r.got(); got != nothing {
		t.Errorf("%q", got)
	}
	r.feed("CLIENT TRACKING OFF\r\n" + cmd("GET", onA))
	r.got()
	if c := r.w.nodes[0].conns[1]; !strings.Contains(take(c), "GET") && c.State() != pool.Dialing {
		t.Error("what comes after TRACKING OFF does not take the shared connection")
	}
	r.w.Tick()
	if conns[0].State() != pool.Closed || len(featureOf[*trackers](r.w).sessions) != 0 {
		t.Error("the connections stay")
	}
}

// TestPushesForOneWhoLeft: the connections of a client that has left may still be
// pushed to, until they are closed; their nodes do nothing wrong.
func TestPushesForOneWhoLeft(t *testing.T) {
	r, conns := tracker(t)
	r.w.Gone(r.s)
	conns[0].Received([]byte(invalidated("x")), r.now)
	if conns[0].State() != pool.Ready || conns[0].Stats.Violations != 0 {
		t.Errorf("the connection is %s: %s", conns[0].State(), conns[0].Reason())
	}
	r.w.Tick()
	if conns[0].State() != pool.Closed {
		t.Errorf("the connection is %s", conns[0].State())
	}
}

// TestCachingIsOfOneCommand: whatever that is, unless it is a CLIENT command.
func TestCachingIsOfOneCommand(t *testing.T) {
	const pending = "caching-yes"
	for _, c := range []struct {
		next  string
		stays bool
	}{{"PING", false}, {"GET " + onA, false}, {"GET", false}, {"NOSUCH x", false}, {"MY.GET " + onA, false}, {"CLIENT ID", true}, {"MULTI", true}, {"MULTI\r\nPING", true}, {"MULTI\r\nPING\r\nDISCARD", false}} {
		r := newRig(t, Options{})
		r.w.learned["my.get"] = command.Learn([]byte("*1\r\n*6\r\n$6\r\nmy.get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"))
		r.feed("CLIENT TRACKING ON OPTIN\r\nCLIENT CACHING YES\r\nCLIENT TRACKINGINFO\r\n")
		if got := r.got(); !strings.Contains(got, pending) {
			t.Fatalf("%q", got)
		}
		r.feed(c.next + "\r\n")
		for node := range r.w.nodes {
			if said := r.sent(node); strings.Contains(said, "COMMAND") {
				r.node(node, "*1\r\n*-1\r\n")
			}
		}
		if got := r.s.tracking.choice == cachingYes; got != c.stays {
			t.Errorf("after %q: still pending %t", c.next, got)
		}
	}
}

// TestTrackingOptionsChange: the nodes are told of new options over the connections
// that know what the client has read, so nothing has to be said invalid.
func TestTrackingOptionsChange(t *testing.T) {
	r, conns := tracker(t)
	r.feed("CLIENT TRACKING ON BCAST NOLOOP\r\n")
	if got := r.got(); got != "" {
		t.Errorf("%q before the nodes have answered", got)
	}
	for _, c := range conns {
		if got := take(c); got != cmd("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP") {
			t.Errorf("a node is told %q", got)
		}
		c.Received([]byte("+OK\r\n"), r.now)
	}
	if got := r.got(); got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
	conns[1].Received([]byte(invalidated("x")), r.now)
	if got := r.got(); got != invalidated("x") {
		t.Errorf("%q", got)
	}
	r.feed("CLIENT TRACKINGINFO\r\n")
	if got := r.got(); !strings.Contains(got, "noloop") {
		t.Errorf("%q", got)
	}
	// A node that is not reached is told when it is.
	r.now += int64(2 * time.Second)
	conns[0].Fail(r.now, "reset")
	r.got()
	r.feed("CLIENT TRACKING ON BCAST\r\n")
	take(conns[1])
	conns[1].Received([]byte("+OK\r\n"), r.now)
	if got := r.got(); got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
	if said := strings.Join(answerAll(r, conns[0]), ""); !strings.Contains(said, cmd("CLIENT", "TRACKING", "ON", "BCAST")) {
		t.Errorf("greeted with %q", said)
	}
}

// redirected makes a client of RESP2 that tracks, and is told through another. It
// greets the connection to node a.
func redirected(t *testing.T, r *rig) (target *Session, own *pool.Conn) {
	target = r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Feed(target, []byte("SUBSCRIBE "+invalidations+"\r\n"))
	for _, n := range r.w.nodes {
		greet(r, n.feed)
		take(n.feed)
		n.feed.Received([]byte(cmd("subscribe", invalidations)), r.now)
	}
	r.feed("CLIENT TRACKING ON REDIRECT " + strconv.FormatUint(target.id, 10) + "\r\n")
	for _, n := range r.w.nodes {
		answerAll(r, n.ear)
		take(n.ear)
		n.ear.Received([]byte("+PONG\r\n"), r.now)
	}
	for _, c := range r.s.tracking.conns {
		answerAll(r, c)
		take(c)
		c.Received([]byte("+PONG\r\n"), r.now)
		own = c
	}
	if got := r.got(); got != "+OK\r\n" {
		t.Fatalf("%q", got)
	}
	return target, own
}

func outputOf(s *Session) (out string) {
	for len(s.Output()) > 0 {
		out += string(s.Output())
		s.Wrote(len(s.Output()))
	}
	return out
}

// TestFlushInRESP2 is told with a null string, as Redis does, and once to each
// client, however many others name it.
func TestFlushInRESP2(t *testing.T) {
	r := newRig(t, Options{})
	target, own := redirected(t, r)
	n := own.Owner.(*node)
	for range 2 {
		s := r.w.Open(nil, "peer:3", "keyway:1")
		r.w.track(s, &tracking{w: r.w, sess: s, conns: map[*node]*pool.Conn{n: n.newConn()}, begun: true, trackingOptions: trackingOptions{redirect: target.id}})
	}
	outputOf(target)
	n.ear.Received([]byte(">2\r\n$10\r\ninvalidate\r\n_\r\n"), r.now)
	if got, want := outputOf(target), "*3\r\n$7\r\nmessage\r\n$20\r\n"+invalidations+"\r\n$-1\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTrackingAtANewMaster: a command to a master that is new waits until what the
// node invalidates can be heard; it does not fail.
func TestTrackingAtANewMaster(t *testing.T) {
	r := newRig(t, Options{})
	redirected(t, r)
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "c", Addr: "10.0.0.3:1", Master: true}}
	table, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(table)
	n := r.w.nodes[1]
	r.feed(cmd("GET", onB))
	own := r.s.tracking.conns[n]
	own.Connected(r.now)
	if said := own.NextWrite(); len(said) > 0 || own.State() != pool.Greeting {
		t.Errorf("said %q before the node's pushes can be heard; the connection is %s", said, own.State())
	}
	answerAll(r, n.ear)
	for own.State() == pool.Greeting {

		said := take(own)
		own.Received([]byte(greetingAnswer(said)), r.now)
	}
	if got := take(own); got != cmd("GET", onB) {
		t.Errorf("sent %q", got)
	}
	own.Received([]byte("$1\r\n1\r\n"), r.now)
	if got := r.got(); got != "$1\r\n1\r\n" {
		t.Errorf("%q", got)
	}
}
