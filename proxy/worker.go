package proxy

import (
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/scan"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/slowlog"
)

// Options are a worker's settings. Configure changes those that may change during its life.
type Options struct {
	Backend     pool.Config
	Connections int // shared connections to each node; 0 means 1
	CheckEvery  int // pool.Conn.CheckEvery of the shared connections
	// Hold is how long commands wait for the successor of a dead node. 0 means the
	// request timeout; negative: they do not wait.
	Hold      time.Duration
	Exclusive int // connections to each node that belong to one client, at most; 0 means 1000
	// HasRoom reports whether the process has files left to open a connection that it can
	// do without. nil: always.
	HasRoom func() bool

	Limits       resp.Limits // zero means resp.DefaultLimits
	ClientOutput int         // unread bytes at which a client is closed; 0 means 256 MB
	Passwords    []string    // the clients' passwords, each of them valid; empty: none is needed
	IdleTimeout  time.Duration
	MaxClients   int          // of all workers, for INFO
	Allow        map[int]bool // IDs of commands that keyway forwards though it would refuse them

	PerKey  lua.PerKeyScripts // scripts that can be split by their keys
	Keyless string            // scripts without keys run on the node of this key

	SlowerThan  time.Duration // the duration from which SLOWLOG logs a command; 0 means 10 ms, negative: never
	SlowEntries int           // entries of SLOWLOG; 0 means 128

	Reads      Reads         // which nodes serve commands that only read
	MaxLag     time.Duration // replicas with a larger lag are not read from; 0: no limit
	ReadsOptIn bool          // only clients that have sent READONLY read from replicas

	Cluster *emulation.Cluster // the cluster that keyway emulates; nil: none

	Process        *info.Process // keyway's process, for INFO; nil: INFO describes a node's process
	Version        string        // keyway's version
	Index, Workers int           // the index of this worker, and the number of workers
	Seed           uint64        // of the random numbers
}

const (
	// softOutput is the number of unread bytes above which a client's input is not read.
	softOutput = 1 << 20
	// maxLine is the number of requests without a reply at which a client's input is not
	// read.
	maxLine = 4096
	// maxSubscriber is the number of unread bytes at which a client with subscriptions is
	// closed (client-output-buffer-limit pubsub).
	maxSubscriber = 32 << 20
	// maxUnauthOutput is the number of bytes that a client may leave unread before it
	// has authenticated (CVE-2025-21605).
	maxUnauthOutput = 16 << 10

	authTimeout = int64(10 * time.Second) // for authentication
	// readTimeout is the time for sending one whole command. A client gets one second more
	// for each minUpload bytes that it has sent.
	readTimeout = int64(30 * time.Second)
	minUpload   = 4 << 10

	tick      = int64(10 * time.Millisecond) // between two ticks while anything is in flight or waits
	sweepTick = int64(time.Second)           // between two checks of all clients
)

// Worker is everything that one thread knows: its sessions, its nodes and its connections.
type Worker struct {
	o     Options
	ready Ready
	stats metrics.Stats
	turn
	clientSet
	memory
	scratchpad

	inputs      inputs
	learned     learnedCommands
	scripts     scripts
	split       splitter
	mergers     mergers
	slowReaders slowReaders

	routing
	retries     retries
	reads       reads
	largeValues largeValues
	server      software
	doomed      []*pool.Link // connections to close, of any kind

	siblings siblings
	features []feature
	hooks
	slowLog slowlog.Log
}

// turn is the time of the current turn, and of the last sweep.
type turn struct {
	now       int64
	wall      time.Time
	lastSweep int64
}

// clientSet is a worker's sessions, and those of them that something must be done for.
type clientSet struct {
	sessions []*Session
	byID     map[uint64]*Session
	lastID   uint64
	dirty    []*Session // sessions for Ready.Sessions
	stalled  []*Session // sessions that wait until a connection has room
}

// scratchpad is what every command reuses.
type scratchpad struct {
	keys    []int  // the positions of the current command's keys
	scratch []byte // for replies that keyway makes
	frame   []byte // for commands that keyway makes
}

// Ready is the work for the shell after a turn. Its slices are valid until the next call of
// EndTurn.
type Ready struct {
	// Links come first. The shell writes NextWrite to each and does its Duty. So it writes
	// requests once per turn, however many clients have sent some.
	Links []*pool.Link
	// Sessions come next. The shell writes Output to each, closes those that are Finished,
	// and reads only from those that are Reading.
	Sessions []*Session

	Refresh  bool      // the topology should be fetched again
	Look     int64     // not 0: the shell fetches the topology, and then calls Looked with this time
	Asks     []Ask     // each sibling executes Do, and each answer goes to Answered
	Notes    []string  // for the log: events that an operator should know
	Refusals []Refusal // for the log: refused requests and closed clients
	Garbage  int       // bytes of large buffers that the worker no longer uses
}

// routing is the routing table, and the nodes that it names.
type routing struct {
	w       *Worker
	set     *pool.Set
	table   *router.Table
	private *router.Table // the same as table, if this worker has a copy of its own; otherwise nil
	moved   bool          // some key's owner has changed in this turn
	epoch   uint64        // grows whenever a key's owner changes
	nodes   []*node       // in the order of table.Nodes
	masters []*node
	byName  map[string]*node // by node.key
	ordinal uint             // of the next new node
	walk    scan.Masters     // of SCAN
	looks   looks
}

// node is a server that keyway sends commands to: a master or a replica.
type node struct {
	w          *Worker
	name, addr string
	sentinel   bool    // sentinels have reported it as a master
	master     *node   // the master of a replica; nil for a master
	replicas   []*node // the replicas of a master
	following
	succession
	ordinal uint
	// conns are the shared connections: Options.Connections for RESP2 and database 0, then
	// as many for each other state (database, protocol, NO-TOUCH) that clients use.
	conns       []*pool.Conn
	retired     retired
	askedIfBusy bool // see tickBusy
	exclusives
	group int32 // a group of keys that it owns, or owned last; -1: none

	moved, asked, retried uint64 // numbers of MOVED, of ASK and of retries
	waiting, waitingBytes int    // calls that wait to be sent again, and their memory
	servedAt              int64  // when it last answered a retry, or when the first call began to wait
	putOffAt              int64  // when a call last had to wait
	mayRetry              int    // what is left of the retry budget of this tick
	refusal               []byte // its last refusal of a plain command
	refusalAt             int64
}

// key returns the node's key in Worker.byName.
func (n *node) key() string { return n.name + " " + n.addr }

// newConn returns a new connection to the node. It is not dialed yet.
func (n *node) newConn() *pool.Conn {
	c := n.w.set.Conn(n.addr, n)
	c.Master = n.sentinel
	return c
}

// label returns the name and address of the node for errors. The name of a cluster's node is
// its address. Some nodes have no address yet.
func (n *node) label() string {
	if n.name == n.addr || n.addr == "" {
		return n.name
	}
	return n.name + " (" + n.addr + ")"
}

// hashSeed is secret, so that clients cannot choose keys that collide. All workers share it,
// so that two runs of one simulation in a process have the same collisions.
var hashSeed = maphash.MakeSeed()

// New returns a worker that routes by table.
func New(o Options, table *router.Table) *Worker {
	o = o.withDefaults()
	w := &Worker{o: o}
	w.byID, w.scratch = map[uint64]*Session{}, make([]byte, 0, 4<<10)
	w.stats = metrics.NewStats(command.Count)
	w.slowLog = slowlog.New(o.SlowerThan, o.SlowEntries, o.Index, o.Workers)
	w.inputs = inputs{w: w, parser: new(resp.Parser)}
	w.learned = learnedCommands{w: w, names: map[string]*command.Command{}}
	w.scripts = scripts{
		w: w, cache: lua.NewCache(o.PerKey), keyless: []byte(o.Keyless),
		lookups: map[lookup][]func([]byte, bool){},
	}
	w.mergers, w.slowReaders = mergers{w: w}, slowReaders{w: w}
	w.routing = routing{
		w: w, byName: map[string]*node{},
		set: pool.NewSet(o.Backend, rand.New(rand.NewPCG(o.Seed, uint64(o.Index)))),
	}
	w.retries = retries{w: w, lostWrites: map[lostKey]struct{}{}}
	w.reads = reads{w: w, replicas: freshness.NewReplicas(o.MaxLag)}
	w.largeValues = largeValues{w: w}
	w.server = software{w: w, Software: info.Unknown}
	w.siblings = siblings{w: w, questions: map[uint64]*question{}}
	setLimits(w)
	w.features = newFeatures(w)
	w.SetTable(table)
	return w
}

// SetTable replaces the routing table. Nodes that are in both tables keep their connections.
func (w *Worker) SetTable(t *router.Table) {
	changed := w.table == nil || !sameOwners(w.table, t)
	if changed {
		w.epoch++ // clients with calls in flight wait for their replies first; see consume
	}
	w.table, w.private = t, nil
	w.setNodes()
	w.ownersChanged(changed || w.moved)
}

// moveSlot records the new owner of a slot. A failover moves thousands of slots in one turn,
// so EndTurn handles the consequences once, in ownersChanged.
func (rt *routing) moveSlot(slot int32, id router.NodeID) {
	if rt.private == nil {
		rt.private = rt.table.Private()
		rt.table = rt.private
	}
	rt.epoch++
	rt.moved = true
	if rt.table.Move(slot, id) {
		rt.setNodes()
	}
}

// ownersChanged handles a new table. changed says that some key has another owner.
func (rt *routing) ownersChanged(changed bool) {
	w := rt.w
	rt.moved = false
	for _, f := range w.features {
		f.layout(changed)
	}
	for _, s := range w.retries.sessions {
		if len(s.retry) > 0 {
			s.retryAt = min(s.retryAt, w.now) // the calls may have waited for this table
		}
	}
}

// setNodes creates and closes nodes, so that the worker has those of the table.
func (rt *routing) setNodes() {
	w := rt.w
	t := rt.table
	stay, before := map[string]*node{}, rt.nodes
	were := rt.masters
	rt.nodes, rt.masters = make([]*node, len(t.Nodes)), nil
	for i, tn := range t.Nodes {
		key := (&node{name: tn.Name, addr: tn.Addr}).key()
		n := rt.byName[key]
		if n == nil {
			n = &node{
				w: w, name: tn.Name, addr: tn.Addr, sentinel: tn.Sentinel,
				ordinal: rt.ordinal, group: -1, following: following{lag: freshness.NewNode()},
			}
			rt.ordinal++
			n.connect(new(Session))
		}
		stay[key] = n
		rt.nodes[i] = n
		if tn.Master {
			rt.masters = append(rt.masters, n)
			for _, c := range n.conns[:w.o.Connections] {
				if slices.Contains(were, n) {
					c.Open(w.now)
				} else {
					c.RetryNow(w.now) // a node that has become a master is alive again
				}
			}
		}
	}
	rt.setReplicas()
	rt.recordGroups()
	rt.byName = stay
	for _, n := range before {
		if stay[n.key()] == nil {
			n.close(w.now, "the node has left the topology")
		}
	}
	addrs := make([]string, len(rt.masters))
	for i, n := range rt.masters {
		addrs[i] = n.addr
	}
	rt.walk = scan.Of(addrs)
}

// setReplicas sets the master and the replicas of each node, from the table.
func (rt *routing) setReplicas() {
	were := make([]bool, len(rt.nodes))
	for i, n := range rt.nodes {
		were[i] = n.master != nil
		if len(n.replicas) > 0 {
			n.followedAt, rt.looks.followedAt = rt.w.now, rt.w.now
		}
		n.master, n.replicas = nil, nil
	}
	for i, tn := range rt.table.Nodes {
		for _, id := range tn.Replicas {
			if r := rt.nodes[id]; !rt.table.Nodes[id].Master {
				r.master = rt.nodes[i]
				rt.nodes[i].replicas = append(rt.nodes[i].replicas, r)
			}
		}
	}
	for i, n := range rt.nodes {
		if (n.master != nil) != were[i] {
			n.roleChanged()
		}
	}
}

// sameOwners reports whether every key has the same owner in both tables. A process never
// changes its layout. So without slots, the ordered list of masters determines the owners.
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

// Turn begins a turn: everything until EndTurn happens at this time. now is monotonic, in
// nanoseconds from any origin. wall is the wall clock, for logs and INFO.
func (w *Worker) Turn(now int64, wall time.Time) { w.now, w.wall = now, wall }

// NextTick returns the time at which the shell should call Tick, if nothing happens before.
func (w *Worker) NextTick() int64 {
	next := w.nextDue()
	if w.o.Reads != FromMaster {
		next = min(next, w.reads.replicas.Next())
	}
	return next
}

func (w *Worker) nextDue() int64 {
	if len(w.retries.sessions) > 0 || len(w.stalled) > 0 || len(w.doomed) > 0 || len(w.slowReaders.sessions) > 0 {
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
	next := w.lastSweep + sweepTick
	for _, f := range w.features {
		next = min(next, f.due())
	}
	return next
}

// Tick handles everything that time causes: deadlines, retries, checks of replicas, and
// clients that have been silent for too long.
func (w *Worker) Tick() {
	for _, n := range w.nodes {
		n.tickShared()
	}
	w.reads.tick()
	w.server.ask()
	w.tickExclusive()
	for _, f := range w.features {
		f.tick()
	}
	w.retries.tick()
	w.slowReaders.tick()
	for _, s := range w.stalled {
		s.wake()
	}
	w.stalled = w.stalled[:0]
	if w.now-w.lastSweep >= sweepTick {
		w.lastSweep = w.now
		w.sweep()
	}
}

// sweep closes clients that do not authenticate, do not complete a command, or are idle for
// too long.
func (w *Worker) sweep() {
	w.trim()
	for _, f := range w.features {
		f.sweep()
	}
	for _, s := range w.sessions {
		switch {
		case s.has(closing | dead):
		case !s.has(authed) && w.now-s.opened > authTimeout:
			w.logRefusal(s, "no password in time")
			s.kill()
		case s.partial != nil && w.now-s.partialAt > readTimeout+int64(len(s.in))*int64(time.Second)/minUpload:
			w.logRefusal(s, "a command that did not arrive in time")
			s.kill()
		case s.has(subscribed | monitoring): // these clients send nothing
		case w.o.IdleTimeout > 0 && s.line.head == nil && w.now-s.seen > int64(w.o.IdleTimeout):
			w.stats.ClosedIdle++
			s.kill()
		}
	}
}

// EndTurn ends a turn, and returns the work for the shell.
func (w *Worker) EndTurn() *Ready {
	if w.moved {
		w.ownersChanged(true)
	}
	for len(w.inputs.woken) > 0 {
		s := w.inputs.woken[len(w.inputs.woken)-1]
		w.inputs.woken = w.inputs.woken[:len(w.inputs.woken)-1]
		s.clear(resuming)
		w.inputs.resume(s)
	}
	if len(w.retries.lostWrites) > 0 {
		clear(w.retries.lostWrites)
	}
	for _, f := range w.features {
		f.endTurn()
	}
	r := &w.ready
	r.Garbage += w.set.TakeGarbage() + w.buffers.TakeGarbage()
	r.Links = w.set.Take(r.Links[:0])
	r.Sessions = append(r.Sessions[:0], w.dirty...)
	for i, s := range w.dirty {
		s.clear(dirty)
		w.dirty[i] = nil
	}
	w.dirty = w.dirty[:0]
	return r
}

// Taken tells the worker that the shell has handled Refresh, Look, Asks, Notes, Refusals and
// Garbage of Ready.
func (w *Worker) Taken() {
	r := &w.ready
	r.Refresh, r.Look, r.Garbage = false, 0, 0
	clear(r.Asks)
	r.Asks, r.Notes, r.Refusals = r.Asks[:0], r.Notes[:0], r.Refusals[:0]
}

// Clients returns the number of open sessions.
func (w *Worker) Clients() int { return len(w.sessions) }

// Drain closes every client as soon as it has read all its replies.
func (w *Worker) Drain() {
	for _, s := range w.sessions {
		s.closeAfter()
	}
}

// Shut closes all connections to the nodes.
func (w *Worker) Shut() {
	for _, n := range w.nodes {
		n.close(w.now, "keyway is stopping")
	}
	w.closeDoomed()
}

// Up returns how many masters have a ready connection, and how many masters there are.
func (w *Worker) Up() (up, of int) {
	for _, n := range w.masters {
		if n.isUp() {
			up++
		}
	}
	return up, len(w.masters)
}

// isUp reports whether a shared connection to the node is ready. Connections that were
// retired because of a slow reply count too.
func (n *node) isUp() bool {
	ready := func(c *pool.Conn) bool { return c.State() == pool.Ready }
	return slices.ContainsFunc(n.conns, ready) || slices.ContainsFunc(n.retired.conns, ready)
}

// probe receives the reply to a command that the worker itself has sent. done gets the
// complete reply, or false if there is none.
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

// ask sends a command of the worker itself over a connection. It calls done once.
func (w *Worker) ask(c *pool.Conn, deadline int64, done func(reply []byte, ok bool), args ...string) {
	c.Send(&probe{done: done}, resp.AppendCommand(nil, args...), w.now, deadline)
}

// deadline returns the deadline of a request that is sent now.
func (w *Worker) deadline() int64 { return w.now + int64(w.o.Backend.RequestTimeout) }

// anyMaster returns a master and the client's connection to it. It prefers masters that can
// be reached, and the same master for a client as long as that one can be.
func (rt *routing) anyMaster(s *Session) (*node, *pool.Conn) {
	var n *node
	var c *pool.Conn
	for i := range rt.masters {
		n = rt.masters[(int(s.id)+i)%len(rt.masters)]
		c = n.conn(s)
		if c.ConnectError() == "" {
			break
		}
	}
	return n, c
}

// conn returns the connection for a session's commands to the node, outside the exclusive
// lane. It is always the same, since otherwise commands could overtake each other.
func (n *node) conn(s *Session) *pool.Conn {
	if len(n.retired.conns) > 0 {
		n.retired.reinstate(n)
	}
	k := n.w.o.Connections
	if s.db == 0 && k == 1 && s.state&(resp3|tracks|noTouch) == 0 {
		return n.conns[0]
	}
	if s.lane() == trackedLane {
		return s.ownConns.conn(n)
	}
	for i := 0; i < len(n.conns); i += k {
		if s.fits(n.conns[i]) {
			return n.conns[i+int(s.id%uint64(k))]
		}
	}
	n.connect(s)
	return n.conn(s)
}

// readyConn returns a connection for a question about the session that needs no state. It
// is the session's own if that is ready, else another shared one, or nil if none is ready.
func (n *node) readyConn(s *Session) *pool.Conn {
	if c := n.conn(s); c.State() == pool.Ready {
		return c
	}
	for _, c := range n.conns {
		if c.State() == pool.Ready {
			return c
		}
	}
	return nil
}

// fits reports whether a connection has the client's state: the same database, protocol and
// CLIENT NO-TOUCH.
func (s *Session) fits(c *pool.Conn) bool {
	return c.DB == int(s.db) && c.RESP3 == s.has(resp3) && c.NoTouch == s.has(noTouch)
}

// shape gives a new connection the client's state.
func (s *Session) shape(c *pool.Conn) {
	c.DB, c.RESP3, c.NoTouch = int(s.db), s.has(resp3), s.has(noTouch)
}

// connect adds shared connections for clients in the session's state.
func (n *node) connect(s *Session) {
	for range n.w.o.Connections {
		n.conns = append(n.conns, n.newShared(s.shape))
	}
}

// newShared returns a new shared connection to the node. shape sets the state that its clients
// have in common.
func (n *node) newShared(shape func(*pool.Conn)) *pool.Conn {
	c := n.newConn()
	shape(c)
	c.CheckEvery = n.w.o.CheckEvery
	if n.w.o.Reads != FromMaster && n.w.table.Clustered() {
		c.Prelude = n.scope
	}
	return c
}

// disconnect removes the shared connections in the same state as like, since the node does not
// support that state. It makes a new list, because a caller may be iterating over the old one.
func (n *node) disconnect(like *pool.Conn) {
	var kept []*pool.Conn
	for _, c := range n.conns {
		if inSameState(c, like) {
			n.w.doomed = append(n.w.doomed, &c.Link)
		} else {
			kept = append(kept, c)
		}
	}
	n.conns = kept
}
