package buffer

// A reply that arrives before the replies to earlier commands of its client is parked.
//
//	line    [GET a]  [GET b]  [GET c]      the nodes of b and c were faster
//	parked     -        |        |
//	nest             [$1.2..  $1.3..   free ]  refs 2
//
// Most replies are small. They are packed into nests: buffers that all clients of the
// thread share. Each nest counts its replies, and is reused after the last one has been
// released. A client that always has parked replies therefore keeps only the nests that
// contain them.

const (
	nestSize = 4 << 10
	// maxNested is the largest reply that is packed into a nest. A larger reply gets its
	// own buffer.
	maxNested = 1 << 10
	// maxFreeNests bounds the unused nests that a pool keeps (4 MiB).
	maxFreeNests = 1024
)

// nest is a buffer of small parked replies.
type nest struct {
	buf  []byte
	refs int // replies in buf that are still parked
}

// Parked is a parked reply, or the first bytes of one. The zero value is empty.
type Parked struct {
	b    []byte
	nest *nest // contains b; nil: b has its own buffer
}

// Len returns the number of parked bytes.
func (k *Parked) Len() int { return len(k.b) }

// Bytes returns the parked bytes. They are valid until Release.
func (k *Parked) Bytes() []byte { return k.b }

// Append copies b to the end of the parked bytes.
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
	default: // if b is in a nest, it has no spare capacity, so append copies it out of the nest
		k.b = append(k.b, b...)
	}
}

// Release returns the memory to the pool, and drops the parked bytes.
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

// roomyNest returns the current nest if it has room for n bytes. Otherwise it makes an
// empty nest the current one.
func (p *Pool) roomyNest(n int) *nest {
	if p.nest != nil && cap(p.nest.buf)-len(p.nest.buf) >= n {
		return p.nest
	}
	empty, ok := p.nests.take()
	if !ok {
		empty = &nest{buf: make([]byte, 0, nestSize)}
	}
	p.nest = empty
	return empty
}

// leaveNest releases one reply's reference to a nest.
func (p *Pool) leaveNest(n *nest) {
	if n.refs--; n.refs > 0 {
		return
	}
	Poison(n.buf)
	n.buf = n.buf[:0]
	if n != p.nest && len(p.nests.all) < maxFreeNests {
		p.nests.put(n)
	}
}
