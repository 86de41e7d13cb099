package pool

import (
	"math/rand/v2"
	"time"

	"github.com/keyway-proxy/keyway/buffer"
)

// Config is what all connections of a Set share.
type Config struct {
	Username, Password string
	ConnectTimeout     time.Duration // for dialing and greeting together
	RequestTimeout     time.Duration
	MaxQueued          int // memory that requests on one connection may take until they are answered; 0: 64 MiB
}

// Set is the connections of one thread and the memory they share.
type Set struct {
	Config
	Rand *rand.Rand

	// Duties of the shell, collected since it last took them; see Take.
	dirty []*Conn

	free  []*chunk
	fence []byte // the last one sent
	nonce uint64
	big   int // bytes of large buffers let go of since TakeBig
}

// NewSet returns an empty set. random decides back-off jitter.
func NewSet(c Config, random *rand.Rand) *Set {
	if c.MaxQueued == 0 {
		c.MaxQueued = defaultMaxQueued
	}
	return &Set{Config: c, Rand: random}
}

// Take returns the connections that have something for the shell to do
// (Conn.Duty, Conn.NextWrite) since the last call. The slice is valid until the
// next call.
func (s *Set) Take(into []*Conn) []*Conn {
	into = append(into, s.dirty...)
	for i, c := range s.dirty {
		c.dirty = false
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
	return into
}

const maxFreeChunks = 64

func (s *Set) chunk(n int) *chunk {
	if n > chunkSize {
		return &chunk{buf: make([]byte, 0, n)}
	}
	if k := len(s.free); k > 0 {
		c := s.free[k-1]
		s.free = s.free[:k-1]
		return c
	}
	return &chunk{buf: make([]byte, 0, chunkSize)}
}

// unref gives up one hold on a chunk.
func (s *Set) unref(c *chunk) {
	if c.refs--; c.refs == 0 {
		s.release(c)
	}
}

func (s *Set) release(c *chunk) {
	if cap(c.buf) != chunkSize || len(s.free) >= maxFreeChunks {
		s.big += cap(c.buf)
		c.buf = nil
		return
	}
	buffer.Poison(c.buf)
	c.buf = c.buf[:0]
	s.free = append(s.free, c)
}

// TakeBig returns how many bytes of large buffers were let go of since it was
// last called: garbage that is worth giving back to the system.
func (s *Set) TakeBig() int {
	n := s.big
	s.big = 0
	return n
}
