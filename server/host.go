package server

import (
	"math"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/machine"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy"
)

// Host is what the servers of one process share: event loops, files and memory. Each server has a
// thread in every loop.
type Host struct {
	loops      []*loop.Loop
	figures    []*metrics.Thread // of each loop, which alone uses it
	memory     giver
	handshakes chan struct{} // tokens of the TLS handshakes with clients that compute now
	toNodes    chan struct{} // the same with nodes, which must not wait for those of clients
	copies     chan struct{} // the same for large commands that are copied; see enlarge
	budget     *budget
	open       atomic.Int64 // clients and sockets to nodes, of all servers
	room       atomic.Int64 // the limit for these

	mu       sync.Mutex
	reserved map[*Server]int64 // files that a server needs besides
}

// NewHost returns a host with the threads and the memory of a configuration. It has no threads of
// the system until a server runs.
func NewHost(cfg *config.Config) (*Host, error) {
	threads := cfg.Threads.Count(machine.Available())
	h := &Host{
		handshakes: newHandshakeTokens(threads), toNodes: newHandshakeTokens(threads),
		copies: newHandshakeTokens(threads),
		budget: newBudget(memoryLimit(cfg)), reserved: map[*Server]int64{},
	}
	h.room.Store(math.MaxInt64)
	for range threads {
		l, err := loop.New()
		if err != nil {
			return nil, err
		}
		figures := &metrics.Thread{Index: len(h.loops)}
		l.Measure(figures.Turned)
		h.loops, h.figures = append(h.loops, l), append(h.figures, figures)
	}
	return h, nil
}

// reserve records how many files a server needs besides clients and exclusive connections. It
// returns how many of the process's files are left for the clients and connections of all servers,
// and how many the process may open.
func (h *Host) reserve(s *Server, files int64) (room, limit int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reserved[s] = files
	return h.setRoom()
}

// release forgets a server that has ended.
func (h *Host) release(s *Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reserved, s)
	h.setRoom()
}

// setRoom computes the room. h.mu must be locked.
func (h *Host) setRoom() (room, limit int64) {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return math.MaxInt64, math.MaxInt64
	}
	all := int64(0)
	for _, n := range h.reserved {
		all += n
	}
	limit = int64(min(lim.Cur, 1<<30))
	room = limit - min(all, limit/2)
	h.room.Store(room)
	return room, limit
}

// hasRoom reports whether descriptors are left for one more client or exclusive connection, besides so
// many connections that are about to be opened.
func (h *Host) hasRoom(opening int) bool { return h.open.Load()+int64(opening) <= h.room.Load() }

// giver returns memory to the system after large requests. The runtime would need
// minutes for that; keyway should not keep 500 MB so long after one large value.
type giver struct {
	garbage     atomic.Int64
	soon, later atomic.Bool  // a collection is scheduled
	took        atomic.Int64 // the processor time of the last one, and of what else ran meanwhile
}

const (
	giveBackFrom = 8 << 20
	giveBackRest = time.Second
	// A little garbage is returned later, and seldom: only many clients that idle feel it, since the heap of a
	// process with little else is small. That takes at most one part in giveLittleShare of a processor's time.
	giveLittleFrom  = 256 << 10
	giveLittleRest  = 5 * time.Second
	giveLittleShare = 200
)

// add counts garbage. Once there is enough, it schedules a garbage collection that
// returns the memory to the system. It may be called from any thread and does not block.
func (g *giver) add(bytes int) {
	switch n := g.garbage.Add(int64(bytes)); {
	case n < giveLittleFrom:
	case n >= giveBackFrom:
		if !g.soon.Swap(true) {
			time.AfterFunc(giveBackRest, func() {
				g.soon.Store(false)
				g.give()
			})
		}
	case !g.later.Swap(true):
		rest := max(giveLittleRest, giveLittleShare*time.Duration(g.took.Load()))
		time.AfterFunc(rest, func() {
			g.later.Store(false)
			if g.garbage.Load() >= giveLittleFrom {
				g.give()
			}
		})
	}
}

func (g *giver) give() {
	began := processorTime()
	g.garbage.Store(0)
	debug.FreeOSMemory()
	g.took.Store(int64(processorTime() - began))
}

// processorTime returns the processor time that the process has used, or 0 if that is unknown.
func processorTime() time.Duration {
	var of unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &of) != nil {
		return 0
	}
	return time.Duration(of.Utime.Nano() + of.Stime.Nano())
}

// budget bounds the memory that all threads together use for clients. Each thread
// weighs its clients after they have grown. While the sum is above the limit, the thread
// with the largest client of all closes it. Requests that wait for nodes have their own
// limit (maxQueued), because closing clients would not free them.
type budget struct {
	limit   atomic.Int64 // for the memory of all clients and queued requests
	step    atomic.Int64 // growth, in bytes, after which a thread weighs its clients
	short   atomic.Bool  // large commands are refused
	closing atomic.Bool  // a thread was told to close its largest client

	joining sync.Mutex
	threads atomic.Pointer[[]*weight] // of all servers; never changed but replaced
}

// weight is the memory of a thread's clients when the thread last weighed them.
type weight struct {
	of                       *thread
	clients, largest, queued atomic.Int64
}

const (
	// minStep is the smallest growth after which a thread weighs its clients. Weighing
	// visits every client.
	minStep = 256 << 10
	// minClosed is the smallest client that is closed to free memory.
	minClosed = 64 << 10
)

// newBudget returns a budget of three quarters of memory, the process's limit; 0 is
// unlimited. The last quarter is for garbage, code and unused buffers.
func newBudget(memory int64) *budget {
	b := new(budget)
	b.threads.Store(new([]*weight))
	b.setMemory(memory)
	return b
}

// join adds a thread to those that share the budget.
func (b *budget) join(t *thread) *weight {
	b.joining.Lock()
	defer b.joining.Unlock()
	w := &weight{of: t}
	all := append(slices.Clone(*b.threads.Load()), w)
	b.threads.Store(&all)
	return w
}

// leave removes a thread that has ended.
func (b *budget) leave(w *weight) {
	b.joining.Lock()
	defer b.joining.Unlock()
	all := slices.DeleteFunc(slices.Clone(*b.threads.Load()), func(other *weight) bool { return other == w })
	b.threads.Store(&all)
}

// setMemory changes the limit to three quarters of memory, the process's limit.
func (b *budget) setMemory(memory int64) {
	limit, step := int64(math.MaxInt64), int64(math.MaxInt64)
	if memory > 0 {
		limit = memory - memory/4
		step = max(limit/64, minStep)
	}
	b.limit.Store(limit)
	b.step.Store(step)
}

// maxQueued returns the memory limit for unanswered requests on one connection to a node.
func (b *budget) maxQueued() int { return int(max(min(b.limit.Load()/16, 64<<20), 1<<20)) }

// record stores the memory of a thread's clients. It returns the sum over all threads,
// how much of it closing clients would free, and the thread with the largest client.
func (b *budget) record(w *weight, h proxy.Memory) (total, clients int64, most *weight) {
	most = w
	w.clients.Store(int64(h.Clients))
	w.largest.Store(int64(h.Largest))
	w.queued.Store(int64(h.Queued))
	for _, other := range *b.threads.Load() {
		clients += other.clients.Load()
		total += other.queued.Load()
		if other.largest.Load() > most.largest.Load() {
			most = other
		}
	}
	return total + clients, clients, most
}

// over returns the thread that should close its largest client, or nil.
func (b *budget) over(total, clients int64, most *weight) *weight {
	if limit := b.limit.Load(); total > limit && clients > limit/2 && most.largest.Load() >= minClosed {
		return most
	}
	return nil
}

// due reports whether a thread should weigh its clients. It should if they have grown.
// If memory is short, or the clients are large, it should at every tick too, so that the
// budget learns when they shrink.
func (b *budget) due(t *thread, ticked bool) bool {
	return int64(t.worker.Grown()) >= b.step.Load() ||
		ticked && (b.short.Load() || t.weight.clients.Load() >= b.step.Load())
}

// weigh weighs the thread's clients. If memory is short, it makes all threads refuse
// large commands, and if the limit is exceeded, it makes one close its largest client.
func (b *budget) weigh(t *thread) {
	total, clients, most := b.record(t.weight, t.worker.Memory())
	limit := b.limit.Load()
	if short := total > limit-limit/10; b.short.Swap(short) != short {
		for _, w := range *b.threads.Load() {
			w.of.loop.Post(func() { w.of.worker.RefuseLarge(b.short.Load()) })
		}
	}
	if w := b.over(total, clients, most); w != nil && !b.closing.Swap(true) {
		w.of.loop.Post(func() { b.closeLargest(w) })
	}
}

// closeLargest closes the thread's largest client, unless memory has become free since
// weigh asked for it.
func (b *budget) closeLargest(w *weight) {
	if b.over(b.record(w, w.of.worker.Memory())) == w {
		w.of.worker.CloseLargest()
	}
	b.closing.Store(false)
	b.weigh(w.of)
}

// MemoryLimit returns the memory limit of the process in bytes: limits.memory, or else
// half of the memory of the machine or control group. It returns 0 if that is unknown.
func (s *Server) MemoryLimit() int64 { return memoryLimit(s.cfg.Load()) }

func memoryLimit(cfg *config.Config) int64 {
	if n := int64(cfg.Limits.Memory); n > 0 {
		return n
	}
	return machine.Memory(os.DirFS("/")) / 2
}
