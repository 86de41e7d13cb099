package buffer

// A reply that arrives before its turn is parked.
//
//	line    [GET a]  [GET b]  [GET c]      b's node and c's were faster
//	parked     -        |        |
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
	// maxFreeNests bounds the unused nests that a pool keeps (4 MiB).
	maxFreeNests = 1024
)

// nest is a buffer of small parked replies.
type nest struct {
	buf  []byte
	refs int // replies in buf that are still parked
}

// Parked is a reply, or part of one, that waits for its turn. The zero value is empty.
type Parked struct {
	b    []byte
	nest *nest // that b lies in; nil: b has a buffer of its own
}

// Len is the number of bytes that wait.
func (k *Parked) Len() int { return len(k.b) }

// Bytes are what waits, valid until Release.
func (k *Parked) Bytes() []byte { return k.b }

// Append copies b behind what waits.
func (k *Parked) Append(p *Pool, b []byte) {
	switch {
	case k.b == nil && len(b) <= maxNested:
		n := p.roomyNest(len(b))
		at := len(n.buf)
		n.buf = append(n.buf, b...)
		n.refs++
		k.b, k.nest = n.buf[at:len(n.buf):len(n.buf)], n
	case k.b == nil:
		k.b = append(p.Get(len(b)), b...)
	default: // append copies a reply out of its nest, where it has no spare capacity
		k.b = append(k.b, b...)
	}
}

// Release gives the memory back. What waits has been passed on, or is dropped.
func (k *Parked) Release(p *Pool) {
	if k.b != nil {
		k.release(p)
	}
}

func (k *Parked) release(p *Pool) {
	if k.nest != nil {
		p.leaveNest(k.nest)
	} else {
		p.Put(k.b)
	}
	*k = Parked{}
}

// roomyNest returns the nest being filled if it has room for n bytes, otherwise
// an empty one.
func (p *Pool) roomyNest(n int) *nest {
	if p.nest != nil && cap(p.nest.buf)-len(p.nest.buf) >= n {
		return p.nest
	}
	if last := len(p.nests) - 1; last >= 0 {
		p.nest = p.nests[last]
		p.nests = p.nests[:last]
	} else {
		p.nest = &nest{buf: make([]byte, 0, nestSize)}
	}
	return p.nest
}

// leaveNest releases one reply's hold on a nest.
func (p *Pool) leaveNest(n *nest) {
	if n.refs--; n.refs > 0 {
		return
	}
	Poison(n.buf)
	n.buf = n.buf[:0]
	if n != p.nest && len(p.nests) < maxFreeNests {
		p.nests = append(p.nests, n)
	}
}
