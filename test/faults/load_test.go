package faults

import (
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// tally counts the replies of a load.
type tally struct {
	replies     atomic.Int64
	notExecuted atomic.Int64
	unknown     atomic.Int64
	otherErrors atomic.Int64
	foreign     atomic.Int64 // of another key, client or kind, or corrupt
	stale       atomic.Int64 // of an earlier state than the client was told
	late        atomic.Int64 // later than the bound
	hangups     atomic.Int64
	lost        atomic.Int64 // connections that keyway ended

	mu    sync.Mutex
	first map[string]string // one example of each kind
}

func (t *tally) count(n *atomic.Int64, kind, format string, args ...any) {
	n.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = map[string]string{}
	}
	if t.first[kind] == "" {
		t.first[kind] = fmt.Sprintf(format, args...)
	}
}

func (t *tally) errors() int64 {
	return t.notExecuted.Load() + t.unknown.Load() + t.otherErrors.Load()
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%d replies, %d not executed, %d unknown, %d other errors, "+
		"%d foreign, %d stale, %d late, %d hang-ups, %d connections lost; examples %q",
		t.replies.Load(), t.notExecuted.Load(), t.unknown.Load(), t.otherErrors.Load(),
		t.foreign.Load(), t.stale.Load(), t.late.Load(), t.hangups.Load(), t.lost.Load(), t.first)
}

// fate is the outcome of a write, as far as its client knows.
type fate byte

const (
	acked fate = 1 + iota
	refused
	unknown
)

// class sorts an error reply by its text, the way a client can.
func (t *tally) class(text string) fate {
	switch code, _, _ := strings.Cut(text, " "); code {
	case "CLUSTERDOWN", "TRYAGAIN", "LOADING", "READONLY", "MASTERDOWN":
		t.count(&t.notExecuted, "not executed", "%s", text)
		return refused
	}
	if strings.Contains(text, "may have been executed") {
		t.count(&t.unknown, "unknown", "%s", text)
		return unknown
	}
	t.count(&t.otherErrors, "other", "%s", text)
	return refused
}

// load is clients that write and read self-identifying values of keys of their
// own, in pipelines of random length, and judge every reply:
//
//	SET GET MSET MGET  the value is of this key and this client, and the last
//	                   acknowledged one, or one whose outcome is unknown
//	INCR EVAL          no less than was acknowledged, no more than that and
//	                   what is unknown; a script's reply names its key and call
//	RPUSH              acknowledged elements are there once, in order;
//	                   refused ones are not; unknown ones at most once
type load struct {
	addr    string
	login   []string // sent first on each connection; nil: nothing
	clients int
	depth   int           // longest pipeline of every other client; 1 of the others
	keys    int           // of each kind, for each client; 0 means 10
	prefix  string        // of all keys
	size    int           // largest padding; 0 means 200
	replies int64         // after so many, those that were refused not counted, it ends
	pause   time.Duration // between a client's pipelines
	within  time.Duration // a pipeline that takes longer is late; 0: no bound

	hangup, stall int                   // chances of 1,000, at each pipeline
	reconnect     bool                  // a connection that keyway ends is made again
	lossy         func(key string) bool // keys whose acknowledged writes the node may lose

	tally
	latency [2]histogram // of single commands, by phase
	phase   atomic.Int32
	window  atomic.Pointer[histogram] // counts them too, unless it is nil

	stopped atomic.Bool
	wg      sync.WaitGroup
	members []*client
}

// start starts the load. It runs until halt, or until so many replies have arrived.
func (l *load) start(t *testing.T) *load {
	if l.keys == 0 {
		l.keys = 10
	}
	if l.size == 0 {
		l.size = 200
	}
	if l.depth == 0 {
		l.depth = 16
	}
	for i := range l.clients {
		c := &client{
			id: i, load: l, rng: rand.New(rand.NewPCG(uint64(i), 7)),
			strs: map[string]*cell{}, counters: map[string]*counter{}, lists: map[string]*list{},
		}
		l.members = append(l.members, c)
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			if err := c.run(); err != nil {
				t.Errorf("client %d: %v", c.id, err)
			}
		}()
	}
	t.Cleanup(l.halt)
	return l
}

func (l *load) over() bool {
	return l.stopped.Load() || l.replies > 0 && l.tally.replies.Load()-l.notExecuted.Load() >= l.replies
}

// halt ends the load and waits for its clients.
func (l *load) halt() {
	l.stopped.Store(true)
	l.wg.Wait()
}

// more waits until so many more replies have come.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.tally.replies.Load() + n
	redistest.Eventually(t, 60*time.Second, fmt.Sprintf("%d more replies", n), func() bool {
		return l.tally.replies.Load() >= until
	})
}

// settle checks the data after the load has ended: no acknowledged write is lost, no refused
// write was executed, and none was executed twice.
func (l *load) settle(t *testing.T, addr string) {
	t.Helper()
	t.Logf("%v", &l.tally)
	if n := l.foreign.Load() + l.otherErrors.Load() + l.stale.Load() + l.late.Load(); n > 0 {
		t.Errorf("%d replies are foreign, stale, late or errors of no class", n)
	}
	if !l.reconnect && l.tally.lost.Load() > 0 {
		t.Errorf("keyway has ended %d connections", l.tally.lost.Load())
	}
	c := redistest.Dial(t, addr)
	defer c.Close()
	if l.login != nil {
		c.Expect("OK", l.login...)
	}
	wrong := 0
	for _, m := range l.members {
		wrong += m.settle(t, c)
	}
	if wrong > 0 {
		t.Errorf("%d keys are not as their clients were told", wrong)
	}
}

// census looks at every master: each key is on one of them only, and keyway
// finds it there.
func census(t *testing.T, addr string, nodes []*redistest.Node) {
	t.Helper()
	seen := map[string]int{}
	for i, n := range nodes {
		if n.Role() == "slave" {
			continue // one that has lost its last slot becomes a replica
		}
		for _, key := range n.Keys() {
			if other, twice := seen[key]; twice {
				t.Errorf("%s is on node %d and on node %d", key, other, i)
			}
			seen[key] = i
		}
	}
	keys := slices.Sorted(maps.Keys(seen))
	c := redistest.Dial(t, addr)
	defer c.Close()
	for chunk := range slices.Chunk(keys, 1000) {
		for _, key := range chunk {
			c.Send("EXISTS", key)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, key := range chunk {
			if r, err := c.Receive(); err != nil || r.Int != 1 {
				t.Fatalf("%s is on node %d; keyway says %v %v", key, seen[key], r, err)
			}
		}
	}
	if len(keys) == 0 {
		t.Error("the nodes hold no keys: nothing was tested")
	}
}

// health is what keyway itself must show when a test has ended: nothing left
// open, nothing in flight, and no node that broke the protocol.
func health(t *testing.T, k *redistest.Keyway) {
	t.Helper()
	k.Ready()
	redistest.Eventually(t, 20*time.Second, "no client and no request is left", func() bool {
		left := 0
		for _, s := range k.Snapshot() {
			left += s.Clients + s.OutputBytes
			for _, n := range s.Nodes {
				left += n.InFlight + n.InFlightBytes + n.Exclusive
			}
		}
		return left == 0
	})
	for _, s := range k.Snapshot() {
		for _, n := range s.Nodes {
			if n.Unsolicited > 0 || n.Violations > 0 {
				t.Errorf("node %s is said to have broken the protocol: %+v", n.Addr, n.Connection)
			}
		}
	}
}

// histogram counts durations, a thirty-second of a power of two apart.
type histogram struct{ buckets [2048]atomic.Int64 }

func (h *histogram) add(d time.Duration) {
	us := uint64(max(d.Microseconds(), 32))
	shift := bits.Len64(us) - 6
	h.buckets[shift*32+int(us>>shift)-32].Add(1)
}

// addAll counts a command that took d, and those that the client would have sent meanwhile if it sent one in each
// interval: without these, a pause that stops all clients would count as one slow command of each.
func (h *histogram) addAll(d, interval time.Duration) {
	for h.add(d); interval > 0 && d > interval; h.add(d) {
		d -= interval
	}
}

// join adds what other has counted.
func (h *histogram) join(other *histogram) {
	for i := range h.buckets {
		h.buckets[i].Add(other.buckets[i].Load())
	}
}

// count returns how many have been added.
func (h *histogram) count() (n int64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// at is the duration that this share of all does not exceed.
func (h *histogram) at(share float64) time.Duration {
	var total, sum int64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	for i := range h.buckets {
		if sum += h.buckets[i].Load(); total > 0 && float64(sum) >= share*float64(total) {
			return time.Duration((32+i%32+1)<<(i/32)) * time.Microsecond
		}
	}
	return 0
}

// cell is a client's knowledge of a string: the last acknowledged write, and the writes of
// unknown outcome, which may be executed at any time or never.
type cell struct {
	acked int
	maybe map[int]bool
}

type counter struct{ acked, maybe int64 }

type list struct {
	fates map[string]fate
	acked []string // in the order of their pushes
}

// client is one client of a load; its keys are its own for good, whatever
// becomes of its connection.
type client struct {
	id       int
	load     *load
	rng      *rand.Rand
	seq      int
	ops      []op
	strs     map[string]*cell
	counters map[string]*counter
	lists    map[string]*list
}

// op is one command that waits for its reply.
type op struct {
	kind byte // s, g, S, G (MSET, MGET), i, e, r
	keys []string
	seqs []int
}

func (c *client) run() error {
	for !c.load.over() {
		conn, err := redistest.TryDial(c.load.addr)
		if err != nil {
			if c.load.reconnect {
				time.Sleep(5 * time.Millisecond) // nobody listens for the moment
				continue
			}
			return err
		}
		if c.load.login != nil {
			_, err = conn.TryDo(c.load.login...)
		}
		if err == nil {
			err = c.talk(conn)
		}
		conn.Close()
		for _, o := range c.ops {
			c.record(o, unknown)
		}
		c.ops = c.ops[:0]
		if err != nil && !c.load.reconnect {
			return err
		}
		if err != nil {
			c.load.count(&c.load.lost, "lost", "%v", err)
		}
	}
	return nil
}

// talk sends pipelines over one connection until it ends.
func (c *client) talk(conn *redistest.Client) error {
	l := c.load
	for !l.over() {
		n := 1
		if c.id%2 == 1 {
			n += c.rng.IntN(l.depth)
		}
		for range n {
			c.ask(conn)
		}
		began := time.Now()
		if err := conn.Flush(); err != nil {
			return err
		}
		refusals := l.notExecuted.Load()
		read, hangup := n, c.rng.IntN(1000) < l.hangup
		if hangup {
			read = c.rng.IntN(n + 1)
		}
		if c.rng.IntN(1000) < l.stall {
			time.Sleep(time.Second)
			began = time.Time{}
		}
		for range read {
			r, err := conn.Receive()
			if err != nil {
				return err
			}
			l.tally.replies.Add(1)
			o := c.ops[0]
			c.ops = c.ops[1:]
			c.judge(o, r)
		}
		if hangup {
			l.hangups.Add(1)
			return nil
		}
		if elapsed := time.Since(began); !began.IsZero() {
			if n == 1 {
				l.latency[l.phase.Load()].add(elapsed)
				if w := l.window.Load(); w != nil {
					w.addAll(elapsed, l.pause)
				}
			}
			if l.within > 0 && elapsed > l.within {
				l.count(&l.late, "late", "%s", elapsed)
			}
		}
		if l.pause > 0 {
			time.Sleep(l.pause)
		} else if l.notExecuted.Load() > refusals && l.replies > 0 {
			time.Sleep(2 * time.Millisecond) // as clients do whose commands are refused
		}
	}
	return nil
}

func (c *client) key(kind string) string {
	return fmt.Sprintf("%s%s:%d:%d", c.load.prefix, kind, c.id, c.rng.IntN(c.load.keys))
}

// padding is mostly short, and sometimes as long as the limits allow.
func (c *client) padding() int {
	if c.load.size > 1000 && c.rng.IntN(300) > 0 {
		return c.rng.IntN(1000)
	}
	return c.rng.IntN(c.load.size + 1)
}

// script adds one to its key and says which call of which client it was.
const script = "local v = redis.call('INCR', KEYS[1]) return {KEYS[1], ARGV[1], v}"

// ask sends a random command.
func (c *client) ask(conn *redistest.Client) {
	c.seq++
	o := op{seqs: []int{c.seq}}
	switch p := c.rng.IntN(100); {
	case p < 30:
		o.kind, o.keys = 's', []string{c.key("s")}
		conn.Send("SET", o.keys[0], redistest.Identify(o.keys[0], c.id, c.seq, c.padding()))
	case p < 65:
		o.kind, o.keys = 'g', []string{c.key("s")}
		conn.Send("GET", o.keys[0])
	case p < 70:
		o.kind, o.seqs = 'S', nil
		args := []string{"MSET"}
		for range 1 + c.rng.IntN(6) {
			key := c.key("s")
			if slices.Contains(o.keys, key) {
				continue
			}
			c.seq++
			o.keys, o.seqs = append(o.keys, key), append(o.seqs, c.seq)
			args = append(args, key, redistest.Identify(key, c.id, c.seq, c.rng.IntN(100)))
		}
		conn.Send(args...)
	case p < 75:
		o.kind = 'G'
		for range 1 + c.rng.IntN(10) {
			o.keys = append(o.keys, c.key("s"))
		}
		conn.Send(append([]string{"MGET"}, o.keys...)...)
	case p < 85:
		o.kind, o.keys = 'i', []string{c.key("n")}
		conn.Send("INCR", o.keys[0])
	case p < 90:
		o.kind, o.keys = 'e', []string{c.key("n")}
		conn.Send("EVAL", script, "1", o.keys[0], strconv.Itoa(c.seq))
	default:
		o.kind, o.keys = 'r', []string{c.key("l")}
		conn.Send("RPUSH", o.keys[0], strconv.Itoa(c.seq))
	}
	c.ops = append(c.ops, o)
}

func at[V any](m map[string]*V, key string) *V {
	if m[key] == nil {
		m[key] = new(V)
	}
	return m[key]
}

// record keeps the outcome of a command.
func (c *client) record(o op, f fate) {
	switch o.kind {
	case 's', 'S':
		for i, key := range o.keys {
			v := at(c.strs, key)
			switch f {
			case acked:
				v.acked = o.seqs[i]
			case unknown:
				if v.maybe == nil {
					v.maybe = map[int]bool{}
				}
				v.maybe[o.seqs[i]] = true
			}
		}
	case 'i', 'e':
		switch v := at(c.counters, o.keys[0]); f {
		case acked:
			v.acked++
		case unknown:
			v.maybe++
		}
	case 'r':
		v, elem := at(c.lists, o.keys[0]), strconv.Itoa(o.seqs[0])
		if v.fates == nil {
			v.fates = map[string]fate{}
		}
		v.fates[elem] = f
		if f == acked {
			v.acked = append(v.acked, elem)
		}
	}
}

// judge looks at a reply.
func (c *client) judge(o op, r redistest.Reply) {
	l := c.load
	if r.Kind == '-' {
		others := l.otherErrors.Load()
		c.record(o, l.class(r.Text))
		if l.otherErrors.Load() > others {
			l.count(&l.otherErrors, "of", "%c %q", o.kind, o.keys)
		}
		return
	}
	foreign := func() { l.count(&l.foreign, "foreign", "%c %.60q: %.120q", o.kind, o.keys, r.String()) }
	switch o.kind {
	case 's', 'S':
		if r.Kind != '+' || r.Text != "OK" {
			foreign()
		}
		c.record(o, acked)
	case 'g':
		c.value(o.keys[0], r)
	case 'G':
		if r.Kind != '*' || len(r.Elems) != len(o.keys) {
			foreign()
			return
		}
		for i, key := range o.keys {
			if r.Elems[i].Kind == '-' {
				l.class(r.Elems[i].Text)
			} else {
				c.value(key, r.Elems[i])
			}
		}
	case 'i':
		if r.Kind != ':' {
			foreign()
		}
		c.number(o, r.Int)
	case 'e':
		if len(r.Elems) != 3 || r.Elems[0].Text != o.keys[0] || r.Elems[1].Text != strconv.Itoa(o.seqs[0]) {
			foreign()
			return
		}
		c.number(o, r.Elems[2].Int)
	case 'r':
		if v := at(c.lists, o.keys[0]); r.Kind != ':' || r.Int > int64(len(v.fates)+1) {
			foreign()
		}
		c.record(o, acked)
	}
}

// value judges a value that was read.
func (c *client) value(key string, r redistest.Reply) {
	l, v := c.load, at(c.strs, key)
	if r.Kind != '$' {
		l.count(&l.foreign, "foreign", "value of %s: %s", key, r)
		return
	}
	if !r.Null {
		k, id, seq, ok := redistest.Identity(r.Text)
		if !ok || k != key || id != c.id {
			l.count(&l.foreign, "foreign", "value of %s: %.80q", key, r.Text)
			return
		}
		if seq == v.acked || v.maybe[seq] {
			return
		}
	} else if v.acked == 0 {
		return
	}
	if l.lossy == nil || !l.lossy(key) {
		l.count(&l.stale, "stale", "value of %s, acknowledged %d, perhaps %v: %.60q", key, v.acked, v.maybe, r.String())
	}
}

// number checks a counter's value after one more step.
func (c *client) number(o op, n int64) {
	v := at(c.counters, o.keys[0])
	if n > v.acked+1+v.maybe || n < v.acked+1 && (c.load.lossy == nil || !c.load.lossy(o.keys[0])) {
		c.load.count(&c.load.stale, "stale", "%s is %d; acknowledged before %d, unknown %d", o.keys[0], n, v.acked,
			v.maybe)
	}
	c.record(o, acked)
}

// settle reads all of the client's keys back and returns how many are wrong.
func (c *client) settle(t *testing.T, conn *redistest.Client) (wrong int) {
	t.Helper()
	bad := func(format string, args ...any) {
		if wrong++; wrong < 4 {
			t.Logf(format, args...)
		}
	}
	for key, v := range c.strs {
		r := conn.MustDo("GET", key)
		k, id, seq, ok := redistest.Identity(r.Text)
		switch {
		case c.load.lossy != nil && c.load.lossy(key):
		case r.Null && v.acked == 0:
		case !ok || k != key || id != c.id || seq != v.acked && !v.maybe[seq]:
			bad("%s: acknowledged %d, perhaps %v, found %.60q", key, v.acked, v.maybe, r.String())
		}
	}
	for key, v := range c.counters {
		n, _ := strconv.ParseInt(conn.MustDo("GET", key).Text, 10, 64)
		if n > v.acked+v.maybe || n < v.acked && (c.load.lossy == nil || !c.load.lossy(key)) {
			bad("%s: acknowledged %d, unknown %d, found %d", key, v.acked, v.maybe, n)
		}
	}
	for key, v := range c.lists {
		seen, last := map[string]int{}, -1
		for i, e := range conn.MustDo("LRANGE", key, "0", "-1").Elems {
			if seen[e.Text]++; seen[e.Text] > 1 || v.fates[e.Text] == 0 || v.fates[e.Text] == refused {
				bad("%s holds %s, %d times so far, fate %d", key, e.Text, seen[e.Text], v.fates[e.Text])
			}
			if v.fates[e.Text] == acked {
				if n, _ := strconv.Atoi(e.Text); n < last {
					bad("%s holds %s at %d, behind a later one", key, e.Text, i)
				} else {
					last = n
				}
			}
		}
		if c.load.lossy != nil && c.load.lossy(key) {
			continue
		}
		for _, elem := range v.acked {
			if seen[elem] == 0 {
				bad("%s: %s was acknowledged and is lost", key, elem)
			}
		}
	}
	return wrong
}

func (h *histogram) String() string {
	return fmt.Sprintf("p50 %s, p99 %s", h.at(0.5), h.at(0.99))
}
