package pool

// chunkSize is what a connection gathers before it starts another buffer; what
// is larger gets a buffer of its own.
const chunkSize = 64 << 10

// chunk is a buffer of requests. It lives until it has been written and every
// request in it has been answered, since a redirected request is sent again
// from here.
type chunk struct {
	buf  []byte
	refs int // FIFO entries that point into buf
}

// sendQueue is the bytes of a connection's requests:
//
//	chunks   [ answered | waiting for replies | not written yet ]
//	                                          ^ head, sent
//
// Positions count the bytes of the connection's whole life, so that an entry
// can tell whether any of it has been written.
type sendQueue struct {
	set     *Set
	chunks  []*chunk // from the one being written on
	sent    int      // bytes of chunks[0] that have been written
	pos     uint64   // position of the end
	written uint64   // position up to which bytes have been written
	held    int      // bytes in chunks that are not answered yet
}

// reserve returns a chunk with room for n more bytes.
func (q *sendQueue) reserve(n int) *chunk {
	if len(q.chunks) > 0 {
		c := q.chunks[len(q.chunks)-1]
		if cap(c.buf)-len(c.buf) >= n {
			return c
		}
		q.dropWritten()
	}
	c := q.set.chunk(n)
	q.chunks = append(q.chunks, c)
	return c
}

// next is what to write next; empty when all is written.
func (q *sendQueue) next() []byte {
	for len(q.chunks) > 0 {
		if b := q.chunks[0].buf[q.sent:]; len(b) > 0 {
			return b
		}
		if len(q.chunks) == 1 {
			return nil
		}
		q.shift()
	}
	return nil
}

// wrote counts n bytes as written, and reports whether they were fewer than next
// has returned.
func (q *sendQueue) wrote(n int) (short bool) {
	q.sent += n
	q.written += uint64(n)
	short = q.sent < len(q.chunks[0].buf)
	if len(q.chunks) == 1 && q.sent == len(q.chunks[0].buf) && q.chunks[0].refs == 0 {
		q.shift()
	}
	return short
}

// dropWritten lets go of a last chunk that is written but has no room left.
func (q *sendQueue) dropWritten() {
	if len(q.chunks) == 1 && q.sent == len(q.chunks[0].buf) {
		q.shift()
	}
}

// shift takes the written chunks[0] off the queue; its entries keep it alive.
func (q *sendQueue) shift() {
	c := q.chunks[0]
	last := copy(q.chunks, q.chunks[1:])
	q.chunks[last] = nil
	q.chunks = q.chunks[:last]
	q.sent = 0
	if c.refs == 0 {
		q.set.release(c)
	}
}

// answered gives up an entry's hold on its chunk.
func (q *sendQueue) answered(c *chunk, n int) {
	q.held -= n
	if c.refs--; c.refs > 0 {
		return
	}
	switch {
	case len(q.chunks) == 0 || q.chunks[0] != c && q.chunks[len(q.chunks)-1] != c:
		q.set.release(c)
	case len(q.chunks) == 1 && q.sent == len(c.buf):
		q.shift()
	}
}
