package proxy

// outputChunk is where a buffer of output ends and the next begins: a client
// that is behind costs whole chunks, given back one by one as it catches up.
const outputChunk = 64 << 10

// output is what a client has not taken yet.
//
//	cur [.sent....]  more [....][....][..  <- append
type output struct {
	cur  []byte
	more [][]byte
	sent int // of cur
	size int // bytes waiting in all
}

func (o *output) append(w *Worker, b []byte) {
	o.size += len(b)
	for {
		last := &o.cur
		if len(o.more) > 0 {
			last = &o.more[len(o.more)-1]
		} else if o.cur == nil {
			o.cur = w.buffer()
		}
		if room := outputChunk - len(*last); room >= len(b) {
			*last = append(*last, b...)
			return
		} else if room > 0 {
			*last = append(*last, b[:room]...)
			b = b[room:]
		}
		o.more = append(o.more, w.buffer())
	}
}

// next is what to write to the client now.
func (o *output) next() []byte { return o.cur[o.sent:] }

func (o *output) wrote(w *Worker, n int) {
	o.sent += n
	o.size -= n
	if o.sent < len(o.cur) {
		return
	}
	w.recycle(o.cur)
	o.cur, o.sent = nil, 0
	if len(o.more) > 0 {
		o.cur = o.more[0]
		o.more[0] = nil
		if o.more = o.more[1:]; len(o.more) == 0 {
			o.more = nil
		}
	}
}

func (o *output) clear(w *Worker) {
	w.recycle(o.cur)
	for _, b := range o.more {
		w.recycle(b)
	}
	*o = output{}
}

// maxSpare bounds the bytes that a worker keeps in unused buffers.
const maxSpare = 4 << 20

// buffer returns an empty buffer, for output and for unfinished input.
func (w *Worker) buffer() []byte {
	if n := len(w.spare); n > 0 {
		b := w.spare[n-1]
		w.spare[n-1] = nil
		w.spare = w.spare[:n-1]
		w.spareBytes -= cap(b)
		return b
	}
	return make([]byte, 0, 4<<10)
}

// smallInput is enough for most commands that a read cut in two, and little
// enough for ten thousand clients that never finish theirs.
const smallInput = 512

// inputBuffer returns an empty buffer for n bytes of unfinished input.
func (w *Worker) inputBuffer(n int) []byte {
	if n > smallInput {
		return w.buffer()
	}
	if n := len(w.smalls); n > 0 {
		b := w.smalls[n-1]
		w.smalls = w.smalls[:n-1]
		return b
	}
	return make([]byte, 0, smallInput)
}

// recycle takes a buffer that nothing points into any more.
func (w *Worker) recycle(b []byte) {
	if cap(b) == smallInput && len(w.smalls) < 1024 {
		poison(b)
		w.smalls = append(w.smalls, b[:0])
		return
	}
	if c := cap(b); c >= 1<<10 && c <= outputChunk && w.spareBytes+c <= maxSpare {
		poison(b)
		w.spare = append(w.spare, b[:0])
		w.spareBytes += c
	} else {
		w.ready.Garbage += c
	}
}
