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
	if o.cur == nil {
		o.cur = w.buffer(len(b))
	}
	for {
		last := &o.cur
		if len(o.more) > 0 {
			last = &o.more[len(o.more)-1]
		}
		n := min(len(b), outputChunk-len(*last))
		if need := len(*last) + n; need > cap(*last) {
			larger := append(w.buffer(need), *last...)
			w.recycle(*last)
			*last = larger
		}
		*last = append(*last, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return
		}
		o.more = append(o.more, w.buffer(outputChunk))
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
const maxSpare = 8 << 20

// bufferSizes are the sizes of buffers. Unused ones are kept by size: a client with
// little output must not hold a large one, nor much output grow small ones again
// and again.
var bufferSizes = [...]int{4 << 10, 16 << 10, outputChunk}

// buffer returns an empty buffer for n bytes, or for the first outputChunk of them.
func (w *Worker) buffer(n int) []byte {
	size := 0
	for n > bufferSizes[size] && size < len(bufferSizes)-1 {
		size++
	}
	free := w.spare[size]
	if len(free) == 0 {
		return make([]byte, 0, bufferSizes[size])
	}
	b := free[len(free)-1]
	free[len(free)-1] = nil
	w.spare[size] = free[:len(free)-1]
	w.spareBytes -= cap(b)
	return b
}

// smallInput is enough for most commands that a read cut in two, and little
// enough for ten thousand clients that never finish theirs.
const smallInput = 512

// inputBuffer returns an empty buffer for n bytes of unfinished input.
func (w *Worker) inputBuffer(n int) []byte {
	if n > smallInput {
		return w.buffer(n)
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
	c := cap(b)
	if c < bufferSizes[0] || c > outputChunk || w.spareBytes+c > maxSpare {
		w.ready.Garbage += c
		return
	}
	size := len(bufferSizes) - 1
	for c < bufferSizes[size] {
		size--
	}
	poison(b)
	w.spare[size] = append(w.spare[size], b[:0])
	w.spareBytes += c
}
