package engine

import (
	"unsafe"

	"github.com/keyway-proxy/keyway/buffer"
)

// memory is what a worker stores for its clients, and what it keeps for reuse.
type memory struct {
	Buffers  buffer.Pool
	requests freeRequests
	GrownBy  int  // bytes added to clients' memory since the last call of Memory
	short    bool // memory is short: large commands are refused
}

// memory returns how many bytes the worker stores for the client: replies that the client
// has not read, and commands that cannot go on yet.
func (s *Session) memory() int {
	n := s.Unsent.Size() + s.Parked + cap(s.In)
	if s.Block != nil {
		n += cap(s.Block.Frames)
	}
	return n
}

// Memory is what a worker uses for its clients, in bytes.
type Memory struct {
	Clients int // freed if all clients are closed
	Largest int // the largest share of one client in Clients
	Queued  int // requests that nodes have not answered
}

// Grown returns how many bytes the worker has stored for clients since the last call of
// Memory. Package server calls Memory when this is large, since Memory visits every client.
func (w *Worker) Grown() int { return w.GrownBy }

// Memory adds up the memory that the worker uses for its clients.
func (w *Worker) Memory() (h Memory) {
	w.GrownBy = 0
	for _, s := range w.Sessions {
		if !s.Has(Dead) {
			n := s.memory()
			h.Clients += n
			h.Largest = max(h.Largest, n)
		}
	}
	for _, n := range w.Nodes {
		h.Queued += n.Retries.Memory()
		h.Queued += n.Shared.Memory()
		for i := range n.InUse {
			h.Queued += n.InUse[i].Conn.Memory()
		}
	}
	return h
}

// CloseLargest closes the client that takes the most memory.
func (w *Worker) CloseLargest() {
	var largest *Session
	for _, s := range w.Sessions {
		if !s.Has(Dead) && (largest == nil || s.memory() > largest.memory()) {
			largest = s
		}
	}
	if largest == nil {
		return
	}
	w.Stats.ClosedMemory++
	w.Ready.Notes = append(w.Ready.Notes,
		"closed the client that took most memory, since limits.memory is reached: "+largest.peer)
	largest.Kill()
}

// RefuseLarge makes the worker refuse large commands, or accept them again.
func (w *Worker) RefuseLarge(on bool) { w.short = on }

// tooLarge reports whether the command is refused because memory is short, and counts
// the refusal.
func (w *Worker) tooLarge(frame []byte) bool {
	if !w.short || len(frame) < bigFrame {
		return false
	}
	w.Stats.RefusedLarge++
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
	w.Buffers.Drop(w.requests.trim())
	w.Inputs.parser.Trim()
	w.Names.Trim()
	if sp := &w.split; cap(sp.next) > maxSplit {
		w.Buffers.Drop(8 * cap(sp.next))
		sp.next, sp.shardOf = nil, nil
	}
}

// freeRequests are the requests that are not in use.
type freeRequests struct {
	first  *Request
	n      int
	unused int // the smallest n since the last sweep: this many requests were not needed
}

func (f *freeRequests) take() *Request {
	r := f.first
	if r == nil {
		return new(Request)
	}
	f.first, r.next = r.next, nil
	if f.n--; f.n < f.unused {
		f.unused = f.n
	}
	return r
}

func (f *freeRequests) put(r *Request) {
	*r = Request{next: f.first}
	f.first = r
	f.n++
}

// trim frees all unused requests if more than maxUnusedRequests were not needed since the
// last call. It returns the number of bytes that they took.
func (f *freeRequests) trim() (bytes int) {
	if f.unused > maxUnusedRequests {
		bytes = f.n * int(unsafe.Sizeof(Request{}))
		*f = freeRequests{}
	}
	f.unused = f.n
	return bytes
}

// memory returns the number of bytes that an unused merger takes.
func (m *Merger) memory() int {
	n := len(m.Calls)*int(unsafe.Sizeof(Call{})+2*unsafe.Sizeof(m.Replies)) + cap(m.Channel) + 4*cap(m.PerArgument)
	for _, p := range m.Replies[:cap(m.Replies)] {
		n += cap(p)
	}
	return n
}
