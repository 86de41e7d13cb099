package buffer

// Output is what a client has not taken yet. A client that lags costs whole chunks,
// which are given back one by one as it catches up. The zero value is empty.
//
//	cur [.sent....]  more [....][....][..  <- Append
type Output struct {
	cur  []byte
	more [][]byte
	sent int // of cur
	size int // bytes waiting in all
}

// Size is the number of bytes that wait.
func (o *Output) Size() int { return o.size }

// Append copies b behind what waits.
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

// Next is what to write to the client now. It is valid until Wrote or Clear.
func (o *Output) Next() []byte { return o.cur[o.sent:] }

// Wrote reports that the client has taken n bytes of Next.
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

// Clear drops all that waits.
func (o *Output) Clear(p *Pool) {
	p.Put(o.cur)
	for _, b := range o.more {
		p.Put(b)
	}
	*o = Output{}
}

// Chunks is the number of buffers behind the one that is being written.
func (o *Output) Chunks() int { return len(o.more) }

// Memory is what the output takes, in bytes.
func (o *Output) Memory() int { return cap(o.cur) + len(o.more)*Chunk }
