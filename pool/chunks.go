package pool

import "github.com/keyway-proxy/keyway/buffer"

// chunkSizes are the sizes of the buffers that requests are collected in. A larger request gets its
// own buffer.
var chunkSizes = [...]int{1 << 10, 8 << 10, 64 << 10}

const (
	// maxFreeBytes bounds the free chunks of each size, in bytes.
	maxFreeBytes = 8 << 20
	// keptFreeChunks is how many free chunks of each size stay, even if none was needed.
	keptFreeChunks = 64
)

// freeChunks are the chunks of a thread that no queue uses, by size.
type freeChunks [len(chunkSizes)]struct {
	chunks []*chunk
	unused int // the smallest number of them since the last Trim: these were not needed
}

// chunk returns an empty chunk with room for n bytes, and for wish bytes if chunks can be that large.
func (s *Set) chunk(n, wish int) *chunk {
	if n > chunkSizes[len(chunkSizes)-1] {
		return &chunk{buf: make([]byte, 0, n)}
	}
	size := 0
	for max(n, wish) > chunkSizes[size] && size < len(chunkSizes)-1 {
		size++
	}
	free := &s.free[size]
	last := len(free.chunks) - 1
	if last < 0 {
		return &chunk{buf: make([]byte, 0, chunkSizes[size])}
	}
	c := free.chunks[last]
	free.chunks[last] = nil
	free.chunks = free.chunks[:last]
	free.unused = min(free.unused, last)
	return c
}

// unref releases one reference to a chunk.
func (s *Set) unref(c *chunk) {
	if c.refs--; c.refs == 0 {
		s.release(c)
	}
}

func (s *Set) release(c *chunk) {
	for size, n := range chunkSizes {
		if free := &s.free[size]; cap(c.buf) == n && len(free.chunks)*n < maxFreeBytes {
			buffer.Poison(c.buf)
			c.buf = c.buf[:0]
			free.chunks = append(free.chunks, c)
			return
		}
	}
	s.garbage += cap(c.buf)
	c.buf = nil
}

// Trim frees the chunks that were not needed since the last call, but for a few.
func (s *Set) Trim() {
	for size := range s.free {
		free := &s.free[size]
		keep := max(len(free.chunks)-free.unused, keptFreeChunks)
		for last := len(free.chunks) - 1; last >= keep; last-- {
			s.garbage += cap(free.chunks[last].buf)
			free.chunks[last] = nil
			free.chunks = free.chunks[:last]
		}
		free.unused = len(free.chunks)
	}
}
