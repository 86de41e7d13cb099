package sim

import (
	"fmt"
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

// change is a live change of the layout, seen from outside: when each node begins an epoch, when each
// keyway learns of it, and what must hold meanwhile. There are two layouts. Odd epochs lead from
// the first to the second, even ones back, perhaps before all keys have moved.
//
//	node 0   0 ------ 1 ------------------- 2 ----
//	node 1   0 -------- 1 ---------------- 2 -----
//	node 2   0 ---- 1 ------------------------ 2 -
//	keyway 0 A ----- A to B --------------- B to A
//	keyway 1 A .......... (frozen) A to B -- B to A
type change struct {
	world   *world
	owners  [2][groups]int // the nodes of the slot groups, by layout
	masters [2][]int       // the nodes of a layout, in order
	tables  [2]*router.Table
	options proxy.Options
	keyways []*keyway // in the order of world.workers

	epoch  int64 // that has been decided; nodes and keyways come to it one by one
	fence  fence
	left   int   // epochs that will follow
	unrest chaos // of keyways, and of the commands of operators
	nextAt int64 // when the next one is decided, once all nodes are in this one; 0: not known yet
	flipAt []int64
	skews  []time.Duration // of the nodes' clocks
	shell  *shell          // decides and carries out the change; nil: the simulation itself does
	oracle
}

// keyway is one process.
type keyway struct {
	index       int
	worker      *proxy.Worker
	epoch       int64
	table       *router.Table
	sleepsUntil int64
	adopts      int64 // the epoch that it has learned of
	adoptAt     int64 // when it serves by that
	isExcused   bool  // its clients may get errors of the last change
}

// fence is how a node's earlier connections end when it begins an epoch.
type fence uint8

const (
	byType  fence = iota // all that are not the flipper's own
	byName               // those of keyways
	noFence              // none: a test that the simulation notices that
)

// RunChange simulates a change of the layout.
func RunChange(seed uint64, trace *strings.Builder) (failure string, summary string) {
	return runChange(seed, trace, fence(seed%2))
}

func runChange(seed uint64, trace *strings.Builder, f fence) (failure string, summary string) {
	w := newChange(seed, trace)
	w.change.fence = f
	for w.now < int64(4*time.Second) && w.failure == "" {
		w.turn()
	}
	w.endFaults()
	w.settle()
	w.change.readAll()
	for range 3 { // a connection that ends takes a command with it
		w.settle()
	}
	w.change.checkEnd()
	return w.failure, fmt.Sprintf("%d replies, %d refused, %d unknown, %d executed, %d sockets, %d epochs, "+
		"%d keys moved, %d read before, %d keyways started", w.replies, w.refusals, w.unknowns, w.executed,
		w.redials, w.change.epoch, w.change.restored, w.stays, w.change.started)
}

// endFaults ends all faults, and brings all nodes and keyways into the last epoch.
func (w *world) endFaults() {
	w.faults = false
	for _, n := range w.nodes {
		n.up, n.frozen = true, 0
		if n.busy != nil {
			n.busy.until = w.now // otherwise nobody could read its keys at the end
		}
	}
	for _, l := range w.links {
		l.trickle = 0
	}
	for _, k := range w.change.keyways {
		k.sleepsUntil = 0
	}
}

// settle goes on until nobody waits.
func (w *world) settle() {
	for end := w.now + int64(w.answer); w.now < end && w.failure == "" && (w.outstanding() || !w.change.isSettled()); {
		w.turn()
	}
	for _, c := range w.clients {
		if c.open && len(c.waiting) > 0 {
			w.failf("client %d still waits for %s %v", c.id, c.waiting[0].kind, c.waiting[0].keys)
		}
	}
}

func newChange(seed uint64, trace *strings.Builder) *world {
	w := newNodes(seed, trace)
	w.change.startAll(seed)
	return w
}

// newNodes returns the nodes and the two layouts of a seed.
func newNodes(seed uint64, trace *strings.Builder) *world {
	w := newBareWorld(seed, trace)
	r := w.rng
	w.chaos = chaos{
		cut: r.IntN(40), freeze: r.IntN(8), crash: r.IntN(8), hangup: r.IntN(10), stall: r.IntN(20),
		loading: r.IntN(20), trickle: r.IntN(10), flush: r.IntN(20), lag: r.IntN(10), busy: r.IntN(10),
	}
	if seed%4 == 0 {
		w.chaos = chaos{lag: w.chaos.lag}
	}
	c := &change{world: w, left: 1 + r.IntN(3), flipAt: make([]int64, 3)}
	c.unrest = w.chaos
	c.nextAt = int64(200*time.Millisecond) + r.Int64N(int64(1500*time.Millisecond))
	w.change = c
	for i := range 3 {
		w.nodes = append(w.nodes, w.newNode(i, nil))
		c.prepare(w.nodes[i], time.Duration(r.IntN(4000)-2000)*time.Millisecond)
	}
	for i := range c.tables {
		c.drawLayout(i)
	}
	return w
}

// startAll starts the keyways and the clients.
func (c *change) startAll(seed uint64) {
	w, r := c.world, c.world.rng
	c.options = proxy.Options{
		Backend: pool.Config{
			ConnectTimeout: w.dial, RequestTimeout: w.request, Name: "keyway:sim",
		},
		Hold:        []time.Duration{-1, 0, 2 * time.Second}[r.IntN(3)],
		Connections: 1 + r.IntN(2), CheckEvery: r.IntN(30), Seed: seed, WatchLocks: locks.Options{Observe: true},
	}
	for range 2 + r.IntN(3) {
		c.keyways = append(c.keyways, nil)
		w.workers = append(w.workers, nil)
		c.start(len(c.keyways)-1, 0)
	}
	c.begin()
	for i := range 6 {
		w.clients = append(w.clients, w.newClient(i))
	}
}

// drawLayout gives each slot group to one of some of the nodes.
func (c *change) drawLayout(i int) {
	w := c.world
	some := w.rng.Perm(len(w.nodes))[:1+w.rng.IntN(len(w.nodes))]
	slices.Sort(some)
	c.masters[i] = some
	nodes, owned := make([]router.Node, len(some)), make([][]slots.Range, len(some))
	for j, at := range some {
		nodes[j] = router.Node{Name: w.nodes[at].String(), Addr: w.nodes[at].addr, Master: true}
	}
	for g := range groups {
		j := w.rng.IntN(len(some))
		c.owners[i][g] = some[j]
		owned[j] = append(owned[j], slots.Range{
			First: uint16(g * slots.Count / groups), Last: uint16((g+1)*slots.Count/groups - 1),
		})
	}
	table, err := router.NewStaticSlots(nodes, owned)
	if err != nil {
		panic(err)
	}
	c.tables[i] = table
}

func (c *change) keywayOf(worker *proxy.Worker) *keyway {
	for _, k := range c.keyways {
		if k != nil && k.worker == worker {
			return k
		}
	}
	return &keyway{} // it is dead
}

// start starts a keyway that serves by an epoch.
func (c *change) start(i int, epoch int64) {
	k := &keyway{index: i, epoch: epoch}
	k.worker = proxy.New(c.optionsOf(k), k.table)
	k.worker.WriteNow = c.world.writeNow
	c.keyways[i], c.world.workers[i] = k, k.worker
	c.started++
	if c.shell != nil {
		c.shell.start(k)
	}
}

// optionsOf chooses a keyway's table by its epoch, and returns its options.
func (c *change) optionsOf(k *keyway) proxy.Options {
	o := c.options
	o.Now = c.world.now
	k.table = c.tableOf(k.epoch)
	o.Backend.Epoch = k.epoch
	o.Incarnations = map[string]string{}
	for _, n := range c.world.nodes { // a restart of theirs loses nothing
		o.Incarnations[n.addr] = n.redis.Incarnation()
	}
	if c.shell == nil || k.table.IsMoving() {
		o.Backend.MinEpoch = k.epoch
	}
	if c.shell != nil {
		o.Backend.Name = c.shell.name(k, "")
	}
	return o
}

func (c *change) tableOf(epoch int64) *router.Table {
	if c.shell != nil {
		return c.shell.tableOf(epoch)
	}
	if epoch == 0 {
		return c.tables[0]
	}
	return router.Moving(c.tables[(epoch-1)%2], c.tables[epoch%2])
}

// goOn does what is due: it decides an epoch, flips nodes, and lets keyways adopt it, freeze and die.
func (c *change) goOn() {
	w := c.world
	if c.shell != nil {
		c.shell.goOn()
		return
	}
	if w.faults {
		c.mayDecide()
		c.breakKeyways()
	}
	for i, n := range w.nodes {
		if c.registerOf(n) < c.epoch && (w.now >= c.flipAt[i] || !w.faults) && n.runs() && n.busy == nil {
			c.flip(n)
		}
	}
	for _, l := range w.conns {
		at, _ := l.Bind.(*link)
		if k := c.keywayOf(at.owner); l.Epoch > k.epoch && l.Epoch > k.adopts && k.worker != nil {
			c.tell(k, l.Epoch, 30*time.Millisecond)
		}
	}
	for _, k := range c.keyways {
		if !w.faults && k.adopts < c.epoch {
			c.tell(k, c.epoch, time.Millisecond)
		}
		if k.adopts > k.epoch && w.now >= k.adoptAt && w.now >= k.sleepsUntil {
			c.adopt(k)
		}
	}
}

// mayDecide decides that the next epoch begins, once all nodes are in this one.
func (c *change) mayDecide() {
	w := c.world
	switch {
	case c.left == 0 || c.lowest() < c.epoch:
		return
	case c.nextAt == 0:
		c.nextAt = w.now + w.rng.Int64N(int64(time.Second))
		return
	case w.now < c.nextAt:
		return
	}
	c.epoch++
	c.left--
	c.nextAt = 0
	gap := []time.Duration{2 * time.Millisecond, 50 * time.Millisecond, 400 * time.Millisecond}[w.rng.IntN(3)]
	for i := range c.flipAt {
		c.flipAt[i] = w.now + w.rng.Int64N(int64(gap))
	}
	w.logf("epoch %d is decided: %v become %v", c.epoch, c.owners[(c.epoch-1)%2], c.owners[c.epoch%2])
	for _, k := range c.keyways {
		if w.rng.IntN(3) > 0 { // the others learn it from a greeting
			c.tell(k, c.epoch, 2*gap)
		}
	}
}

// lowest returns the lowest epoch of a node.
func (c *change) lowest() int64 {
	low := c.epoch
	for _, n := range c.world.nodes {
		low = min(low, c.registerOf(n))
	}
	return low
}

// isSettled reports whether all nodes and keyways are in the last epoch.
func (c *change) isSettled() bool {
	if c.shell != nil {
		return c.shell.isSettled()
	}
	return c.lowest() == c.epoch && !slices.ContainsFunc(c.keyways, func(k *keyway) bool { return k.epoch < c.epoch })
}

// flip makes a node begin the epoch, and ends all connections of keyways that have read an earlier
// one: both at once.
func (c *change) flip(n *node) {
	c.world.logf("%s begins epoch %d", n, c.epoch)
	name := fmt.Sprintf("keyway_%d", c.epoch)
	text := "#!lua name=" + name + "\nredis.register_function{function_name='" + name +
		"', callback=function() return '' end, flags={'no-writes', 'allow-stale'}}"
	block := [][]string{{"MULTI"}, {"FUNCTION", "LOAD", text}}
	switch c.fence {
	case byType:
		block = append(block, []string{"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"})
	case byName:
		list, _ := resp.Bulk(c.admin(n).Do([]string{"CLIENT", "LIST"}))
		for line := range strings.Lines(string(list)) {
			if id, rest, _ := strings.Cut(line, " "); strings.Contains(rest, " name=keyway:") {
				block = append(block, []string{"CLIENT", "KILL", "ID", strings.TrimPrefix(id, "id=")})
			}
		}
	}
	for _, args := range append(block, []string{"EXEC"}) {
		c.admin(n).Do(args)
	}
}

// admin returns the connection over which a node is flipped.
func (c *change) admin(n *node) *model.Conn {
	if at := c.admins[n.self]; at == nil || at.Closed() {
		c.admins[n.self] = n.redis.Open(func([]byte) {}, func() {})
	}
	return c.admins[n.self]
}

func (c *change) tell(k *keyway, epoch int64, within time.Duration) {
	k.adopts, k.adoptAt = epoch, c.world.now+c.world.rng.Int64N(int64(within))
}

// adopt makes a keyway serve by the epoch that it has learned of.
func (c *change) adopt(k *keyway) {
	c.world.logf("keyway %d adopts epoch %d", slices.Index(c.keyways, k), k.adopts)
	k.epoch = k.adopts
	proxy.Configure(k.worker, c.optionsOf(k))
	proxy.ReplaceLayout(k.worker, k.table)
}

// breakKeyways lets keyways freeze and die.
func (c *change) breakKeyways() {
	w := c.world
	for i, k := range c.keyways {
		switch {
		case w.now < k.sleepsUntil || c.unrest.cut == 0:
		case w.chance(c.unrest.freeze):
			k.sleepsUntil = w.now + w.rng.Int64N(int64(1500*time.Millisecond))
			k.isExcused = true
			w.logf("keyway %d freezes until %d ms", i, time.Duration(k.sleepsUntil).Milliseconds())
		case w.chance(c.unrest.crash) && len(w.clients) < 40:
			w.logf("keyway %d dies", i)
			c.kill(i)
		}
	}
}

// kill ends a keyway, and starts another one in its place that knows an epoch of some node.
func (c *change) kill(i int) {
	w, dead := c.world, c.keyways[i].worker
	for _, l := range w.links {
		if l.owner == dead {
			l.open = false
		}
	}
	w.conns = slices.DeleteFunc(w.conns, func(l *pool.Link) bool { return l.Bind.(*link).owner == dead })
	w.unwritten = slices.DeleteFunc(w.unwritten, func(l *pool.Link) bool { return l.Bind.(*link).owner == dead })
	if epoch := c.registerOf(w.nodes[w.rng.IntN(len(w.nodes))]); c.shell == nil {
		c.start(i, epoch)
	} else {
		c.shell.restart(i)
	}
	for _, cl := range slices.Clone(w.clients) {
		if cl.open && cl.session.Worker == dead {
			cl.open = false
			cl.user.end()
			w.clients = append(w.clients, w.newClient(len(w.clients)))
		}
	}
}
