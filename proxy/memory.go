package proxy

import (
	"unsafe"

	"github.com/keyway-proxy/keyway/buffer"
)

// memory is what a worker stores for its clients, and what it keeps for reuse.
type memory struct {
	buffers  buffer.Pool
	requests freeRequests
	grown    int  // bytes added to clients' memory since the last call of Held
	short    bool // memory is short: large commands are refused
}

// holds returns how many bytes the worker stores for the client: replies that the client
// has not read, and commands that cannot go on yet.
func (s *Session) holds() int {
	n := s.out.Size() + s.parked + cap(s.in)
	if s.block != nil {
		n += cap(s.block.frames)
	}
	return n
}

// Held is the memory that a worker uses for its clients, in bytes.
type Held struct {
	Clients int // freed if all clients are closed
	Largest int // the largest share of one client in Clients
	Queued  int // requests that nodes have not answered
}

// Grown returns how many bytes the worker has stored for clients since the last call of
// Held. Package server calls Held when this is large, since Held visits every client.
func (w *Worker) Grown() int { return w.grown }

// Held adds up the memory that the worker uses for its clients.
func (w *Worker) Held() (h Held) {
	w.grown = 0
	for _, s := range w.sessions {
		if !s.has(dead) {
			n := s.holds()
			h.Clients += n
			h.Largest = max(h.Largest, n)
		}
	}
	for _, n := range w.nodes {
		h.Queued += n.waitingBytes
		for _, c := range n.conns {
			h.Queued += c.Memory()
		}
		for _, c := range n.retired.conns {
			h.Queued += c.Memory()
		}
		for i := range n.waits {
			h.Queued += n.waits[i].conn.Memory()
		}
	}
	return h
}

// CloseLargest closes the client that takes the most memory.
func (w *Worker) CloseLargest() {
	var largest *Session
	for _, s := range w.sessions {
		if !s.has(dead) && (largest == nil || s.holds() > largest.holds()) {
			largest = s
		}
	}
	if largest == nil {
		return
	}
	w.stats.ClosedMemory++
	w.ready.Notes = append(w.ready.Notes,
		"closed the client that took most memory, since limits.memory is reached: "+largest.peer)
	largest.kill()
}

// RefuseLarge makes the worker refuse large commands, or accept them again.
func (w *Worker) RefuseLarge(on bool) { w.short = on }

// tooLarge reports whether the command is refused because memory is short, and counts
// the refusal.
func (w *Worker) tooLarge(frame []byte) bool {
	if !w.short || len(frame) < bigFrame {
		return false
	}
	w.stats.RefusedLarge++
	return true
}

// A worker bounds the memory that it keeps for reuse, so that one large command, or one burst
// of commands, does not leave the process large for ever. Ready.Garbage counts the memory
// that it no longer keeps, so that the shell returns it to the operating system.

const (
	// maxSplit is the largest number of keys in one command for which the splitter keeps
	// its buffers.
	maxSplit = 32 << 10
	// maxMergers bounds the bytes of unused mergers that a worker keeps.
	maxMergers = 4 << 20
	// maxUnusedRequests is how many requests may be unused for a whole sweep.
	maxUnusedRequests = 4096
)

// trim frees memory that was not needed since the last sweep, or that only very large
// commands need.
func (w *Worker) trim() {
	w.buffers.Drop(w.requests.trim())
	w.inputs.parser.Trim()
	if sp := &w.split; cap(sp.next) > maxSplit {
		w.buffers.Drop(8 * cap(sp.next))
		sp.next, sp.shardOf = nil, nil
	}
}

// freeRequests are the requests that are not in use.
type freeRequests struct {
	first  *request
	n      int
	unused int // the smallest n since the last sweep: this many requests were not needed
}

func (f *freeRequests) take() *request {
	r := f.first
	if r == nil {
		return new(request)
	}
	f.first, r.next = r.next, nil
	if f.n--; f.n < f.unused {
		f.unused = f.n
	}
	return r
}

func (f *freeRequests) put(r *request) {
	*r = request{next: f.first}
	f.first = r
	f.n++
}

// trim frees all unused requests if more than maxUnusedRequests were not needed since the
// last call. It returns the number of bytes that they took.
func (f *freeRequests) trim() (bytes int) {
	if f.unused > maxUnusedRequests {
		bytes = f.n * int(unsafe.Sizeof(request{}))
		*f = freeRequests{}
	}
	f.unused = f.n
	return bytes
}

// memory returns the number of bytes that an unused merger takes.
func (m *merger) memory() int {
	n := len(m.calls)*int(unsafe.Sizeof(call{})+2*unsafe.Sizeof(m.replies)) + cap(m.channel) + 4*cap(m.perArgument)
	for _, p := range m.replies[:cap(m.replies)] {
		n += cap(p)
	}
	return n
}
