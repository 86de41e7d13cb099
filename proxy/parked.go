package proxy

// A reply that arrives before its turn is parked in its request.
//
//	line    [GET a]  [GET b]  [GET c]      b's node and c's were faster
//	reply      -        |        |
//	nest             [$1.2..  $1.3..   free ]  refs 2
//
// Most replies are small. They are packed into nests, buffers that all clients of
// the thread share. Each nest counts the replies in it and is reused once the last
// one has left, so a client that always has something parked keeps only the nests
// that its parked replies lie in.

const (
	nestSize = 4 << 10
	// maxNested is the largest reply that is packed; a larger one gets a buffer of
	// its own.
	maxNested = 1 << 10
	// maxFreeNests bounds the unused nests that a worker keeps (4 MiB).
	maxFreeNests = 1024
)

// nest is a buffer of small parked replies.
type nest struct {
	buf  []byte
	refs int // replies in buf that are still parked
}

// park keeps a reply, or part of one, until its turn.
func (w *Worker) park(r *request, b []byte) {
	if r.mute {
		return
	}
	switch {
	case r.reply == nil && len(b) <= maxNested:
		r.nest = w.roomyNest(len(b))
		at := len(r.nest.buf)
		r.nest.buf = append(r.nest.buf, b...)
		r.nest.refs++
		r.reply = r.nest.buf[at:len(r.nest.buf):len(r.nest.buf)]
	case r.reply == nil:
		r.reply = append(w.buffer(len(b)), b...)
	default: // append copies a reply out of its nest, where it has no spare capacity
		r.reply = append(r.reply, b...)
	}
	r.sess.parked += len(b)
	w.grown += len(b)
	w.bound(r.sess)
}

// unpark releases the memory of a request's parked reply, which has been passed on
// or is dropped.
func (w *Worker) unpark(r *request) {
	if n := r.nest; n != nil {
		w.leaveNest(n)
	} else if r.reply != nil {
		w.recycle(r.reply)
	}
	r.reply, r.nest = nil, nil
}

// roomyNest returns the nest being filled if it has room for n bytes, otherwise
// an empty one.
func (w *Worker) roomyNest(n int) *nest {
	if w.nest != nil && cap(w.nest.buf)-len(w.nest.buf) >= n {
		return w.nest
	}
	if last := len(w.nests) - 1; last >= 0 {
		w.nest = w.nests[last]
		w.nests = w.nests[:last]
	} else {
		w.nest = &nest{buf: make([]byte, 0, nestSize)}
	}
	return w.nest
}

// leaveNest releases one reply's hold on a nest.
func (w *Worker) leaveNest(n *nest) {
	if n.refs--; n.refs > 0 {
		return
	}
	poison(n.buf)
	n.buf = n.buf[:0]
	if n != w.nest && len(w.nests) < maxFreeNests {
		w.nests = append(w.nests, n)
	}
}
