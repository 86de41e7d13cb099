package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/sim/model"
)

// timeouts are how long keyways wait for nodes, and clients for keyways.
type timeouts struct {
	dial, request time.Duration
	// answer is the time within which every command must be answered. It allows for the request
	// timeout, for a second one behind a redirect, for a client that does not read meanwhile,
	// and for failovers. Each of a client's commands may have to wait for one in turn.
	answer time.Duration
}

var (
	short    = timeouts{200 * time.Millisecond, 500 * time.Millisecond, 15 * time.Second}
	defaults = timeouts{time.Second, 6 * time.Second, 60 * time.Second} // those of package config
)

const (
	step = int64(time.Millisecond)

	socketBuffer = 64 << 10 // bytes that fit into the socket of a node that does not read
)

// chaos has the probability of each fault, in chances out of 10,000 a step.
type chaos struct {
	cut, freeze, crash, move, hangup, stall, loading, trickle, spurious, flush, failover, busy int

	lag int // the nodes' mean delay, in steps
}

// world is one simulated run.
type world struct {
	timeouts
	isLate    bool // a node executes what has arrived after keyway has closed the link
	rng       *rand.Rand
	now       int64
	workers   []*proxy.Worker // the second one takes clients over; only in some runs
	nodes     []*node
	clients   []*client
	links     []*link
	unwritten []*pool.Link // connections with bytes that did not fit into the socket
	conns     []*pool.Link // all connections that were ever dialed
	faults    bool         // faults happen
	chaos     chaos

	refreshAt int64
	look      int64 // the last Ready.Look that is not answered; 0: none
	nextTick  int64

	failure string
	trace   *strings.Builder

	replies, refusals, unknowns, executed, redials, unproven, spurious, handovers, crashes, stays int

	pushes      map[string]int  // how often each element was appended
	pops        map[string]int  // number of pops from each queue
	poppedElems map[string]bool // elements that were popped
	failing     *failover
	calm        bool // the only faults are closed connections and failovers
	unseen      bool // keyway sees replicas only while a master is dead
	onlyBusy    bool // the only faults are scripts that keep nodes busy
	layouts     *layouts
	change      *change
	drain       draining
	losses      []loss
}

// link is one connection between keyway and a node.
type link struct {
	id        int
	conn      *pool.Link
	dials     uint64 // conn.Stats.Dials when it was dialed
	node      *node
	opened    int64 // time at which the socket is connected
	open      bool
	connected bool // conn.Connected has been called
	toNode    []byte
	toProxy   []byte
	parser    resp.Parser
	peer      *model.Conn // the node's side, once the socket is connected
	trickle   int64       // time until which replies arrive a few bytes at a time
	owner     *proxy.Worker
	servedBy  int64  // the epoch by which keyway served when the link was connected
	pulls     bool   // keyway moves keys over it
	ended     string // why the node has closed the connection, which keyway does not know yet
	shell     *wire  // it belongs to a process of package switching; nil: to a worker
	linger    int64  // time until which bytes of a closed connection may be on their way to the node
}

func (w *world) failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("at %d ms: ", time.Duration(w.now).Milliseconds()) + fmt.Sprintf(format, args...)
		w.logf("FAILED %s", w.failure)
	}
}

func (w *world) logf(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%7d ms  %s\n", time.Duration(w.now).Milliseconds(), fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(of10000 int) bool { return w.rng.IntN(10000) < of10000 }

// Run simulates one seed. failure says what went wrong; it is "" if nothing did.
func Run(seed uint64, trace *strings.Builder) (failure string, summary string) {
	w := newWorld(seed, trace)
	for w.now < int64(4*time.Second) && w.failure == "" {
		w.turn()
	}
	// End all faults. Every question must now be answered, and the lists must match the
	// replies.
	w.faults = false
	w.elect(true)
	for _, n := range w.nodes {
		n.up, n.frozen = true, 0
	}
	for _, l := range w.links {
		l.trickle = 0
	}
	for end := w.now + int64(w.answer); w.now < end && w.failure == "" && (w.outstanding() || w.unclosed()); {
		w.turn()
	}
	if w.unclosed() {
		w.failf("keyway stops, and %d clients are still open", w.workers[0].Clients())
	}
	for _, c := range w.clients {
		if c.open && len(c.waiting) > 0 {
			w.failf("client %d still waits for %s %v", c.id, c.waiting[0].kind, c.waiting[0].keys)
		}
		c.checkLists()
		c.checkPops()
	}
	return w.failure, fmt.Sprintf("%d replies, %d refused, %d unknown, %d executed, %d sockets, %d handovers",
		w.replies, w.refusals, w.unknowns, w.executed, w.redials, w.handovers)
}

// newBareWorld returns a world without nodes, keyways and clients.
func newBareWorld(seed uint64, trace *strings.Builder) *world {
	return &world{
		timeouts: short, rng: rand.New(rand.NewPCG(seed, 99)), trace: trace, faults: true, refreshAt: -1,
		pushes: map[string]int{}, pops: map[string]int{}, poppedElems: map[string]bool{},
	}
}

// newWorld returns the nodes, the worker and the clients of a seed, and decides how often
// each fault happens.
func newWorld(seed uint64, trace *strings.Builder) *world {
	w := newBareWorld(seed, trace)
	w.chaos = chaos{
		cut: w.rng.IntN(60), freeze: w.rng.IntN(8), crash: w.rng.IntN(8), move: w.rng.IntN(200),
		hangup: w.rng.IntN(20), stall: w.rng.IntN(20), loading: w.rng.IntN(30), trickle: w.rng.IntN(10),
		spurious: w.rng.IntN(4), flush: w.rng.IntN(20), lag: w.rng.IntN(12), failover: w.rng.IntN(20),
		busy: w.rng.IntN(20),
	}
	hold := []time.Duration{-1, 0, 2 * time.Second}[w.rng.IntN(3)]
	if w.calm = seed%5 == 0; w.calm {
		w.chaos = chaos{cut: w.chaos.cut, failover: 20}
		hold = 2 * time.Second
	}
	w.unseen = seed%10 == 0
	if w.onlyBusy = seed%8 == 7 && !w.calm; w.onlyBusy {
		w.chaos = chaos{busy: 40, lag: w.chaos.lag}
	}
	if seed%4 == 0 {
		w.chaos.move = 0
	}
	owner := make([]int, groups)
	for g := range owner {
		owner[g] = g % 3
	}
	for i := range 6 {
		w.nodes = append(w.nodes, w.newNode(i, owner))
	}
	table := router.NewSlots(w.nodes[0].table())
	if seed%4 == 2 {
		w.layouts = newLayouts(w)
		table = w.layouts.table
	}
	o := proxy.Options{
		Backend: pool.Config{ConnectTimeout: w.dial, RequestTimeout: w.request}, Hold: hold,
		Connections: 1 + w.rng.IntN(2), CheckEvery: w.rng.IntN(30), Seed: seed,
		WatchLocks: locks.Options{Observe: true},
	}
	w.workers = []*proxy.Worker{proxy.New(o, table)}
	switch seed % 3 {
	case 1:
		w.planDrain()
	case 2:
		w.workers = append(w.workers, proxy.New(o, table))
	}
	for _, k := range w.workers {
		k.WriteNow = w.writeNow
	}
	for i := range 6 {
		w.clients = append(w.clients, w.newClient(i))
	}
	return w
}

func (w *world) newClient(id int) *client {
	c := &client{
		id: id, world: w, open: true, latest: map[string]int{}, late: map[string]bool{},
		pushed: map[string]map[string]outcome{}, onOwnConn: map[string]bool{}, overtaken: map[string]bool{},
		strayed: map[string]bool{},
		popped:  map[string]int{}, delivered: map[string]int{}, unknownPops: map[string]int{},
	}
	worker := w.workers[0]
	if w.change != nil {
		worker = w.workers[id%len(w.workers)]
		c.user = &user{client: c, outcomes: map[string]outcome{}}
	}
	c.session = worker.Open(c, fmt.Sprintf("client-%d", id), "keyway")
	return c
}

func (w *world) outstanding() bool {
	for _, c := range w.clients {
		if c.open && len(c.waiting) > 0 {
			return true
		}
	}
	return false
}

// turn simulates one turn of the loop: it advances the clock, injects faults, moves bytes,
// and performs the worker's duties.
func (w *world) turn() {
	w.now += step
	awake := slices.DeleteFunc(slices.Clone(w.workers), w.sleeps)
	for _, worker := range awake {
		worker.Turn(w.now, time.Unix(0, w.now))
	}
	if w.change != nil {
		w.change.goOn()
		awake = slices.DeleteFunc(awake, func(o *proxy.Worker) bool { return !slices.Contains(w.workers, o) })
	}
	for _, c := range w.unwritten {
		w.markDirty(c) // its socket is writable again
	}
	w.unwritten = w.unwritten[:0]
	w.mayDrain()
	if w.faults {
		w.breakThings()
		for _, c := range w.clients {
			switch {
			case !c.open || len(c.waiting) >= 40 || w.rng.IntN(6) > 0:
			case c.user != nil:
				c.user.ask()
			default:
				c.ask()
			}
		}
	}
	for _, i := range w.rng.Perm(len(w.clients)) {
		c := w.clients[i]
		w.fromClient(c)
		if c.open && c.stall != 0 && w.now >= c.stall && !w.sleeps(c.session.Worker) {
			c.stall = 0
			w.flush(c.session)
		}
	}
	for _, n := range w.nodes {
		if n.runs() && n.busy == nil {
			n.redis.Serve()
		}
	}
	for _, i := range w.rng.Perm(len(w.links)) {
		w.exchange(w.links[i])
	}
	w.topology(awake)
	if w.now >= w.nextTick {
		w.nextTick = w.now + int64(10*time.Millisecond)
		for _, worker := range awake {
			worker.Tick()
			w.nextTick = worker.NextTick(w.nextTick)
		}
	}
	w.handOver()
	w.duties(awake)
	w.check()
	w.links = slices.DeleteFunc(w.links, func(l *link) bool {
		return !l.open && (l.peer == nil || l.peer.Closed())
	})
}

// check checks the conditions that hold at every step: no client has waited too long, and
// keyway counts no more protocol violations than the nodes have committed. judge, executing
// and serve check all other conditions.
func (w *world) check() {
	for _, c := range w.clients {
		if c.overdue() {
			w.failf("client %d still waits for %s %v", c.id, c.waiting[0].kind, c.waiting[0].keys)
		}
	}
	if w.change != nil {
		w.change.check()
	}
	violations := uint64(0)
	for _, c := range w.conns {
		violations += c.Stats.Violations
	}
	if violations > uint64(w.spurious) {
		w.failf("nodes are said to have broken the protocol %d times; they have %d times", violations, w.spurious)
	}
}

// some returns a random prefix of b, in most cases all of it.
func (w *world) some(b []byte) []byte {
	if w.rng.IntN(4) == 0 && len(b) > 0 {
		return b[:w.rng.IntN(len(b)+1)]
	}
	return b
}

func (w *world) fromClient(c *client) {
	if !c.open || w.sleeps(c.session.Worker) || !c.session.Reading() {
		return
	}
	b := w.some(c.toProxy)
	if len(b) > 0 {
		c.session.Worker.Received(c.session, b)
		c.toProxy = c.toProxy[len(b):]
	}
}

// duties performs the duties of the worker's connections and sessions, like package server.
func (w *world) duties(awake []*proxy.Worker) {
	for _, worker := range awake {
		w.dutiesOf(worker)
	}
}

func (w *world) dutiesOf(worker *proxy.Worker) {
	for {
		r := worker.EndTurn()
		for _, c := range r.Links {
			w.serve(worker, c)
		}
		for _, s := range r.Sessions {
			w.flush(s)
		}
		w.look = max(w.look, r.Look)
		if (r.Refresh || r.Look != 0) && w.refreshAt < 0 {
			w.refreshAt = w.now + w.rng.Int64N(int64(100*time.Millisecond))
		}
		busy := len(r.Links)+len(r.Sessions) > 0
		worker.Taken()
		if !busy {
			return
		}
	}
}

func (w *world) serve(worker *proxy.Worker, c *pool.Link) {
	l, _ := c.Bind.(*link)
	switch c.Duty() {
	case pool.Hangup:
		if l != nil {
			l.open = false
		}
		w.logf("%s hung up: %s", c.Addr, c.Reason())
	case pool.Dial:
		if l != nil {
			l.open = false
		}
		w.redials++
		l = &link{id: w.redials, conn: c, dials: c.Stats.Dials, owner: worker, open: true}
		l.opened = w.now + w.rng.Int64N(int64(5*time.Millisecond))
		for _, n := range w.nodes {
			if n.addr == c.Addr {
				l.node = n
			}
		}
		if l.node == nil {
			w.failf("keyway dials %s, which no node of the topology is", c.Addr)
			return
		}
		if c.Bind == nil {
			w.conns = append(w.conns, c)
		}
		c.Bind = l
		w.links = append(w.links, l)
		return
	}
	for l != nil && l.open && l.connected {
		b := c.NextWrite()
		if len(b) == 0 {
			return
		}
		n := min(len(w.some(b)), max(socketBuffer-len(l.toNode), 0))
		l.toNode = append(l.toNode, b[:n]...)
		c.Wrote(n, w.now)
		if n < len(b) {
			w.unwritten = append(w.unwritten, c)
			return
		}
	}
}

// markDirty makes the worker return a connection with unwritten bytes again.
func (w *world) markDirty(c *pool.Link) {
	if c.Paused() {
		c.ResumeReading()
		c.PauseReading()
	} else {
		c.PauseReading()
		c.ResumeReading()
	}
}

// writeNow is Worker.WriteNow.
func (w *world) writeNow(s *proxy.Session, b []byte) int {
	c := s.Bind.(*client)
	if !c.open || w.now < c.stall {
		return 0
	}
	n := len(w.some(b))
	c.got = append(c.got, b[:n]...)
	return n
}

func (w *world) flush(s *proxy.Session) {
	c := s.Bind.(*client)
	if !c.open || w.drain.begun && proxy.MayLeave(s) && w.part(c) {
		return
	}
	for !s.Dead() {
		b := s.Output()
		if len(b) == 0 || w.now < c.stall {
			break
		}
		n := len(w.some(b))
		c.got = append(c.got, b[:n]...)
		s.Wrote(n)
	}
	c.read()
	switch {
	case !s.ShouldClose():
	case w.drain.begun && !s.Dead():
		w.cut(c)
	default:
		w.leave(c)
	}
}

// leave closes a client's connection, and opens another client with keys of its own.
func (w *world) leave(c *client) {
	c.open = false
	if c.user != nil {
		c.user.end()
	} else {
		c.abandon()
	}
	c.session.Worker.Gone(c.session)
	w.logf("client %d has left with %d commands unanswered", c.id, len(c.waiting))
	w.clients = append(w.clients, w.newClient(len(w.clients)))
}

// abandon records that nobody will know the outcome of the commands that are not answered.
func (c *client) abandon() {
	for _, q := range c.waiting {
		if q.kind == "EXEC" {
			c.settle(q.tx, unknown)
		} else if q.kind == "BLPOP" {
			c.unknownPops[q.keys[0]]++
		} else if q.elem != "" {
			c.pushed[q.keys[0]][q.elem] = unknown
		}
	}
}

// breakThings injects random faults.
func (w *world) breakThings() {
	for _, l := range w.links {
		if w.chance(w.chaos.trickle) {
			l.trickle = w.now + w.rng.Int64N(int64(2*time.Second))
			w.logf("the connection to %s slows down", l.node)
		}
		if l.open && l.connected && l.conn.State() == pool.Ready && w.chance(w.chaos.spurious) {
			// Send an unexpected reply if no request is unanswered, otherwise a push
			// message, which cannot be mistaken for a reply.
			w.spurious++
			if !l.conn.Busy() && len(l.toProxy) == 0 {
				l.conn.Received([]byte("+OK\r\n"), w.now)
			} else {
				l.toProxy = append(l.toProxy, ">2\r\n+message\r\n+spurious\r\n"...)
			}
		}
		if l.open && l.connected && l.ended == "" && w.chance(w.chaos.cut) {
			w.logf("the connection to %s is cut", l.node)
			if w.rng.IntN(2) == 0 {
				l.node.process(l) // the node executes the commands that have arrived; their replies are lost
			}
			w.cutLink(l, "connection reset by peer")
		}
	}
	for _, n := range w.nodes {
		if w.chance(w.chaos.flush) {
			n.redis.ForgetScripts()
		}
		switch {
		case n.up && w.now >= n.frozen && w.chance(w.chaos.freeze):
			n.frozen = w.now + w.rng.Int64N(int64(1500*time.Millisecond))
			w.logf("%s freezes until %d ms", n, time.Duration(n.frozen).Milliseconds())
		case n.up && w.chance(w.chaos.crash) && w.failing == nil:
			w.logf("%s crashes", n)
			w.crashes++
			w.die(n)
		case !n.up && w.chance(200) && (w.failing == nil || w.failing.from != n.self):
			n.up = true
			w.logf("%s is back", n)
		}
	}
	if w.layouts != nil {
		w.layouts.mayReplace()
	}
	if w.chance(w.chaos.move) {
		w.moveSlots()
	}
	if w.chance(w.chaos.failover) {
		w.failOver()
	}
	w.elect(false)
	for _, c := range w.clients {
		if c.open && w.chance(w.chaos.hangup) && len(w.clients) < 40 && !w.sleeps(c.session.Worker) {
			w.leave(c)
		}
		if w.chance(w.chaos.stall) {
			c.stall = w.now + w.rng.Int64N(int64(200*time.Millisecond))
		}
	}
}

// moveSlots starts the migration of a slot group, or does its next step (cluster
// specification, "Live reconfiguration").
func (w *world) moveSlots() {
	g := w.rng.IntN(groups)
	from := w.nodes[w.owner(g)]
	to, moving := from.migrating[g]
	if !moving {
		for to = from.self; to == from.self || w.nodes[to].follows >= 0; { // another master
			to = w.rng.IntN(len(w.nodes))
		}
		if w.failing != nil {
			return
		}
		w.logf("slot group %d begins to move from %s to n%d", g, from, to)
		w.nodes[to].importing[g] = from.self
		from.migrating[g] = to
		return
	}
	target := w.nodes[to]
	keys := from.keysOf(g)
	for _, k := range keys[:min(len(keys), 1+w.rng.IntN(3))] {
		from.redis.Migrate(k, target.redis)
	}
	if len(from.keysOf(g)) > 0 {
		return
	}
	w.logf("slot group %d belongs to n%d now", g, to)
	target.owner[g] = to
	delete(target.importing, g)
	from.owner[g] = to
	delete(from.migrating, g)
	for _, n := range w.nodes {
		if w.rng.IntN(2) == 0 {
			n.owner[g] = to // the other nodes learn it now, or later by gossip
		}
	}
}

// owner returns the real owner of a slot group: the node that considers itself the owner.
func (w *world) owner(g int) int {
	for _, n := range w.nodes {
		if n.owner[g] == n.self {
			return n.self
		}
	}
	w.failf("nobody owns group %d", g)
	return 0
}

// topology simulates gossip, and gives the worker the topology that it asked for.
func (w *world) topology(awake []*proxy.Worker) {
	for g := range groups {
		if w.change != nil {
			break // these nodes are no cluster
		}
		if o := w.owner(g); w.rng.IntN(100) == 0 {
			w.nodes[w.rng.IntN(len(w.nodes))].owner[g] = o
		}
	}
	if w.refreshAt >= 0 && w.now >= w.refreshAt {
		w.refreshAt = -1
		for _, worker := range awake {
			worker.SetTable(w.fetch(worker))
			worker.Looked(w.look)
		}
		w.look = 0
	}
}

// fetch returns the table that a look at the topology finds.
func (w *world) fetch(worker *proxy.Worker) *router.Table {
	if w.change != nil {
		return w.change.keywayOf(worker).table
	}
	if w.layouts != nil {
		return w.layouts.table
	}
	return router.NewSlots(w.nodes[w.rng.IntN(len(w.nodes))].view())
}

// view returns the topology that a fetch would return: each slot group with its real owner,
// because the higher epoch wins. Some groups have a stale owner.
func (n *node) view() *slots.Map {
	truth := &node{world: n.world, owner: make([]int, groups)}
	for g := range truth.owner {
		truth.owner[g] = n.world.owner(g)
		if n.world.rng.IntN(10) == 0 && !n.world.calm {
			truth.owner[g] = n.owner[g] // perhaps a stale owner
		}
	}
	return truth.table()
}
