package buffer

const (
	// Chunk is the size of the largest buffer that a pool keeps.
	Chunk = 64 << 10
	// MaxUnused bounds the bytes that a pool keeps in unused buffers.
	MaxUnused = 8 << 20
	// maxScratch is the largest buffer that is kept for a thread's own use.
	maxScratch = 4 * Chunk
	// smallInput is enough for most commands that a read cut in two, and little
	// enough for ten thousand clients that never finish theirs.
	smallInput = 512
	// maxSmall bounds the number of unused buffers of that size.
	maxSmall = 1024
)

// sizes are the sizes of buffers. Unused ones are kept by size: a client with
// little output must not hold a large one, nor much output grow small ones again
// and again.
var sizes = [...]int{4 << 10, 16 << 10, Chunk}

// Pool is what one thread keeps of unused buffers. The zero value is ready.
type Pool struct {
	free    [len(sizes)][][]byte
	unused  int // bytes in free
	small   [][]byte
	nest    *nest   // being filled
	nests   []*nest // unused
	garbage int
}

// Get returns an empty buffer for n bytes, or for the first Chunk of them.
func (p *Pool) Get(n int) []byte {
	size := 0
	for n > sizes[size] && size < len(sizes)-1 {
		size++
	}
	free := p.free[size]
	if len(free) == 0 {
		return make([]byte, 0, sizes[size])
	}
	b := free[len(free)-1]
	free[len(free)-1] = nil
	p.free[size] = free[:len(free)-1]
	p.unused -= cap(b)
	return b
}

// GetInput returns an empty buffer for n bytes of unfinished input.
func (p *Pool) GetInput(n int) []byte {
	if n > smallInput {
		return p.Get(n)
	}
	if n := len(p.small); n > 0 {
		b := p.small[n-1]
		p.small = p.small[:n-1]
		return b
	}
	return make([]byte, 0, smallInput)
}

// Put takes back a buffer that nothing points into any more. It may be nil.
func (p *Pool) Put(b []byte) {
	c := cap(b)
	if c == smallInput && len(p.small) < maxSmall {
		Poison(b)
		p.small = append(p.small, b[:0])
		return
	}
	if c < sizes[0] || c > Chunk || p.unused+c > MaxUnused {
		p.garbage += c
		return
	}
	size := len(sizes) - 1
	for c < sizes[size] {
		size--
	}
	Poison(b)
	p.free[size] = append(p.free[size], b[:0])
	p.unused += c
}

// Unused is the number of bytes in unused buffers.
func (p *Pool) Unused() int { return p.unused }

// Scratch returns b emptied, to be used again by its owner, or nil if it is too large
// to be kept.
func (p *Pool) Scratch(b []byte) []byte {
	if cap(b) <= maxScratch {
		return b[:0]
	}
	p.garbage += cap(b)
	return nil
}

// Drop counts n bytes that their owner has let go of.
func (p *Pool) Drop(n int) { p.garbage += n }

// TakeGarbage returns how many bytes were let go of since it was last called.
func (p *Pool) TakeGarbage() int {
	n := p.garbage
	p.garbage = 0
	return n
}
