package pool

import (
	"math/rand/v2"
	"time"
)

// Config is the configuration that all connections of a Set share.
type Config struct {
	Account
	Accounts       map[string]Account // of the nodes that have their own, by name; see Setup.Account
	ConnectTimeout time.Duration      // for dialing and greeting together
	RequestTimeout time.Duration
	Name           string // of the connections, for CLIENT LIST; empty: none
	Epoch          int64  // of the layout that is served; a node of a later epoch is not used
	MinEpoch       int64  // nodes of the layout that are in an earlier epoch are not used; see Setup.OfLayout
	MaxQueued      int    // memory limit for the unanswered requests of one connection; 0: 64 MiB
}

// Set is the state and memory that the connections of one thread share.
type Set struct {
	Config
	Rand *rand.Rand

	dirty []*Link // links that Take returns next

	free       freeChunks
	checkFrame []byte          // scratch buffer: the last integrity check
	nonce      uint64          // of the last greeting
	nameless   map[string]bool // addresses of nodes that close connections at CLIENT SETNAME
	garbage    int             // bytes of large buffers freed since TakeGarbage
}

// NewSet returns an empty set. random is the source of back-off jitter and of the nonces
// of integrity checks.
func NewSet(c Config, random *rand.Rand) *Set {
	s := &Set{Rand: random, nameless: map[string]bool{}}
	s.Configure(c)
	return s
}

// Configure replaces the configuration. Connections that are open keep their user and name.
func (s *Set) Configure(c Config) {
	if s.Config = c; c.MaxQueued == 0 {
		s.MaxQueued = defaultMaxQueued
	}
}

// Take appends to into the links that have had a new Link.Duty or Link.NextWrite
// since the last call, and returns the extended slice.
func (s *Set) Take(into []*Link) []*Link {
	into = append(into, s.dirty...)
	for i, l := range s.dirty {
		l.dirty = false
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
	return into
}

// Names reports whether connections to the node at addr are given the name of the
// configuration. There may be none, and some nodes close connections at CLIENT SETNAME.
func (s *Set) Names(addr string) bool { return s.Name != "" && !s.nameless[addr] }

// TakeGarbage returns the number of bytes of large buffers freed since the last call. That
// much garbage is worth returning to the system.
func (s *Set) TakeGarbage() int {
	n := s.garbage
	s.garbage = 0
	return n
}
