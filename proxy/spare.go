package proxy

import "unsafe"

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
	n := len(m.calls)*int(unsafe.Sizeof(call{})+2*unsafe.Sizeof(m.parts)) + cap(m.channel) + 4*cap(m.part)
	for _, p := range m.parts[:cap(m.parts)] {
		n += cap(p)
	}
	return n
}
