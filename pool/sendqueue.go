package pool

// chunk is a buffer of requests. It lives until it has been written and every request in
// it has been answered, because a redirected request is sent again from this buffer.
type chunk struct {
	buf   []byte
	start uint64 // position of its first byte
	refs  int    // FIFO entries that point into buf
}

// sendQueue is the queue of a connection's requests, as bytes:
//
//	chunks   [ answered | waiting for replies | not written yet ]
//	                                          ^ head, sent
//
// Positions count all bytes since the connection was made. An entry's position
// therefore shows whether any byte of its request has been written.
type sendQueue struct {
	set           *Set
	chunks        []*chunk // the first is being written
	sent          int      // bytes of chunks[0] that have been written
	pos           uint64   // position of the end
	written       uint64   // position up to which bytes have been written
	inFlightBytes int      // bytes of unanswered requests, written or not
	perWrite      int      // most bytes of a recent write; it falls slowly
}

// writesPerChunk is for how many writes a chunk has room. A queue with many requests takes a large
// chunk, and one of hundreds of queues with few takes a small one: all of its bytes get used again
// and again, and those of all queues together should fit the processor's cache.
const writesPerChunk = 4

// reserve returns a chunk with room for n more bytes.
func (q *sendQueue) reserve(n int) *chunk {
	if len(q.chunks) > 0 {
		c := q.chunks[len(q.chunks)-1]
		room := cap(c.buf) - len(c.buf)
		if room >= n && (room >= q.perWrite || q.sent < len(c.buf) || len(q.chunks) > 1) {
			return c
		}
		q.dropWritten() // also if the next write would not fit: it should not become two
	}
	c := q.set.chunk(n, writesPerChunk*max(q.perWrite, int(q.pos-q.written)))
	c.start = q.pos
	q.chunks = append(q.chunks, c)
	return c
}

// append queues bytes that no entry of a FIFO refers to.
func (q *sendQueue) append(b []byte) {
	ch := q.reserve(len(b))
	ch.buf = append(ch.buf, b...)
	q.pos += uint64(len(b))
}

// next returns the bytes to write next, or none if all are written.
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

// wrote counts n bytes as written, and reports whether next had returned more.
func (q *sendQueue) wrote(n int) (short bool) {
	q.sent += n
	q.written += uint64(n)
	if q.perWrite < n {
		q.perWrite = n
	} else {
		q.perWrite -= (q.perWrite - n) / 16
	}
	short = q.sent < len(q.chunks[0].buf)
	if len(q.chunks) == 1 && q.sent == len(q.chunks[0].buf) && q.chunks[0].refs == 0 {
		q.shift()
	}
	return short
}

// dropWritten removes the only chunk from the queue if it is completely written. Its
// caller needs a new chunk.
func (q *sendQueue) dropWritten() {
	if len(q.chunks) == 1 && q.sent == len(q.chunks[0].buf) {
		q.shift()
	}
}

// shift removes chunks[0], which is written, from the queue. Its unanswered entries keep
// it alive.
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

// answered releases an answered entry's reference to its chunk.
func (q *sendQueue) answered(c *chunk, n int) {
	q.inFlightBytes -= n
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
