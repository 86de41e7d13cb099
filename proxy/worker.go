package proxy

import (
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// Options are a worker's settings; they do not change in its life.
type Options struct {
	Backend     pool.Config
	Connections int           // shared connections to each node; 0 means 1
	Fence       int           // pool.Conn.Fence of the shared connections
	Hold        time.Duration // how long commands wait for the node that takes a dead one's place; 0 means the request timeout, less: not at all
	Exclusive   int           // connections to each node that are one client's alone, at most; 0 means 1000
	// HasRoom reports whether a connection to a node that can be done without may be
	// opened: whether the process has files left. nil: always.
	HasRoom func() bool

	Limits       resp.Limits // zero means resp.DefaultLimits
	ClientOutput int         // bytes a client may leave unread
	Password     string      // clients must give it; empty: none
	IdleTimeout  time.Duration
	MaxClients   int          // of all workers, for INFO
	Allow        map[int]bool // command IDs that pass though they are refused

	PerKey  command.PerKeyScripts // scripts that can be split by their keys
	Keyless string                // scripts without keys run on the node of this key

	SlowerThan  time.Duration // commands that take longer are kept for SLOWLOG; 0 means 10 ms, less: none are
	SlowEntries int           // how many; 0 means 128

	Reads      Reads         // where commands that only read go
	MaxLag     time.Duration // replicas that are further behind are not read from; 0: however far
	ReadsOptIn bool          // only clients that have sent READONLY read from replicas

	Cluster *Emulation // not nil: what clients are told that keyway is

	Process        *Process // nil: INFO tells of a node's process
	Version        string   // keyway's
	Index, Workers int      // this worker among its siblings
	Seed           uint64   // of all that is random
}

const (
	// softOutput is how many unread bytes stop the reading of a client.
	softOutput = 1 << 20
	// maxLine is how many unanswered commands do.
	maxLine = 4096
	// maxUnauthOutput is what a client that has not authenticated may leave
	// unread (CVE-2025-21605).
	maxUnauthOutput = 16 << 10

	authTimeout = int64(10 * time.Second) // to authenticate
	readTimeout = int64(30 * time.Second) // to complete a command once begun,
	minUpload   = 4 << 10                 // and longer for what came at this rate, in bytes a second

	tick      = int64(10 * time.Millisecond) // while anything is under way
	sweepTick = int64(time.Second)           // to look at every client
)

// Worker is one thread's clients, its connections to the nodes and all that
// goes on between them.
type Worker struct {
	o       Options
	limits  resp.Limits
	unauth  resp.Limits
	set     *pool.Set
	table   *router.Table
	private *router.Table // the table, if it is no other thread's
	moved   bool          // keys have other owners than at the end of the last turn
	nodes   []*node       // as table.Nodes
	masters []*node
	byName  map[string]*node
	print   uint64 // of the masters, for SCAN's cursors
	epoch   uint64 // grows whenever any key's owner changes
	ordinal uint   // of the next node that is met

	failover int64 // how long a call waits for a node to take a dead one's place, in nanoseconds
	patience int64 // how long it waits for a node that refuses

	followedAt int64 // when any node last had replicas and the table changed

	now       int64
	wall      time.Time
	lastSweep int64

	sessions   []*Session
	byID       map[uint64]*Session
	lastID     uint64
	dirty      []*Session // sessions the shell must look at
	resume     []*Session // sessions that may be able to go on
	retries    []*Session // sessions with calls to send again later
	retrySpare []*Session
	lagging    []*Session // sessions behind with a large reply
	stalled    []*Session // sessions that wait for a connection to have room

	parser      *resp.Parser
	parsers     []*resp.Parser
	buffers     buffer.Pool
	requests    freeRequests
	mergers     []*merger // free ones
	mergerBytes int
	grown       int  // bytes taken in for clients since Held
	short       bool // memory is: large commands are refused

	split   splitter
	units   []command.Unit
	keys    []int
	scratch []byte // for replies that keyway makes
	frame   []byte // for parts of commands

	doomed    []*pool.Conn // exclusive connections to close
	scripts   scriptCache
	keyless   []byte          // Options.Keyless
	warned    map[string]bool // scripts without keys, by name
	largeKeys *largeKeys      // nil: no large value has been met
	// Writes that were on connections that have ended in this turn; see loss.go.
	lostWrites map[lostKey]struct{}
	lookups    map[lookup][]func(exists []byte, ok bool)
	learned    map[string]*command.Command
	hub        *hub
	trackers   []*Session      // that track
	told       map[uint64]bool // clients, by id, that an ear has told of a push
	monitors   monitors
	pause      pause
	nextLook   int64 // at the replicas
	oldest     int64 // the least fresh replica, at the last look
	slowLog    slowLog
	questions  map[uint64]*question // by token
	token      uint64

	server serverInfo

	stats      metrics.Counters
	histograms []*metrics.Histogram // by command.Command.ID; nil until it is used
	before     counted              // when CONFIG RESETSTAT was last sent
	ready      Ready
}

// Ready is what is due after a turn. Its slices are valid until the next call
// of EndTurn.
type Ready struct {
	// Conns first: write what NextWrite gives, and do what Duty says. Requests
	// are written once a turn, however many clients spoke.
	Conns []*pool.Conn
	// Then Sessions: write what Output gives; close those that are Finished;
	// read only from those that are Reading.
	Sessions []*Session

	Refresh  bool      // the topology should be fetched anew
	Asks     []Ask     // have every sibling Do it, and give each answer to Answered
	Notes    []string  // for the log: something an operator should know of a peer
	Refusals []Refusal // for the log: clients that were refused something, or closed
	Garbage  int       // bytes of large buffers that nothing needs any more
}

// node is a server that keys live on.
type node struct {
	w          *Worker
	name, addr string
	sentinel   bool    // sentinels have said that it is a master
	master     *node   // that it follows; nil for a master
	replicas   []*node // that follow it
	following
	ordinal     uint
	conns       []*pool.Conn // shared ones: so many for database 0 in RESP2, then as many for each other database and version that is used
	retired     retired
	askedIfBusy bool         // see tickBusy
	idle        []*pool.Conn // exclusive connections, ready for the next who needs one
	waits       []inUse      // exclusive connections in use
	exclusive   int          // how many
	group       int32        // of keys that it owns, or owned last; -1: none
	followedAt  int64        // when it last had replicas and the table changed; 0: never
	feed        *pool.Conn   // listens for subscribers, while there are any
	ear         *pool.Conn   // hears what has changed, for clients that track in RESP2
	unconfirmed []asked      // by the feed
	fedPing     int64        // when it was last asked whether it lives
	fedLosses   uint64       // of them

	proven map[string]bool // scripts that it has, by their SHA-1 in lower case

	moved, asked, retried uint64
	waiting, waitingBytes int    // calls to be sent again, and their frames
	servedAt              int64  // when one of them last was, or the first came to wait
	putOffAt              int64  // when one last came to wait
	mayRetry              int    // how many go at this tick
	refusal               []byte // that a plain command met last
	refusalAt             int64
}

func (n *node) key() string { return n.name + " " + n.addr }

// newConn is one more connection to the node; nothing is dialed yet.
func (n *node) newConn() *pool.Conn {
	c := n.w.set.Conn(n.addr, n)
	c.Master = n.sentinel
	return c
}

// label names the node in errors: a cluster's nodes have no name but their
// address, and some have no address yet.
func (n *node) label() string {
	if n.name == n.addr || n.addr == "" {
		return n.name
	}
	return n.name + " (" + n.addr + ")"
}

// hashSeed is secret, so that nobody can make keys collide. All workers share it: which
// keys collide must not differ between two runs of one simulation.
var hashSeed = maphash.MakeSeed()

// New returns a worker that routes by table.
func New(o Options, table *router.Table) *Worker {
	if o.Limits == (resp.Limits{}) {
		o.Limits = resp.DefaultLimits
	}
	if o.ClientOutput == 0 {
		o.ClientOutput = 256 << 20
	}
	o.Connections = max(o.Connections, 1)
	o.Workers = max(o.Workers, 1)
	if o.Exclusive == 0 {
		o.Exclusive = 1000
	}
	if o.HasRoom == nil {
		o.HasRoom = func() bool { return true }
	}
	if o.Hold == 0 {
		o.Hold = o.Backend.RequestTimeout
	}
	if o.SlowerThan == 0 {
		o.SlowerThan = 10 * time.Millisecond
	}
	if o.SlowerThan < 0 {
		o.SlowerThan = math.MaxInt64
	}
	if o.SlowEntries == 0 {
		o.SlowEntries = 128
	}
	w := &Worker{
		o:       o,
		limits:  o.Limits,
		unauth:  o.Limits.UnauthenticatedLimits(),
		set:     pool.NewSet(o.Backend, rand.New(rand.NewPCG(o.Seed, uint64(o.Index)))),
		byID:    map[uint64]*Session{},
		told:    map[uint64]bool{},
		byName:  map[string]*node{},
		parser:  new(resp.Parser),
		learned: map[string]*command.Command{},
		lookups: map[lookup][]func([]byte, bool){},

		lostWrites: map[lostKey]struct{}{},
		failover:   int64(o.Hold),
		patience:   int64(max(o.Hold, o.Backend.RequestTimeout)),

		stats: newCounters(),

		slowLog: slowLog{from: int64(o.SlowerThan), spikeFrom: int64(o.SlowerThan), look: int64(o.SlowerThan), max: o.SlowEntries},

		questions:  map[uint64]*question{},
		histograms: make([]*metrics.Histogram, command.Count),

		scratch: make([]byte, 0, 4<<10),
		server:  serverInfo{name: "redis", version: "7.0.0"},
	}
	w.keyless, w.warned = []byte(o.Keyless), map[string]bool{}
	w.scripts = scriptCache{seed: hashSeed, perKey: &w.o.PerKey}
	w.hub = newHub(w)
	w.SetTable(table)
	return w
}

// SetTable swaps the layout. Connections to nodes that stay are kept.
func (w *Worker) SetTable(t *router.Table) {
	changed := w.table == nil || !sameOwners(w.table, t)
	if changed {
		w.epoch++ // clients with anything in flight are held; see consume
	}
	w.table, w.private = t, nil
	w.setNodes()
	w.ownersChanged(changed || w.moved)
}

// moveSlot notes that a node owns a slot that another did. A failover moves
// thousands in one turn, so what follows from that waits until its end.
func (w *Worker) moveSlot(slot int32, id router.NodeID) {
	if w.private == nil {
		w.private = w.table.Private()
		w.table = w.private
	}
	w.epoch++
	w.moved = true
	if w.table.Move(slot, id) {
		w.setNodes()
	}
}

// ownersChanged acts on another layout. changed: keys have other owners.
func (w *Worker) ownersChanged(changed bool) {
	w.moved = false
	w.hub.layout()
	if changed {
		w.layoutChanged()
	}
	for _, s := range w.retries {
		if len(s.retry) > 0 {
			s.retryAt = min(s.retryAt, w.now) // the wait was for this
		}
	}
}

// setNodes makes the nodes those of the table.
func (w *Worker) setNodes() {
	t := w.table
	stay, before := map[string]*node{}, w.nodes
	were := w.masters
	w.nodes, w.masters = make([]*node, len(t.Nodes)), nil
	for i, tn := range t.Nodes {
		key := (&node{name: tn.Name, addr: tn.Addr}).key()
		n := w.byName[key]
		if n == nil {
			n = &node{w: w, name: tn.Name, addr: tn.Addr, sentinel: tn.Sentinel, ordinal: w.ordinal, group: -1, following: following{fresh: never}}
			w.ordinal++
			n.connect(new(Session))
		}
		stay[key] = n
		w.nodes[i] = n
		if tn.Master {
			w.masters = append(w.masters, n)
			for _, c := range n.conns[:w.o.Connections] {
				if slices.Contains(were, n) {
					c.Open(w.now)
				} else {
					c.Hope(w.now) // a dead node that is made a master is back
				}
			}
		}
	}
	w.setReplicas()
	w.noteGroups()
	w.byName = stay
	for _, n := range before {
		if stay[n.key()] == nil {
			n.close(w.now, "the node has left the topology")
		}
	}
	w.print = fingerprint(w.masters)
}

// setReplicas notes who follows whom in the table.
func (w *Worker) setReplicas() {
	were := make([]bool, len(w.nodes))
	for i, n := range w.nodes {
		were[i] = n.master != nil
		if len(n.replicas) > 0 {
			n.followedAt, w.followedAt = w.now, w.now
		}
		n.master, n.replicas = nil, nil
	}
	for i, tn := range w.table.Nodes {
		for _, id := range tn.Replicas {
			if r := w.nodes[id]; !w.table.Nodes[id].Master {
				r.master = w.nodes[i]
				w.nodes[i].replicas = append(w.nodes[i].replicas, r)
			}
		}
	}
	for i, n := range w.nodes {
		if (n.master != nil) != were[i] {
			n.roleChanged()
		}
	}
}

// sameOwners tells whether every key has the same owner in both tables. A process
// has one layout in its life, so where keys are not spread by slots the masters in
// their order say it all.
func sameOwners(a, b *router.Table) bool {
	if !b.Slotted() {
		return slices.EqualFunc(owners(a), owners(b), sameAddr)
	}
	for s := range int32(slots.Count) {
		i, j := a.SlotOwner(s), b.SlotOwner(s)
		if (i == router.None) != (j == router.None) || i != router.None && a.Nodes[i].Addr != b.Nodes[j].Addr {
			return false
		}
	}
	return true
}

func owners(t *router.Table) []router.Node {
	return slices.DeleteFunc(slices.Clone(t.Nodes), func(n router.Node) bool { return !n.Master })
}

func sameAddr(a, b router.Node) bool { return a.Addr == b.Addr }

// Turn begins a turn: everything until EndTurn happens at this time. now is
// monotonic, in nanoseconds from any origin; wall is for people.
func (w *Worker) Turn(now int64, wall time.Time) { w.now, w.wall = now, wall }

// NextTick is the time at which Tick should be called, if nothing happens
// before.
func (w *Worker) NextTick() int64 {
	next := w.nextDue()
	if w.o.Reads != FromMaster {
		next = min(next, w.nextLook)
	}
	return next
}

func (w *Worker) nextDue() int64 {
	if len(w.retries) > 0 || len(w.hub.waits) > 0 || w.hub.unheard > 0 || len(w.stalled) > 0 || len(w.doomed) > 0 || len(w.lagging) > 0 {
		return w.now + tick
	}
	for _, n := range w.nodes {
		for _, c := range n.conns {
			if c.Busy() && (c.State() != pool.Idle || c.Stats.Losses > 0) {
				return w.now + tick
			}
		}
		if n.exclusive > 0 || len(n.retired.conns) > 0 {
			return w.now + tick
		}
	}
	for _, s := range w.trackers {
		for _, c := range s.tracking.conns {
			if c.Busy() {
				return w.now + tick
			}
		}
	}
	if !w.hub.idle() || len(w.trackers) > 0 {
		return min(w.lastSweep+sweepTick, w.now+10*tick)
	}
	return w.lastSweep + sweepTick
}

// Tick lets time act: deadlines, retries, clients that have been silent for
// too long.
func (w *Worker) Tick() {
	for _, n := range w.nodes {
		n.tickShared()
	}
	w.tickReplicas()
	w.askServer()
	w.tickExclusive()
	w.tickTracking()
	w.hub.tick()
	w.tickRetries()
	w.tickLagging()
	for _, s := range w.stalled {
		w.wake(s)
	}
	w.stalled = w.stalled[:0]
	if w.now-w.lastSweep >= sweepTick {
		w.lastSweep = w.now
		w.sweep()
	}
}

// sweep closes clients that hold a place without using it.
func (w *Worker) sweep() {
	w.trim()
	for _, s := range w.sessions {
		switch {
		case s.has(closing | dead):
		case !s.has(authed) && w.now-s.opened > authTimeout:
			w.logRefusal(s, "no password in time")
			w.kill(s)
		case s.partial != nil && w.now-s.partialAt > readTimeout+int64(len(s.in))*int64(time.Second)/minUpload:
			w.logRefusal(s, "a command that did not arrive in time")
			w.kill(s)
		case s.has(subscribed):
			if s.tooSlow(w.now) {
				w.stats.ClosedSlow++
				w.logRefusal(s, "does not read its messages")
				w.kill(s)
			}
		case w.o.IdleTimeout > 0 && s.line.head == nil && w.now-s.seen > int64(w.o.IdleTimeout) && !w.monitors.include(s):
			w.stats.ClosedIdle++
			w.kill(s)
		}
	}
}

// EndTurn returns what is due.
func (w *Worker) EndTurn() *Ready {
	if w.moved {
		w.ownersChanged(true)
	}
	for len(w.resume) > 0 {
		s := w.resume[len(w.resume)-1]
		w.resume = w.resume[:len(w.resume)-1]
		s.clear(resuming)
		w.goOn(s)
	}
	if len(w.lostWrites) > 0 {
		clear(w.lostWrites)
	}
	w.hub.tellAudience()
	w.tellMonitors()
	r := &w.ready
	r.Garbage += w.set.TakeBig() + w.buffers.TakeGarbage()
	r.Conns = w.set.Take(r.Conns[:0])
	r.Sessions = append(r.Sessions[:0], w.dirty...)
	for i, s := range w.dirty {
		s.clear(dirty)
		w.dirty[i] = nil
	}
	w.dirty = w.dirty[:0]
	return r
}

// Taken tells that the shell has done what the one-time fields of Ready asked.
func (w *Worker) Taken() {
	r := &w.ready
	r.Refresh, r.Garbage = false, 0
	clear(r.Asks)
	r.Asks, r.Notes, r.Refusals = r.Asks[:0], r.Notes[:0], r.Refusals[:0]
}

// Clients is the number of open sessions.
func (w *Worker) Clients() int { return len(w.sessions) }

// Drain closes every client as soon as what it has sent is answered.
func (w *Worker) Drain() {
	for _, s := range w.sessions {
		w.closeAfter(s)
	}
}

// Shut closes all connections to the nodes.
func (w *Worker) Shut() {
	for _, n := range w.nodes {
		n.close(w.now, "keyway is stopping")
	}
	w.closeDoomed()
}

// Up tells how many masters have a connection that is ready, of how many.
func (w *Worker) Up() (up, of int) {
	for _, n := range w.masters {
		if n.isUp() {
			up++
		}
	}
	return up, len(w.masters)
}

// isUp reports whether a connection to the node is ready that clients share, or shared
// until a slow reply kept it.
func (n *node) isUp() bool {
	ready := func(c *pool.Conn) bool { return c.State() == pool.Ready }
	return slices.ContainsFunc(n.conns, ready) || slices.ContainsFunc(n.retired.conns, ready)
}

// probe asks a node something of the worker's own.
type probe struct {
	buf  []byte
	done func(reply []byte, ok bool)
}

func (p *probe) Reply(_ *pool.Conn, _ []byte, piece pool.Piece) {
	if p.buf = append(p.buf, piece.Bytes...); piece.Last {
		p.done(p.buf, true)
	}
}

func (p *probe) Failed(*pool.Conn, []byte, pool.Failure) { p.done(nil, false) }

// ask sends a command of the worker's own to a node. done is called once.
func (w *Worker) ask(c *pool.Conn, deadline int64, done func(reply []byte, ok bool), args ...string) {
	c.Send(&probe{done: done}, resp.AppendCommand(nil, args...), w.now, deadline)
}

func (w *Worker) deadline() int64 { return w.now + int64(w.o.Backend.RequestTimeout) }

// anyMaster returns a connection to some master that can be reached, the same
// one for a client as long as that holds.
func (w *Worker) anyMaster(s *Session) (*node, *pool.Conn) {
	var n *node
	var c *pool.Conn
	for i := range w.masters {
		n = w.masters[(int(s.id)+i)%len(w.masters)]
		c = n.conn(s)
		if c.Refusing() == "" {
			break
		}
	}
	return n, c
}

// conn is the shared connection that a session's commands to the node take:
// always the same, or their order would be lost.
func (n *node) conn(s *Session) *pool.Conn {
	if len(n.retired.conns) > 0 {
		n.retired.reinstate(n)
	}
	k := n.w.o.Connections
	if s.db == 0 && k == 1 && s.state&(resp3|tracks|noTouch) == 0 {
		return n.conns[0]
	}
	if s.lane() == trackedLane {
		return s.tracking.conn(n)
	}
	for i := 0; i < len(n.conns); i += k {
		if s.fits(n.conns[i]) {
			return n.conns[i+int(s.id%uint64(k))]
		}
	}
	n.connect(s)
	return n.conn(s)
}

// fits reports whether a connection's state is the client's: its database, its
// protocol, and whether what it reads counts as used.
func (s *Session) fits(c *pool.Conn) bool {
	return c.DB == int(s.db) && c.RESP3 == s.has(resp3) && c.NoTouch == s.has(noTouch)
}

// shape gives a new connection the client's state.
func (s *Session) shape(c *pool.Conn) {
	c.DB, c.RESP3, c.NoTouch = int(s.db), s.has(resp3), s.has(noTouch)
}

// connect adds the shared connections for clients in the session's state.
func (n *node) connect(s *Session) {
	for range n.w.o.Connections {
		n.conns = append(n.conns, n.newShared(s.shape))
	}
}

// newShared is one more connection to the node that clients share. shape gives it
// the state that they have in common.
func (n *node) newShared(shape func(*pool.Conn)) *pool.Conn {
	c := n.newConn()
	shape(c)
	c.Fence = n.w.o.Fence
	if n.w.o.Reads != FromMaster && n.w.table.Clustered() {
		c.Prelude = n.scope
	}
	return c
}

// disconnect takes away the shared connections that are for the same as this one,
// which the node does not have. Others may be walking over the old list.
func (n *node) disconnect(like *pool.Conn) {
	var kept []*pool.Conn
	for _, c := range n.conns {
		if c.DB == like.DB && c.RESP3 == like.RESP3 && c.NoTouch == like.NoTouch {
			n.w.doomed = append(n.w.doomed, c)
		} else {
			kept = append(kept, c)
		}
	}
	n.conns = kept
}

func fingerprint(masters []*node) uint64 {
	h := uint64(14695981039346656037)
	for _, n := range masters {
		for _, c := range []byte(n.addr + strconv.Itoa(len(n.addr))) {
			h = (h ^ uint64(c)) * 1099511628211
		}
	}
	return h ^ h>>32
}
