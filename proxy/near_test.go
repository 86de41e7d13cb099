package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// nearRig is a rig with near_cache, one hot key, and the connection over which keyway reads its value.
type nearRig struct {
	*rig
	hot      string // the key
	home     int    // its node
	tracking *pool.Link
}

const nearLease = 100 * time.Millisecond

func newNearRig(t testing.TB, change func(*Options)) *nearRig {
	t.Helper()
	r := newHotRig(t, change)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.tracking = r.last(r.home, isOwn)
	answerAll(r.rig, r.tracking)
	return r
}

// newHotRig is newNearRig before a client has used the key that is hot.
func newHotRig(t testing.TB, change func(*Options)) *nearRig {
	t.Helper()
	o := Options{Now: int64(time.Hour), KeyTraffic: KeyTraffic{NearCache: NearCache{
		OneIn: 10, Memory: 1 << 20, MaxValue: 100, Lease: nearLease,
	}}}
	if change != nil {
		change(&o)
	}
	r := &nearRig{rig: newRig(t, o), hot: "{x}hot", home: nodeOf("{x}")}
	r.w.Turn(r.now, time.Unix(1000, 0))
	for range 20 {
		r.feed(cmd("GET", r.hot))
		r.sent(r.home)
		r.node(r.home, "$1\r\n1\r\n")
	}
	r.got()
	r.pass(time.Second) // until the next look at the hot keys
	return r
}

// open opens another client.
func (r *nearRig) open() *Session { return r.w.Open(nil, "peer:2", "keyway:1") }

// ask sends a client's command, and returns what the client and its node get at once.
func (r *nearRig) ask(s *Session, args ...string) (client, node string) {
	r.w.Received(s, []byte(cmd(args...)))
	return r.gets(s), r.sent(r.home)
}

// gets returns what a client gets.
func (r *nearRig) gets(s *Session) (out string) {
	r.endTurn()
	for len(s.Output()) > 0 {
		b := s.Output()
		out += string(b)
		s.Wrote(len(b))
	}
	return out
}

// ordinary has a client GET the hot key from the node, which answers reply.
func (r *nearRig) ordinary(s *Session, reply string) {
	r.t.Helper()
	if client, node := r.ask(s, "GET", r.hot); client != "" || node != cmd("GET", r.hot) {
		r.t.Fatalf("the client got %q and the node %q", client, node)
	}
	r.shared(r.home).Received([]byte(reply), r.now)
	if got := r.gets(s); got != reply {
		r.t.Fatalf("the client got %q", got)
	}
}

// fill has a client GET the hot key from the node, and keyway read the value.
func (r *nearRig) fill(reply, pttl string) {
	r.t.Helper()
	r.later(time.Second) // any pause is over
	r.ordinary(r.open(), reply)
	r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
	r.says(reply + pttl)
}

func (r *nearRig) wantWatch(want string) {
	r.t.Helper()
	r.endTurn()
	if got := take(r.tracking); got != want {
		r.t.Fatalf("keyway has asked %q, want %q", got, want)
	}
}

// says has the node say something over keyway's own connection.
func (r *nearRig) says(what string) {
	r.tracking.Received([]byte(what), r.now)
	r.endTurn()
}

// later begins a turn so much later.
func (r *nearRig) later(d time.Duration) {
	r.now += int64(d)
	r.w.Turn(r.now, time.Unix(1000, 0))
}

func (r *nearRig) invalidates() string {
	return fmt.Sprintf(">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%s\r\n", len(r.hot), r.hot)
}

// wantHit checks that keyway itself answers a GET of the hot key.
func (r *nearRig) wantHit(s *Session, want string) {
	r.t.Helper()
	if client, node := r.ask(s, "GET", r.hot); client != want || node != "" {
		r.t.Fatalf("the client got %q, want %q; the node got %q", client, want, node)
	}
}

// TestNearHit: once keyway has read the value of a hot key, it answers all clients of both protocols, until the
// node says that the value has changed.
func TestNearHit(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	other := r.open()
	r.w.Received(other, []byte(cmd("HELLO", "3")))
	for r.gets(other) == "" { // keyway connects to a node first
		for _, c := range append(r.conns(0), r.conns(1)...) {
			if c != r.tracking && c.RESP3 && c.State() == pool.Ready {
				c.Received([]byte("+PONG\r\n"), r.now)
			}
		}
	}
	for range 3 {
		r.wantHit(r.s, "$1\r\n1\r\n")
		r.wantHit(other, "$1\r\n1\r\n")
	}
	if client, _ := r.ask(r.s, "GET", "{x}cold"); client != "" {
		t.Errorf("a key that is not hot: %q", client)
	}
	r.node(r.home, "$-1\r\n")
	r.says(r.invalidates())
	r.ordinary(r.open(), "$1\r\n2\r\n")
	shot := r.w.Snapshot()
	if shot.NearHits != 6 || shot.NearInvalidated != 1 || shot.NearValues != 0 || shot.NearBytes != 0 {
		t.Errorf("%d hits, %d invalidated, %d values of %d bytes",
			shot.NearHits, shot.NearInvalidated, shot.NearValues, shot.NearBytes)
	}
}

// TestNearFlush: when a node says that all its keys have changed, no value stays.
func TestNearFlush(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	r.says(">2\r\n$10\r\ninvalidate\r\n_\r\n")
	r.ordinary(r.open(), "$-1\r\n")
}

// TestNearOwnWrites: a client that may have changed a hot key sees what it did: keyway answers it only after the
// node has said, over its own connection, that it has said all.
func TestNearOwnWrites(t *testing.T) {
	for _, c := range [][]string{
		{cmd("INCR", "{x}hot"), ":2\r\n"},
		{cmd("MSET", "{x}a", "1", "{x}hot", "2"), "+OK\r\n"},
		{cmd("EVAL", "return redis.call('INCR', '{x}hot')", "1", "{x}other"), ":2\r\n"},
		{cmd("MULTI") + cmd("INCR", "{x}hot") + cmd("EXEC"), "+OK\r\n+QUEUED\r\n*1\r\n:2\r\n"},
		{cmd("COPY", "{x}new", "{x}hot", "REPLACE"), ":1\r\n"},
		{cmd("SORT", "{x}list", "STORE", "{x}hot"), ":1\r\n"},
		{cmd("STRLEN", "{x}hot"), ":1\r\n"},
	} {
		t.Run(strings.Fields(c[0])[2], func(t *testing.T) {
			r := newNearRig(t, nil)
			r.fill("$1\r\n1\r\n", ":-1\r\n")
			writer := r.open()
			r.w.Received(writer, []byte(c[0]+cmd("GET", r.hot)))
			r.gets(writer)
			if node := r.sent(r.home); !strings.HasSuffix(node, cmd("GET", r.hot)) {
				t.Fatalf("the node got %q", node)
			}
			r.wantHit(r.s, "$1\r\n1\r\n") // another client
			r.node(r.home, c[1]+"$1\r\n1\r\n")
			r.gets(writer)
			r.ordinary(writer, "$1\r\n1\r\n")
			r.wantWatch(cmd("PING"))
			r.ordinary(writer, "$1\r\n1\r\n")
			r.says("+PONG\r\n")
			r.wantHit(writer, "$1\r\n1\r\n")

			r.ask(writer, "SET", r.hot, "2")
			r.node(r.home, "+OK\r\n")
			r.gets(writer)
			r.ordinary(writer, "$1\r\n2\r\n") // not the value that keyway has, which is out of date now
			r.ordinary(r.s, "$1\r\n2\r\n")
		})
	}
}

// TestNearOlderWrites: a client whose write was under way before keyway noted who uses the key sees it, too.
func TestNearOlderWrites(t *testing.T) {
	r := newHotRig(t, nil)
	writer := r.open()
	r.ask(writer, "SET", r.hot, "2")
	if client, node := r.ask(r.s, "GET", r.hot); client != "" || node != cmd("GET", r.hot) {
		t.Fatalf("%q, %q", client, node)
	}
	r.tracking = r.last(r.home, isOwn)
	answerAll(r.rig, r.tracking)
	r.later(nearLease)
	other := r.open()
	r.ask(other, "GET", r.hot)
	r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
	r.says("$1\r\n1\r\n:-1\r\n")
	r.wantHit(r.open(), "$1\r\n1\r\n")
	if client, node := r.ask(writer, "GET", r.hot); client != "" || node != cmd("GET", r.hot) {
		t.Errorf("%q, %q", client, node)
	}
}

// TestNearTakenOver: another process may have answered what a client has sent, so keyway does not answer it at
// first.
func TestNearTakenOver(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	s := engine.TakeOver(r.w, nil, 99, "peer:3", "keyway:1")
	engine.BeDefault(s)
	r.ordinary(s, "$1\r\n1\r\n")
	r.wantWatch(cmd("PING"))
}

// TestNearNeverBack: a GET that went to the node while keyway read the value may have seen a newer one.
func TestNearNeverBack(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := newNearRig(t, nil)
		r.later(time.Second)
		reader := r.open()
		r.ask(reader, "GET", r.hot)
		r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
		if late {
			r.says("$1\r\n1\r\n:-1\r\n")
			r.wantHit(r.s, "$1\r\n1\r\n")
			if client, node := r.ask(reader, "GET", r.hot); client != "" || node != cmd("GET", r.hot) {
				t.Errorf("behind a GET that the node has not answered: %q, %q", client, node)
			}
			r.node(r.home, "$1\r\n2\r\n$1\r\n2\r\n")
		} else {
			r.node(r.home, "$1\r\n2\r\n")
			r.says("$1\r\n1\r\n:-1\r\n")
		}
		r.gets(reader)
		r.ordinary(reader, "$1\r\n2\r\n")
	}
}

// TestNearLease: a value is used for the lease at most, from when keyway asked for it, and is asked for again in
// time if it is used.
func TestNearLease(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	r.later(nearLease / 2)
	for range 8 {
		r.wantWatch("")
		r.wantHit(r.s, "$1\r\n1\r\n")
	}
	r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
	r.later(nearLease/2 - 1)
	r.wantHit(r.s, "$1\r\n1\r\n") // the node does not answer
	r.later(1)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.later(nearLease)
	r.says("$1\r\n1\r\n:-1\r\n") // it is too late
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
	r.says("$1\r\n1\r\n:-1\r\n") // that is too late, too

	r.later(time.Second)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
	r.later(nearLease - 1)
	r.says("$1\r\n1\r\n:-1\r\n")
	r.wantHit(r.s, "$1\r\n1\r\n")
	r.later(1)
	r.ordinary(r.s, "$1\r\n1\r\n")
}

// TestNearExpires: a value is not used after its key has expired.
func TestNearExpires(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":20\r\n")
	r.later(20*time.Millisecond - 1)
	r.wantHit(r.s, "$1\r\n1\r\n")
	r.later(1)
	r.ordinary(r.s, "$-1\r\n")
}

// TestNearKeepsNot: keyway keeps no value that is missing, large, about to expire or no text.
func TestNearKeepsNot(t *testing.T) {
	for _, c := range []string{
		"$-1\r\n:-2\r\n", "_\r\n:-2\r\n", "$1\r\n1\r\n:-2\r\n", "$1\r\n1\r\n:0\r\n", "$1\r\n1\r\n-ERR no\r\n",
		"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n:-1\r\n",
		"-MOVED 1 10.0.0.2:1\r\n-MOVED 1 10.0.0.2:1\r\n",
		"$101\r\n" + strings.Repeat("v", 101) + "\r\n:-1\r\n",
		"$50000\r\n" + strings.Repeat("v", 50000) + "\r\n:-1\r\n",
	} {
		r := newNearRig(t, nil)
		r.later(time.Second)
		r.ask(r.open(), "GET", r.hot)
		r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
		r.says(c)
		if client, node := r.ask(r.s, "GET", r.hot); client != "" || node != cmd("GET", r.hot) {
			t.Errorf("%.20q: the client got %q, the node %q", c, client, node)
		}
		r.wantWatch("")
	}
}

// TestNearRefused: a node that refuses PTTL is left alone for a minute, and then asked again. An error that passes is
// nothing to speak of.
func TestNearRefused(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", "-LOADING Redis is loading the dataset in memory\r\n")
	if r.w.Stats.NearRefused != 0 || len(r.w.Ready.Events) != 0 {
		t.Errorf("LOADING is taken for a refusal: %v", r.w.Ready.Events)
	}
	r.later(time.Second)
	r.fill("$1\r\n1\r\n", "-NOPERM no pttl\r\n")
	if of := r.w.Ready.Events; r.w.Stats.NearRefused != 1 || len(of) != 1 || of[0].Fields[7] != "NOPERM no pttl" {
		t.Errorf("%d refusals, and for the log %v", r.w.Stats.NearRefused, of)
	}
	r.later(20 * time.Second)
	r.ordinary(r.open(), "$1\r\n1\r\n")
	r.wantWatch("")
	r.later(40 * time.Second)
	r.ordinary(r.open(), "$1\r\n1\r\n")
	r.wantWatch(cmd("GET", r.hot) + cmd("PTTL", r.hot))
	r.says("$1\r\n1\r\n:-1\r\n")
	r.wantHit(r.open(), "$1\r\n1\r\n")
}

// TestNearOrdinary: clients that are in a special state are answered by the node.
func TestNearOrdinary(t *testing.T) {
	for _, commands := range [][]string{
		{cmd("SELECT", "1")}, {cmd("CLIENT", "NO-TOUCH", "ON")}, {cmd("MULTI")}, {cmd("WATCH", "{x}other")},
		{cmd("HELLO", "3"), cmd("CLIENT", "TRACKING", "ON")}, {cmd("ECHO", "nothing special")},
	} {
		r := newNearRig(t, nil)
		r.fill("$1\r\n1\r\n", ":-1\r\n")
		s := r.open()
		for _, c := range append(commands, cmd("GET", r.hot)) {
			r.w.Received(s, []byte(c))
			reply := r.gets(s)
			for try := 0; reply == "" && try < 10; try++ { // keyway asks nodes first
				for _, conn := range append(r.conns(0), r.conns(1)...) {
					if conn.State() == pool.Ready && conn.Busy() {
						conn.Received([]byte("+OK\r\n"), r.now)
					}
				}
				reply = r.gets(s)
			}
			if reply == "" {
				t.Errorf("%q: no reply", c)
			}
		}
		want := uint64(0)
		if strings.Contains(commands[0], "special") {
			want = 1
		}
		if hits := r.w.Snapshot().NearHits; hits != want {
			t.Errorf("%q: %d hits", commands, hits)
		}
	}
}

// TestNearLost: a connection that has ended, and another layout, leave no value.
func TestNearLost(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	r.tracking.Fail(r.now, "reset")
	r.ordinary(r.s, "$1\r\n1\r\n")

	r = newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "b", Addr: "10.0.0.2:1", Master: true}}
	upper, lower := []slots.Range{{First: 8192, Last: 16383}}, []slots.Range{{First: 0, Last: 8191}}
	swapped, err := router.NewStaticSlots(nodes, [][]slots.Range{upper, lower})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(swapped)
	r.home = 1 - r.home
	r.ordinary(r.s, "$1\r\n1\r\n")

	r = newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	ReplaceLayout(r.w, r.w.Table)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.pass(20 * time.Millisecond)
	if r.tracking.State() != pool.Closed {
		t.Errorf("the connection of the older layout is %s", r.tracking.State())
	}
}

// TestNearReloaded: a reload turns it off and on.
func TestNearReloaded(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	o := r.w.Options
	on := o.NearCache
	o.NearCache = NearCache{}
	Configure(r.w, o)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.pass(20 * time.Millisecond)
	if r.tracking.State() != pool.Closed {
		t.Errorf("the connection is %s", r.tracking.State())
	}
	o.NearCache = on
	Configure(r.w, o)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.pass(time.Second)
	r.ordinary(r.s, "$1\r\n1\r\n")
	r.tracking = r.last(r.home, isOwn)
	answerAll(r.rig, r.tracking)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	r.wantHit(r.s, "$1\r\n1\r\n")
}

// TestNearWorth: a value that is changed more often than it is read is read less and less often.
func TestNearWorth(t *testing.T) {
	r := newNearRig(t, nil)
	fills := r.w.Snapshot().NearFills
	for range 2000 {
		r.later(time.Millisecond)
		r.ordinary(r.s, "$1\r\n1\r\n")
		r.endTurn()
		if take(r.tracking) != "" {
			r.says("$1\r\n1\r\n:-1\r\n" + r.invalidates())
		}
	}
	if n := r.w.Snapshot().NearFills - fills; n < 2 || n > 12 {
		t.Errorf("%d fills in 2 s", n)
	}
}

// TestNearStaysHot: keyway counts what it answers, so that the key stays hot.
func TestNearStaysHot(t *testing.T) {
	r := newNearRig(t, nil)
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	for range 900 { // half a minute
		r.pass(30 * time.Millisecond)
		for range 20 {
			if client, _ := r.ask(r.s, "GET", r.hot); client == "" {
				r.node(r.home, "$1\r\n1\r\n")
				r.got()
			}
		}
		r.endTurn()
		if take(r.tracking) != "" {
			r.says("$1\r\n1\r\n:-1\r\n")
		}
	}
	if shot := r.w.Snapshot(); shot.NearHits < 17_000 {
		t.Errorf("%d hits, %d misses", shot.NearHits, shot.NearMisses)
	}
}

// TestNearHitAllocatesNothing: nor does a command that is no hit.
func TestNearHitAllocatesNothing(t *testing.T) {
	r := newNearRig(t, func(o *Options) { o.NearCache.Lease = time.Hour })
	r.fill("$1\r\n1\r\n", ":-1\r\n")
	hits, misses := []byte(strings.Repeat(cmd("GET", r.hot), 16)), []byte(cmd("SET", "{x}cold", "1"))
	conn, ok := r.shared(r.home), []byte("+OK\r\n")
	for range 100 {
		r.turn(hits, func() {})
		r.turn(misses, func() { conn.Received(ok, r.now) })
	}
	if n := testing.AllocsPerRun(1000, func() { r.turn(hits, func() {}) }); n > 0 {
		t.Errorf("%v allocations in 16 hits", n)
	}
	if n := testing.AllocsPerRun(1000, func() { r.turn(misses, func() { conn.Received(ok, r.now) }) }); n > 0 {
		t.Errorf("%v allocations in another command", n)
	}
}
