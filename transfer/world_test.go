package transfer_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transfer"
)

// world is a virtual clock and network, with nodes, copiers and clients. It knows what the
// package promises, and nothing of how it does that.
type world struct {
	worldKind
	rand   *rand.Rand
	now    int64
	events events
	count  int
	nodes  []*node
	ways   []*keyway
	keys   []string
	calm   bool // no more faults
	wrong  string

	isTraced bool
	trace    []string

	strays    map[string]string // what the source had of keys that were on two nodes with different values
	outcomes  [transfer.Refused + 1]int
	ran       map[string]bool  // clients' commands have run at the destination
	deadlines map[string]int64 // of values that expire
	ops       []*op
	flushes   [][2]int64
	first     map[string]string // what clients see at first
	written   map[string]string // unfenced: the last value that a client has written to the source
}

// worldKind is what differs between worlds.
type worldKind struct {
	fenced, durable, strict, resp3, old, flush, hasStrays bool
}

type event struct {
	at  int64
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.events, event{w.now + int64(d), w.count, do})
}

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rand.Int64N(int64(b-a)+1))
}

func (w *world) oneIn(n int) bool { return w.rand.IntN(n) == 0 }

func (w *world) logf(format string, args ...any) {
	if !w.isTraced {
		return
	}
	w.trace = append(w.trace, fmt.Sprintf("%10.3f ms  ", float64(w.now)/1e6)+fmt.Sprintf(format, args...))
}

// violated records the first thing that is wrong.
func (w *world) violated(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
		w.logf("WRONG: %s", w.wrong)
	}
}

// run lets time pass until nothing happens any more.
func (w *world) run() {
	for len(w.events) > 0 && w.wrong == "" {
		e := heap.Pop(&w.events).(event)
		if w.now = e.at; w.now > int64(5*time.Minute) {
			w.violated("it does not end")
			return
		}
		e.do()
	}
}

// sides returns the nodes of a key before and after.
func (w *world) sides(key string) (from, to *node) {
	i := slices.Index(w.keys, key)
	if w.durable && !w.strict { // the node that keys leave must not forget that they did
		return w.nodes[0], w.nodes[1+i%2]
	}
	return w.nodes[i%len(w.nodes)], w.nodes[(i+1+i/len(w.nodes)%2)%len(w.nodes)]
}

// conn is a connection to a node. Nothing overtakes on it. What was sent arrives also when the
// sender has died or given the connection up, and perhaps much later.
type conn struct {
	w       *world
	n       *node
	life    int // of the node
	owner   *keyway
	dead    bool // the owner has given it up
	copies  bool // it belongs to a copier, not to clients
	arrives [2]int64
	waiting []func(reply []byte) // for the replies, in their order; nil when the connection is lost
	lost    func()
	current *op // the client's command that it carries

	// At the node:
	watched map[string]bool // true: the key was there
	dirty   bool
	queue   [][]string // since MULTI
	multi   bool
	abort   bool
	offset  int64 // of its last write
	blocked bool
	backlog [][]string // what has come while it was blocked
}

func (w *world) connect(n *node, owner *keyway, lost func()) *conn {
	c := &conn{w: w, n: n, life: n.life, owner: owner, lost: lost, watched: map[string]bool{}}
	n.conns = append(n.conns, c)
	if owner != nil {
		owner.conns = append(owner.conns, c)
	}
	return c
}

// send sends commands. take gets each reply; when the connection is lost, c.lost is called instead.
func (c *conn) send(frames []byte, take func(reply []byte)) {
	var p resp.Parser
	for len(frames) > 0 {
		n, status, err := p.Next(frames, &resp.DefaultLimits)
		if err != nil || status != resp.Ready {
			c.w.violated("a frame is broken: %q", frames)
			return
		}
		var args []string
		for i := range p.Len() {
			args = append(args, string(p.Arg(i)))
		}
		frames = frames[n:]
		c.waiting = append(c.waiting, take)
		c.transmit(0, args[0] != "TIME", func() { c.arrive(args) })
	}
}

func (c *conn) do(take func(reply []byte), args ...string) {
	c.send(resp.AppendCommand(nil, args...), take)
}

// transmit delivers a message behind the earlier ones in its direction.
func (c *conn) transmit(direction int, mayBeLate bool, deliver func()) {
	w := c.w
	delay := w.between(50*time.Microsecond, 2*time.Millisecond)
	if direction == 0 && len(c.waiting) > 1 {
		delay = w.between(0, 100*time.Microsecond) // of one pipeline
	}
	if mayBeLate && !w.calm && w.oneIn(60) {
		delay = w.between(0, 300*time.Millisecond)
	}
	at := max(w.now+int64(delay), c.arrives[direction])
	c.arrives[direction] = at
	w.after(time.Duration(at-w.now), deliver)
}

// arrive has a command at the node.
func (c *conn) arrive(args []string) {
	if c.life != c.n.life {
		return
	}
	if c.blocked {
		c.backlog = append(c.backlog, args)
		return
	}
	if c.dead && !c.w.calm && c.w.oneIn(3) { // held up in the network, with all that follows
		c.arrives[0] = c.w.now + int64(c.w.between(0, 2*time.Second))
		c.w.after(time.Duration(c.arrives[0]-c.w.now), func() { c.execute(args) })
		c.blocked = true
		c.w.after(time.Duration(c.arrives[0]-c.w.now), c.unblock)
		return
	}
	c.execute(args)
}

// unblock lets the node read on.
func (c *conn) unblock() {
	c.blocked = false
	for len(c.backlog) > 0 && !c.blocked {
		args := c.backlog[0]
		c.backlog = c.backlog[1:]
		c.execute(args)
	}
}

// execute executes a command, and sends the reply back.
func (c *conn) execute(args []string) {
	if c.life != c.n.life || c.w.wrong != "" {
		return
	}
	reply, waits := c.n.execute(c, args)
	if !waits {
		c.answer(args, reply)
	}
}

func (c *conn) answer(args []string, reply []byte) {
	c.w.logf("%s: %s %.90q: %.60q", c.name(), c.n.name, args, reply)
	take := c.waiting[0]
	c.waiting = c.waiting[1:]
	c.transmit(1, args[0] != "TIME", func() {
		c.owner.when(func() {
			if !c.dead {
				take(reply)
			}
		})
	})
}

func (c *conn) name() string {
	kind := "client"
	if c.copies {
		kind = "copier"
	}
	return fmt.Sprintf("%s of %s", kind, c.owner.name)
}

// close gives the connection up.
func (c *conn) close() {
	if !c.dead {
		c.dead = true
		if c.lost != nil {
			c.lost()
		}
	}
}
