package journey

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Sampler chooses commands for each purpose by counting. The distances are random, with the mean that the
// settings ask for, so that no client's rhythm decides which of its commands are chosen.
type Sampler struct {
	skip   int    // commands to pass over until the next choice
	stride uint64 // commands that the next choice counts
	count  uint64 // commands at the last choice
	traces choosing
	lines  choosing
	owed   Purpose // of commands that were chosen and have not begun
	random *rand.Rand
}

// choosing is the state of one purpose.
type choosing struct {
	every int
	next  uint64 // the command that is chosen, by its number
}

// NewSampler returns a sampler that chooses nothing yet.
func NewSampler(seed, thread uint64) Sampler {
	s := Sampler{random: rand.New(rand.NewPCG(seed^0x6a6f75726e6579, thread))}
	s.Configure(&Settings{})
	return s
}

// Configure makes the sampler choose by other settings.
func (s *Sampler) Configure(by *Settings) {
	s.traces.every, s.lines.every = by.Traces.OneIn, by.Lines.OneIn
	s.traces.advance(s)
	s.lines.advance(s)
	s.owed = 0
	s.aim()
}

// advance chooses the next command of a purpose.
func (c *choosing) advance(s *Sampler) {
	c.next = math.MaxUint64
	if c.every > 0 {
		c.next = s.count + 1 + s.random.Uint64N(2*uint64(c.every)-1)
	}
}

// aim sets how many commands pass until the next choice.
func (s *Sampler) aim() {
	s.stride = min(s.traces.next, s.lines.next) - s.count
	s.skip = int(min(s.stride-1, math.MaxInt))
}

// Passes counts a command, and reports whether it passes unrecorded. It is all that most commands cost.
func (s *Sampler) Passes() bool {
	s.skip--
	return s.skip >= 0
}

// Choose returns the purposes for which the command is recorded that Passes has not let pass.
func (s *Sampler) Choose() (chosen Purpose) {
	if s.owed != 0 {
		chosen, s.owed = s.owed, 0
		s.skip = int(min(s.stride-1, math.MaxInt)) // the command was counted already
		return chosen
	}
	s.count += s.stride
	if s.count >= s.traces.next {
		chosen |= ForTrace
		s.traces.advance(s)
	}
	if s.count >= s.lines.next {
		chosen |= ForLine
		s.lines.advance(s)
	}
	s.aim()
	return chosen
}

// Owe makes the next command be chosen for this: the one that was chosen has to wait, and will begin anew.
func (s *Sampler) Owe(chosen Purpose) {
	s.owed, s.skip = chosen, 0
}

// ID returns a new identity of a trace. It is not secret, and never zero.
func (s *Sampler) ID() (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], s.random.Uint64()|1)
	binary.BigEndian.PutUint64(id[8:], s.random.Uint64())
	return id
}
