package buffer

// Output is the queue of bytes that have not been written to a client yet. A slow client
// uses whole chunks, which go back to the pool one by one as the client catches up. The
// zero value is empty.
//
//	cur [.sent....]  more [....][....][..  <- Append
type Output struct {
	q *queue // nil: empty
}

// queue has the bytes of an output. It is returned to the pool when all of them are written, since most
// clients idle.
type queue struct {
	size int // unwritten bytes in cur and more
	cur  []byte
	more [][]byte
	sent int // bytes of cur that have been written
}

// Size returns the number of unwritten bytes.
func (o *Output) Size() int {
	if o.q == nil {
		return 0
	}
	return o.q.size
}

// Append copies b to the end of the queue.
func (o *Output) Append(p *Pool, b []byte) {
	q := o.q
	if q == nil {
		q = p.getQueue()
		q.cur = p.Get(len(b))
		o.q = q
	}
	q.size += len(b)
	for {
		last := &q.cur
		if len(q.more) > 0 {
			last = &q.more[len(q.more)-1]
		}
		n := min(len(b), Chunk-len(*last))
		if need := len(*last) + n; need > cap(*last) {
			larger := append(p.Get(need), *last...)
			p.Put(*last)
			*last = larger
		}
		*last = append(*last, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return
		}
		q.more = append(q.more, p.Get(Chunk))
	}
}

// Next returns the bytes to write to the client now. They are valid until Wrote or Clear.
func (o *Output) Next() []byte {
	if o.q == nil {
		return nil
	}
	return o.q.cur[o.q.sent:]
}

// Copy returns a copy of all unwritten bytes.
func (o *Output) Copy() []byte {
	if o.Size() == 0 {
		return nil
	}
	b := append(make([]byte, 0, o.q.size), o.Next()...)
	for _, more := range o.q.more {
		b = append(b, more...)
	}
	return b
}

// Wrote records that n bytes of Next have been written to the client.
func (o *Output) Wrote(p *Pool, n int) {
	q := o.q
	if q == nil {
		return // n is 0
	}
	q.sent += n
	q.size -= n
	if q.sent < len(q.cur) {
		return
	}
	p.Put(q.cur)
	if q.sent = 0; len(q.more) == 0 {
		q.cur, o.q = nil, nil
		p.putQueue(q)
		return
	}
	q.cur = q.more[0]
	q.more[0] = nil
	if q.more = q.more[1:]; len(q.more) == 0 {
		q.more = nil
	}
}

// Clear drops all unwritten bytes.
func (o *Output) Clear(p *Pool) {
	q := o.q
	if o.q = nil; q == nil {
		return
	}
	p.Put(q.cur)
	for _, b := range q.more {
		p.Put(b)
	}
	*q = queue{}
	p.putQueue(q)
}

// Chunks returns the number of buffers after the one that is being written.
func (o *Output) Chunks() int {
	if o.q == nil {
		return 0
	}
	return len(o.q.more)
}

// Memory returns the output's memory in bytes.
func (o *Output) Memory() int {
	if o.q == nil {
		return 0
	}
	return cap(o.q.cur) + len(o.q.more)*Chunk
}

// getQueue returns an empty queue.
func (p *Pool) getQueue() *queue {
	if q, ok := p.queues.take(); ok {
		return q
	}
	return new(queue)
}

// putQueue returns an empty queue to the pool. Nobody may use it any more.
func (p *Pool) putQueue(q *queue) {
	if len(p.queues.all) < maxQueues {
		p.queues.put(q)
	}
}
