package buffer

// Output is the queue of bytes that have not been written to a client yet. A slow client
// uses whole chunks, which go back to the pool one by one as the client catches up. The
// zero value is empty.
//
//	cur [.sent....]  more [....][....][..  <- Append
type Output struct {
	cur  []byte
	more [][]byte
	sent int // bytes of cur that have been written
	size int // unwritten bytes in cur and more
}

// Size returns the number of unwritten bytes.
func (o *Output) Size() int { return o.size }

// Append copies b to the end of the queue.
func (o *Output) Append(p *Pool, b []byte) {
	o.size += len(b)
	if o.cur == nil {
		o.cur = p.Get(len(b))
	}
	for {
		last := &o.cur
		if len(o.more) > 0 {
			last = &o.more[len(o.more)-1]
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
		o.more = append(o.more, p.Get(Chunk))
	}
}

// Next returns the bytes to write to the client now. They are valid until Wrote or Clear.
func (o *Output) Next() []byte { return o.cur[o.sent:] }

// Copy returns a copy of all unwritten bytes.
func (o *Output) Copy() []byte {
	if o.size == 0 {
		return nil
	}
	b := append(make([]byte, 0, o.size), o.Next()...)
	for _, more := range o.more {
		b = append(b, more...)
	}
	return b
}

// Wrote records that n bytes of Next have been written to the client.
func (o *Output) Wrote(p *Pool, n int) {
	o.sent += n
	o.size -= n
	if o.sent < len(o.cur) {
		return
	}
	p.Put(o.cur)
	o.cur, o.sent = nil, 0
	if len(o.more) > 0 {
		o.cur = o.more[0]
		o.more[0] = nil
		if o.more = o.more[1:]; len(o.more) == 0 {
			o.more = nil
		}
	}
}

// Clear drops all unwritten bytes.
func (o *Output) Clear(p *Pool) {
	p.Put(o.cur)
	for _, b := range o.more {
		p.Put(b)
	}
	*o = Output{}
}

// Chunks returns the number of buffers after the one that is being written.
func (o *Output) Chunks() int { return len(o.more) }

// Memory returns the output's memory in bytes.
func (o *Output) Memory() int { return cap(o.cur) + len(o.more)*Chunk }
