package pool

import "unsafe"

// maxIdleRing is the length of the longest ring, in entries, that an empty FIFO keeps.
const maxIdleRing = 1 << 16

// entry is an unanswered request of a connection.
type entry struct {
	to       Receiver // nil: a tombstone, or a request whose reply is ignored
	chunk    *chunk
	off, len int
	pos      uint64 // of its first byte in the connection's stream
	deadline int64  // 0: none
}

func (e *entry) frame() []byte { return e.chunk.buf[e.off : e.off+e.len] }

// fifo is a ring of entries in the order of their requests' bytes.
type fifo struct {
	ring []entry // its length is a power of two
	head int
	n    int
}

func (f *fifo) push(e entry) {
	if f.n == len(f.ring) {
		bigger := make([]entry, max(16, 2*len(f.ring)))
		for i := range f.n {
			bigger[i] = *f.at(i)
		}
		f.ring, f.head = bigger, 0
	}
	f.ring[(f.head+f.n)&(len(f.ring)-1)] = e
	f.n++
}

// at returns the i-th entry from the front.
func (f *fifo) at(i int) *entry { return &f.ring[(f.head+i)&(len(f.ring)-1)] }

func (f *fifo) pop() entry {
	e := f.ring[f.head]
	f.ring[f.head] = entry{}
	f.head = (f.head + 1) & (len(f.ring) - 1)
	f.n--
	return e
}

// trim frees the ring if it is empty and very long. It returns the number of bytes
// freed.
func (f *fifo) trim() (bytes int) {
	if f.n == 0 && len(f.ring) > maxIdleRing {
		bytes = len(f.ring) * int(unsafe.Sizeof(entry{}))
		*f = fifo{}
	}
	return bytes
}
