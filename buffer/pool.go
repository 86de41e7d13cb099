package buffer

const (
	// Chunk is the size of the largest buffer that a pool keeps.
	Chunk = 64 << 10
	// MaxUnused bounds the bytes in a pool's unused buffers.
	MaxUnused = 8 << 20
	// maxScratch is the largest buffer that Scratch keeps.
	maxScratch = 4 * Chunk
	// smallInput is enough for most commands that are split over two reads. It is small
	// enough for ten thousand clients that never finish a command.
	smallInput = 512
	// maxSmall bounds the number of unused buffers of size smallInput.
	maxSmall = 1024
	// maxQueues bounds the number of unused queues of outputs. It is that of the smallest unused buffers.
	maxQueues = MaxUnused / (4 << 10)
	// keptUnused is how many bytes of the buffers of one size may be unused for a whole sweep.
	keptUnused = Chunk
)

// sizes are the sizes of buffers. Unused buffers are kept by size. Otherwise a client
// with little output could get a large buffer, and one with much output would have to
// grow small buffers again and again.
var sizes = [...]int{4 << 10, 16 << 10, Chunk}

// Pool keeps the unused buffers of one thread. The zero value is ready to use.
type Pool struct {
	free    [len(sizes)]spare[[]byte] // by size
	unused  int                       // bytes in free
	small   spare[[]byte]             // of size smallInput
	nest    *nest                     // the nest that replies are packed into now
	nests   spare[*nest]
	queues  spare[*queue]
	garbage int // bytes freed since TakeGarbage
}

// Get returns an empty buffer with room for n bytes, but at most for Chunk.
func (p *Pool) Get(n int) []byte {
	size := 0
	for n > sizes[size] && size < len(sizes)-1 {
		size++
	}
	b, ok := p.free[size].take()
	if !ok {
		return make([]byte, 0, sizes[size])
	}
	p.unused -= cap(b)
	return b
}

// GetInput returns an empty buffer for n bytes of an incomplete command.
func (p *Pool) GetInput(n int) []byte {
	if n > smallInput {
		return p.Get(n)
	}
	if b, ok := p.small.take(); ok {
		return b
	}
	return make([]byte, 0, smallInput)
}

// Put returns a buffer to the pool. No other slice may use its memory any more. b may be
// nil.
func (p *Pool) Put(b []byte) {
	c := cap(b)
	if c == smallInput && len(p.small.all) < maxSmall {
		Poison(b)
		p.small.put(b[:0])
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
	p.free[size].put(b[:0])
	p.unused += c
}

// Unused returns the number of bytes in unused buffers of the sizes above smallInput.
func (p *Pool) Unused() int { return p.unused }

// Trim drops a part of what was not needed since the last Trim, and counts it as garbage: after a burst of commands,
// clients that idle need none of it.
func (p *Pool) Trim() {
	for i, size := range sizes {
		dropped := size * p.free[i].trim(keptUnused/size)
		p.unused -= dropped
		p.garbage += dropped
	}
	p.garbage += smallInput*p.small.trim(keptUnused/smallInput) + nestSize*p.nests.trim(keptUnused/nestSize)
	p.queues.trim(keptUnused / sizes[0])
}

// Scratch returns b with length 0, for its owner to reuse. If b is too large to keep, it
// counts b as garbage and returns nil.
func (p *Pool) Scratch(b []byte) []byte {
	if cap(b) <= maxScratch {
		return b[:0]
	}
	p.garbage += cap(b)
	return nil
}

// Drop counts n bytes of buffers that their owner has freed as garbage.
func (p *Pool) Drop(n int) { p.garbage += n }

// TakeGarbage returns the number of bytes of garbage since the last call.
func (p *Pool) TakeGarbage() int {
	n := p.garbage
	p.garbage = 0
	return n
}
