package server

import (
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/machine"
)

// Host is what the servers of one process share: event loops, files and memory. Each server has a
// thread in every loop.
type Host struct {
	loops      []*loop.Loop
	memory     giver
	handshakes chan struct{} // tokens of the TLS handshakes with clients that compute now
	toNodes    chan struct{} // the same with nodes, which must not wait for those of clients
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
		budget: newBudget(memoryLimit(cfg)), reserved: map[*Server]int64{},
	}
	h.room.Store(math.MaxInt64)
	for range threads {
		l, err := loop.New()
		if err != nil {
			return nil, err
		}
		h.loops = append(h.loops, l)
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

// hasRoom reports whether descriptors are left for one more client or exclusive connection.
func (h *Host) hasRoom() bool { return h.open.Load() <= h.room.Load() }

// giver returns memory to the system after large requests. The runtime would need
// minutes for that; keyway should not keep 500 MB so long after one large value.
type giver struct {
	garbage atomic.Int64
	busy    atomic.Bool
}

const (
	giveBackFrom = 8 << 20
	giveBackRest = time.Second
)

// add counts garbage. Once there is enough, it schedules a garbage collection that
// returns the memory to the system. It may be called from any thread and does not block.
func (g *giver) add(bytes int) {
	if g.garbage.Add(int64(bytes)) < giveBackFrom || g.busy.Swap(true) {
		return
	}
	time.AfterFunc(giveBackRest, func() {
		g.garbage.Store(0)
		g.busy.Store(false)
		debug.FreeOSMemory()
	})
}
