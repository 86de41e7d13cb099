package quota

import (
	"math"
	"time"
)

// Share is what one thread may still use of an account in this turn.
type Share struct {
	name    string
	limits  *Limits
	account *Account
	of      *Shares

	free     int64 // commands that may begin
	ended    int64 // commands that have ended in this turn
	commands int64
	bytes    int64
	isUsed   bool  // it is in of.used
	hasTaken bool  // it has taken commands that may begin in this turn
	turn     int64 // it changes in each turn
	Usage
}

// Name returns the name of the user.
func (s *Share) Name() string { return s.name }

// Usage is what a thread has counted of a user's clients. None of the counts decreases, but
// Clients and Running.
type Usage struct {
	Clients  int           // connections of this thread
	Running  int           // its commands under way, if they are bounded
	Delayed  uint64        // commands that have waited
	Waited   time.Duration // for how long, all together
	Refused  uint64        // commands that have waited for too long
	Excluded uint64        // clients that were too many
}

// Shares are the shares of one thread.
type Shares struct {
	thread int
	used   []*Share
	// Hand gives another thread commands that may begin, for its share of the same account: see
	// Share.Grant.
	Hand func(of *Share, thread int, commands int64)
}

// NewShares returns the shares of a thread, by its index.
func NewShares(thread int, hand func(of *Share, thread int, commands int64)) *Shares {
	return &Shares{thread: thread, Hand: hand}
}

// Open returns a share of a user's account.
func (of *Shares) Open(user string, a *Account, l *Limits) *Share {
	return &Share{name: user, limits: l, account: a, of: of}
}

const (
	// plenty is what a share has of what is not limited. It is more than a turn can use.
	plenty = math.MaxInt64 / 4
	// batch and byteBatch are how much a share takes at a time.
	batch     = 128
	byteBatch = 64 << 10
)

// Lack is what the next command waits for.
type Lack uint8

const (
	Nothing Lack = iota
	Slots        // until others have ended
	OfCommands
	OfBytes
)

// Limits returns the limits that are in force.
func (s *Share) Limits() *Limits { return s.limits }

// Account returns the account.
func (s *Share) Account() *Account { return s.account }

// SetLimits replaces the limits. What is under way goes on.
func (s *Share) SetLimits(now int64, l *Limits) {
	if s.limits == l {
		return
	}
	s.settle(now)
	s.limits = l
	s.free, s.commands, s.bytes = 0, 0, 0
}

// HasMore reports whether commands have ended, or were granted, in this turn.
func (s *Share) HasMore() bool { return s.ended > 0 || s.isUsed && s.free > 0 && s.limits.InFlight > 0 }

// Enter counts a client of this thread, unless there are too many; see [Account.Enter].
func (s *Share) Enter() bool {
	if !s.account.Enter(s.limits.Clients) {
		s.Excluded++
		return false
	}
	s.Clients++
	return true
}

// Adopt counts a client of this thread, however many there are.
func (s *Share) Adopt() {
	s.account.Enter(0)
	s.Clients++
}

// Leave no longer counts a client of this thread.
func (s *Share) Leave() {
	s.account.Leave()
	s.Clients--
}

// IsReady reports whether a command may begin. If not, Refill may help.
func (s *Share) IsReady() bool { return s.free > 0 && s.commands > 0 && s.bytes > 0 }

// BoundsInFlight reports whether Begin and End have to be called.
func (s *Share) BoundsInFlight() bool { return s.limits.InFlight > 0 }

// Begin counts a command that is under way from now on, and End one that has ended.
func (s *Share) Begin() {
	s.free--
	s.Running++
	s.use()
}

// End counts a command that is no longer under way.
func (s *Share) End() {
	s.ended++
	s.Running--
	s.use()
}

// Spend counts a command and its bytes.
func (s *Share) Spend(bytes int) {
	s.commands--
	s.bytes -= int64(bytes)
	s.use()
}

// SpendBytes counts bytes of replies.
func (s *Share) SpendBytes(n int) {
	s.bytes -= int64(n)
	s.use()
}

func (s *Share) use() {
	if !s.isUsed {
		s.enlist()
	}
}

func (s *Share) enlist() {
	s.isUsed = true
	s.of.used = append(s.of.used, s)
}

// Refill takes from the account what the share lacks for the next command. at is the time at
// which the account may have it; that of Slots is not known.
func (s *Share) Refill(now int64) (lack Lack, at int64) {
	l, a := s.limits, s.account
	if s.commands <= 0 {
		if lack, at = s.refillCommands(now), a.commands.next(1-s.commands, max(l.Commands, 1)); lack != Nothing {
			return lack, at
		}
	}
	if s.bytes <= 0 {
		if lack, at = s.refillBytes(now), a.bytes.next(1-s.bytes, max(l.Bytes, 1)); lack != Nothing {
			return lack, at
		}
	}
	if s.free <= 0 {
		return s.refillSlots(), math.MaxInt64
	}
	return Nothing, 0
}

func (s *Share) refillCommands(now int64) Lack {
	l := s.limits
	if l.Commands == 0 {
		s.commands = plenty
		return Nothing
	}
	s.use()
	s.commands += s.account.commands.take(s.of.thread, now, l.Commands, l.Burst, batch-s.commands)
	if s.commands <= 0 {
		return OfCommands
	}
	return Nothing
}

func (s *Share) refillBytes(now int64) Lack {
	l := s.limits
	if l.Bytes == 0 {
		s.bytes = plenty
		return Nothing
	}
	s.use()
	s.bytes += s.account.bytes.take(s.of.thread, now, l.Bytes, l.Burst, byteBatch-s.bytes)
	if s.bytes <= 0 {
		return OfBytes
	}
	return Nothing
}

// refillSlots takes first what has ended on this thread. While clients of other threads wait too,
// it takes one share of that, once in each turn, and leaves the others to them.
func (s *Share) refillSlots() Lack {
	l, a := s.limits, s.account
	if l.InFlight == 0 {
		s.free = plenty
		return Nothing
	}
	s.use()
	if over := min(a.inFlight.Load()-int64(l.InFlight), s.ended); over > 0 { // the limit was lowered
		a.GiveBack(over)
		s.ended -= over
	}
	others := a.slots.others(s.of.thread)
	if others > 0 && s.hasTaken {
		return Slots
	}
	s.hasTaken = true
	s.turn++
	kept := (s.ended + s.turn%(others+1)) / (others + 1)
	s.free += kept
	s.ended -= kept
	if s.free <= 0 {
		s.free += a.begin(max(1, (batch-s.free)/(others+1)), int64(l.InFlight))
	}
	if s.free <= 0 {
		return Slots
	}
	return Nothing
}

// Grant adds commands that may begin, which another thread has handed over.
func (s *Share) Grant(commands int64) {
	if s.limits.InFlight > 0 {
		s.free += commands
	} else {
		s.ended += commands
	}
	s.use()
}

// Await records what clients of this thread wait for; Nothing: none of them waits.
func (s *Share) Await(lack Lack) {
	a, thread := s.account, s.of.thread
	a.slots.set(thread, lack == Slots)
	a.commands.waiting.set(thread, lack == OfCommands)
	a.bytes.waiting.set(thread, lack == OfBytes)
}

// Settle gives back what the thread's shares have not used in this turn.
func (of *Shares) Settle(now int64) {
	for i := 0; i < len(of.used); i++ {
		s := of.used[i]
		of.used[i] = nil
		s.isUsed = false
		s.settle(now)
	}
	of.used = of.used[:0]
}

func (s *Share) settle(now int64) {
	l, a := s.limits, s.account
	s.hasTaken = false
	if l.Commands > 0 && s.commands != 0 {
		a.commands.put(now, s.commands, l.Commands, l.Burst)
		s.commands = 0
	}
	if l.Bytes > 0 && s.bytes != 0 {
		a.bytes.put(now, s.bytes, l.Bytes, l.Burst)
		s.bytes = 0
	}
	unused := s.ended
	if s.ended = 0; l.InFlight > 0 {
		unused += s.free
		s.free = 0
	}
	if unused <= 0 {
		if unused < 0 {
			a.inFlight.Add(-unused)
		}
		return
	}
	others := a.slots.others(s.of.thread)
	if others == 0 {
		a.inFlight.Add(-unused)
		// One that has begun to wait may not have seen these. It may have stopped again since.
		if next := a.slots.after(s.of.thread); next >= 0 {
			s.of.Hand(s, next, 0)
		}
		return
	}
	s.handOver(unused, others)
}

// handOver gives the unused commands to the other threads whose clients wait.
func (s *Share) handOver(unused, others int64) {
	next := s.of.thread
	for unused > 0 {
		if next = s.account.slots.after(next); next == s.of.thread {
			next = s.account.slots.after(next)
		}
		if next < 0 || next == s.of.thread || others <= 0 {
			s.account.inFlight.Add(-unused) // they do not wait any more
			return
		}
		n := (unused + others - 1) / others
		s.of.Hand(s, next, n)
		unused -= n
		others--
	}
}
