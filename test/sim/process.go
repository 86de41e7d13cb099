package sim

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// process is the part of a keyway, or of a command, that runs in goroutines: packages switching, move
// and migrate as they are. Its clock is the virtual one of testing/synctest, and its network is the
// world's. In each turn, the world lets the process do what is due, and then waits until all
// its goroutines wait for a reply or for the clock. So a process can be frozen, or die, between any two
// commands.
type process struct {
	world *world
	name  string
	ctx   context.Context // ends with the process
	stop  context.CancelFunc
	ended chan struct{} // closed when its main goroutine has returned
	until int64         // it is frozen until then
	dead  bool

	mu    sync.Mutex
	calls []call
	wires []*wire
}

// call is something that a goroutine asks the world for.
type call struct {
	label string // orders the calls of one turn
	do    func()
	done  chan struct{}
}

var errDead = errors.New("the process is dead")

// spawn starts a process.
func (w *world) spawn(name string, run func(ctx context.Context, p *process)) *process {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{world: w, name: name, ctx: ctx, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		run(ctx, p)
	}()
	return p
}

// hasEnded reports whether the process has come to its end.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return p.dead
	}
}

// ask makes the world call do in the next turn in which the process runs, and waits for that.
func (p *process) ask(ctx context.Context, label string, do func()) error {
	c := call{label: label, do: do, done: make(chan struct{})}
	p.mu.Lock()
	p.calls = append(p.calls, c)
	p.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ctx.Done():
		return errDead
	}
}

// connect is the process's network.
func (p *process) connect(ctx context.Context, addr string) (conn net.Conn, err error) {
	near, far := net.Pipe()
	refused := false
	asked := p.ask(ctx, "connect "+addr, func() {
		w := p.world
		at := slices.IndexFunc(w.nodes, func(n *node) bool { return n.addr == addr })
		if refused = !w.nodes[at].up; !refused {
			p.wires = append(p.wires, w.newWire(w.nodes[at], far))
		}
	})
	if asked == nil && refused {
		asked = errors.New("connection refused")
	}
	if asked != nil {
		_ = near.Close()
		return nil, asked
	}
	return near, nil
}

// turn lets the process do what is due. Its bytes that have left it reach nodes also while it is frozen.
func (p *process) turn() {
	for _, x := range p.wires {
		x.execute()
	}
	if p.world.now < p.until || p.dead {
		return
	}
	p.mu.Lock()
	calls := p.calls
	p.calls = nil
	p.mu.Unlock()
	slices.SortStableFunc(calls, func(a, b call) int { return cmp.Compare(a.label, b.label) })
	for _, c := range calls {
		c.do()
		close(c.done)
	}
	for _, x := range p.wires {
		x.exchange()
	}
	p.wires = slices.DeleteFunc(p.wires, func(x *wire) bool { return x.isClosed && x.link.peer.Closed() })
}

// freeze stops the process for a while.
func (p *process) freeze(d time.Duration) {
	p.until = p.world.now + p.world.rng.Int64N(int64(d))
	p.world.logf("%s freezes until %d ms", p.name, time.Duration(p.until).Milliseconds())
}

// die ends the process. What it has sent may still reach nodes.
func (p *process) die() {
	p.dead = true
	p.stop()
	for _, x := range p.wires {
		x.hangUp()
	}
}

// wire is a connection of a process.
type wire struct {
	link     *link // as the node and the oracle know it
	far      net.Conn
	out      chan []byte
	isClosed bool // no more bytes go to the process

	mu   sync.Mutex
	in   []byte // from the process
	gone bool   // the process has closed it
}

func (w *world) newWire(n *node, far net.Conn) *wire {
	w.redials++
	x := &wire{far: far, out: make(chan []byte, 1000)}
	l := &link{id: w.redials, node: n, open: true, connected: true, shell: x, pulls: true}
	l.peer = n.redis.Open(
		func(b []byte) { l.toProxy = append(l.toProxy, b...) }, func() { l.ended = "the node closed the connection" },
	)
	l.peer.Owner = l
	x.link = l
	go x.read()
	go x.write()
	return x
}

func (x *wire) read() {
	buf := make([]byte, socketBuffer)
	for {
		n, err := x.far.Read(buf)
		x.mu.Lock()
		x.in = append(x.in, buf[:n]...)
		x.gone = x.gone || err != nil
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *wire) write() {
	for b := range x.out {
		_, _ = x.far.Write(b) // if it fails, read notices
	}
	_ = x.far.Close()
}

// hangUp closes the process's side.
func (x *wire) hangUp() {
	if !x.isClosed {
		x.isClosed = true
		close(x.out)
	}
}

// execute lets the node execute what has arrived.
func (x *wire) execute() {
	l, w := x.link, x.link.node.world
	switch {
	case !l.node.runs() || l.peer.Closed():
	case x.isClosed:
		w.mayArriveLate(l)
	case w.rng.IntN(1+w.chaos.lag) == 0:
		l.node.process(l)
	}
}

// exchange takes bytes from the process, and gives it those of the node.
func (x *wire) exchange() {
	l, w := x.link, x.link.node.world
	if x.isClosed {
		return
	}
	x.mu.Lock()
	b := w.some(x.in)
	l.toNode = append(l.toNode, b...)
	x.in = x.in[len(b):]
	gone := x.gone && len(x.in) == 0
	x.mu.Unlock()
	if len(l.toProxy) > 0 && w.rng.IntN(3) > 0 {
		x.out <- l.toProxy
		l.toProxy = nil
	}
	if gone || l.ended != "" && (len(l.toProxy) == 0 || w.rng.IntN(3) == 0) {
		x.hangUp()
	}
}
