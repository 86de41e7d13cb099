package pool

import (
	"sort"
	"unsafe"
)

// maxIdleRing is the length of the longest ring, in entries, that an empty FIFO keeps.
const maxIdleRing = 1 << 16

// entry is an unanswered request of a connection.
type entry struct {
	to       Receiver // nil: a tombstone, or a request whose reply is ignored
	chunk    *chunk
	len      int
	pos      uint64 // of its first byte in the connection's stream
	deadline int64  // 0: none
	at       int64  // time at which the connection got it
	queued   int64  // time from then until it was written, once it was
}

func (e *entry) frame() []byte {
	off := e.pos - e.chunk.start
	return e.chunk.buf[off : off+uint64(e.len)]
}

// end returns the position behind its last byte.
func (e *entry) end() uint64 { return e.pos + uint64(e.len) }

// writtenAt returns when the request was completely written, if the connection has written its bytes up to a
// position, and 0 if it was not.
func (e *entry) writtenAt(position uint64) int64 {
	if e.end() > position {
		return 0
	}
	return e.at + e.queued
}

// fifo is a ring of entries in the order of their requests' bytes.
type fifo struct {
	ring []entry // its length is a power of two
	head int     // entries that were removed: the place of the first one, before it is wrapped around
	n    int
	sent int // place of the first entry of which not all bytes were written
}

func (f *fifo) push(e entry) {
	if f.n == len(f.ring) {
		bigger := make([]entry, max(16, 2*len(f.ring)))
		for i := range f.n {
			bigger[(f.head+i)&(len(bigger)-1)] = *f.at(i)
		}
		f.ring = bigger
	}
	f.ring[(f.head+f.n)&(len(f.ring)-1)] = e
	f.n++
}

// at returns the i-th entry from the front.
func (f *fifo) at(i int) *entry { return &f.ring[(f.head+i)&(len(f.ring)-1)] }

func (f *fifo) pop() entry {
	at := f.at(0)
	e := *at
	at.to, at.chunk = nil, nil // the rest has no pointers
	f.head++
	if f.n--; f.n == 0 && f.sent == f.head {
		f.head, f.sent = 0, 0 // uses the same memory again, which is still in the processor's cache
	}
	return e
}

// unsent returns the number of entries of which not all bytes were written.
func (f *fifo) unsent() int { return min(f.n, f.head+f.n-f.sent) }

// endsBehind returns the index of the first entry that ends behind a position.
func (f *fifo) endsBehind(pos uint64) int {
	return sort.Search(f.n, func(i int) bool { return f.at(i).end() > pos })
}

// trim frees the ring if it is empty and very long. It returns the number of bytes
// freed.
func (f *fifo) trim() (bytes int) {
	if f.n == 0 && len(f.ring) > maxIdleRing {
		bytes = len(f.ring) * int(unsafe.Sizeof(entry{}))
		f.ring = nil
	}
	return bytes
}
