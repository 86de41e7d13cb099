package proxy

import "unsafe"

// What a worker keeps for reuse is bounded, so that one large command, or one moment
// with very many, does not leave the process large for ever. What is let go of is
// counted in Ready.Garbage: the shell has it returned to the system.

const (
	// maxSplit is the largest number of keys of one command whose places are kept.
	maxSplit = 32 << 10
	// maxMergers bounds the bytes of unused mergers that a worker keeps.
	maxMergers = 4 << 20
	// maxUnusedRequests is how many requests may be unused for a whole sweep.
	maxUnusedRequests = 4096
)

// trim lets go of what nothing has needed since the last sweep, or what only very
// large commands need.
func (w *Worker) trim() {
	w.buffers.Drop(w.requests.trim())
	w.parser.Trim()
	if sp := &w.split; cap(sp.next) > maxSplit {
		w.buffers.Drop(8 * cap(sp.next))
		sp.next, sp.partOf = nil, nil
	}
}

// freeRequests are the requests that are not in use.
type freeRequests struct {
	first  *request
	n      int
	unused int // the least n since the last sweep: so many were not needed
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

// trim lets go of all requests if many of them were not needed since the last call,
// and returns how many bytes they took.
func (f *freeRequests) trim() (bytes int) {
	if f.unused > maxUnusedRequests {
		bytes = f.n * int(unsafe.Sizeof(request{}))
		*f = freeRequests{}
	}
	f.unused = f.n
	return bytes
}

// memory is what an unused merger takes.
func (m *merger) memory() int {
	n := len(m.calls)*int(unsafe.Sizeof(call{})+2*unsafe.Sizeof(m.parts)) + cap(m.channel) + 4*cap(m.part)
	for _, p := range m.parts[:cap(m.parts)] {
		n += cap(p)
	}
	return n
}
