package server

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/keyway-proxy/keyway/proxy"
)

// budget bounds what all threads together hold for clients. Each thread weighs its
// clients when they have grown; the thread with the largest client of all closes
// it while the sum is above the limit. What only waits for nodes is bounded by
// itself (maxQueued): to close clients would not free it.
type budget struct {
	limit   int64 // of all that is held for clients
	step    int64 // a thread that has taken in so much weighs its clients
	threads []weight
	short   atomic.Bool // large commands are refused
	closing atomic.Bool // a thread was told to close its largest client
}

// weight is what a thread held for its clients when it last weighed them.
type weight struct{ clients, largest, queued atomic.Int64 }

const (
	// minStep is the least growth after which clients are weighed: that looks at
	// each of them.
	minStep = 256 << 10
	// minClosed is the least that closing a client must free.
	minClosed = 64 << 10
)

// newBudget leaves a quarter of the process's memory to Go: for garbage, code and
// buffers that nobody uses.
func newBudget(memory int64, threads int) *budget {
	b := &budget{limit: math.MaxInt64, step: math.MaxInt64, threads: make([]weight, threads)}
	if memory > 0 {
		b.limit = memory - memory/4
		b.step = max(b.limit/64, minStep)
	}
	return b
}

// maxQueued is what requests may take on one connection to a node.
func (b *budget) maxQueued() int { return int(max(min(b.limit/16, 64<<20), 1<<20)) }

// note records what a thread holds. It returns the sum over all threads, how much of
// it closing clients would free, and the thread with the largest client.
func (b *budget) note(thread int, h proxy.Held) (total, clients int64, most int) {
	w := &b.threads[thread]
	w.clients.Store(int64(h.Clients))
	w.largest.Store(int64(h.Largest))
	w.queued.Store(int64(h.Queued))
	for i := range b.threads {
		clients += b.threads[i].clients.Load()
		total += b.threads[i].queued.Load()
		if b.threads[i].largest.Load() > b.threads[most].largest.Load() {
			most = i
		}
	}
	return total + clients, clients, most
}

// over returns the thread that should close its largest client, -1 for none.
func (b *budget) over(total, clients int64, most int) int {
	if total > b.limit && clients > b.limit/2 && b.threads[most].largest.Load() >= minClosed {
		return most
	}
	return -1
}

// due reports whether a thread should weigh its clients: they have grown, or so
// little memory is left that it matters when they shrink.
func (b *budget) due(t *thread, ticked bool) bool {
	return int64(t.worker.Grown()) >= b.step || ticked && (b.short.Load() || b.threads[t.index].clients.Load() >= b.step)
}

// weigh keeps what is held for clients within the limit.
func (s *Server) weigh(t *thread) {
	b := s.budget
	total, clients, most := b.note(t.index, t.worker.Held())
	if short := total > b.limit-b.limit/10; b.short.Swap(short) != short {
		for _, other := range s.threads {
			other.loop.Post(func() { other.worker.RefuseLarge(b.short.Load()) })
		}
	}
	if i := b.over(total, clients, most); i >= 0 && !b.closing.Swap(true) {
		other := s.threads[i]
		other.loop.Post(func() { s.closeLargest(other) })
	}
}

// closeLargest closes the thread's largest client, unless memory has become free
// since it was asked to.
func (s *Server) closeLargest(t *thread) {
	if b := s.budget; b.over(b.note(t.index, t.worker.Held())) == t.index {
		t.worker.CloseLargest()
	}
	s.budget.closing.Store(false)
	s.weigh(t)
}

// MemoryLimit is what the process may take, in bytes: limits.memory, else half of
// what the machine or the control group has; 0 if that is not known.
func (s *Server) MemoryLimit() int64 {
	if n := int64(s.cfg.Limits.Memory); n > 0 {
		return n
	}
	return machineMemory(os.DirFS("/")) / 2
}

// machineMemory returns the memory that this process may use at most: the machine's,
// or less if a control group that it is in says so. 0: it is not known.
func machineMemory(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	lower := func(text []byte, unit int64) {
		n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		if err == nil && n > 0 && n <= math.MaxInt64/unit { // "max", or what version 1 says for none
			least = min(least, n*unit)
		}
	}
	info, _ := fs.ReadFile(root, "proc/meminfo")
	if _, rest, ok := bytes.Cut(info, []byte("MemTotal:")); ok {
		kib, _, _ := bytes.Cut(rest, []byte("kB"))
		lower(kib, 1<<10)
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for lines := bufio.NewScanner(bytes.NewReader(groups)); lines.Scan(); {
		// "0::/path" of version 2, "9:memory:/path" of version 1.
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) < 3 {
			continue
		}
		dir, file := "sys/fs/cgroup", "memory.max"
		switch {
		case parts[1] == "memory":
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case parts[1] != "":
			continue
		}
		// A group's parents bound it too. In a container the path may be that of
		// the host, and the group itself is at the root.
		for p := path.Clean("/" + parts[2]); ; p = path.Dir(p) {
			text, _ := fs.ReadFile(root, path.Join(dir, p, file))
			lower(text, 1)
			if p == "/" {
				break
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}
