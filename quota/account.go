package quota

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Limits bound the clients of one user together. 0 stands for no limit. Limits do not change.
type Limits struct {
	Clients  int   // connections
	InFlight int   // commands that are not answered
	Commands int64 // in a second
	Bytes    int64 // in a second, of commands and replies
	// Burst is how long the user's clients may save what they do not use of Commands and Bytes.
	Burst time.Duration
	// MaxWait is how long a command waits for Commands and Bytes, before the client gets an error.
	MaxWait time.Duration
}

// Account is what the clients of one user use on all threads. The zero value is ready for use.
type Account struct {
	clients, inFlight atomic.Int64
	commands, bytes   bucket
	slots             threads // those whose clients wait until other commands have ended
}

// MaxThreads is how many threads may share an account.
const MaxThreads = 256

// Enter counts a client. With a limit above 0 it returns false, and does not count the client, if
// that many are counted.
func (a *Account) Enter(limit int) bool {
	for {
		n := a.clients.Load()
		if limit > 0 && n >= int64(limit) {
			return false
		}
		if a.clients.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Leave no longer counts a client.
func (a *Account) Leave() { a.clients.Add(-1) }

// Clients returns how many clients are counted, and InFlight how many commands are under way.
func (a *Account) Clients() int  { return int(a.clients.Load()) }
func (a *Account) InFlight() int { return int(a.inFlight.Load()) }

// GiveBack no longer counts commands as under way.
func (a *Account) GiveBack(commands int64) { a.inFlight.Add(-commands) }

// begin counts up to most more commands under way, and returns how many.
func (a *Account) begin(most, limit int64) int64 {
	for {
		used := a.inFlight.Load()
		n := min(most, limit-used)
		if n <= 0 {
			return 0
		}
		if a.inFlight.CompareAndSwap(used, used+n) {
			return n
		}
	}
}

// bucket is a token bucket. Its only state is the time up to which its tokens are spent: the
// bucket has those of the time from then to now, at most those of a burst. A time later than now
// is a debt.
type bucket struct {
	spent   atomic.Int64
	waiting threads      // those whose clients wait for tokens
	last    atomic.Int64 // the thread that last took tokens while others waited
}

// patience is how long the next thread in turn may take to come for its tokens.
const patience = int64(5 * time.Millisecond)

// maxDebt is how long a user pays at most for replies that were larger than its rate allows.
const maxDebt = int64(10 * time.Second)

// cost returns the time in which the rate makes n tokens.
func cost(n, rate int64) int64 { return int64(float64(n)*1e9/float64(rate) + 0.999) }

// tokens returns how many tokens the rate makes in a time.
func tokens(d, rate int64) int64 { return int64(float64(d) * float64(rate) / 1e9) }

// from returns the time from which on the bucket has its tokens, when it was last changed to spent.
func from(spent, now, rate int64, burst time.Duration) int64 {
	return max(spent, now-max(int64(burst), cost(1, rate)))
}

// take takes up to most tokens for a thread, and returns how many. While clients of other threads
// wait too, threads take turns, and each gets its share.
func (b *bucket) take(thread int, now, rate int64, burst time.Duration, most int64) int64 {
	others := b.waiting.others(thread)
	isNext := others == 0 || b.waiting.after(int(b.last.Load())) == thread
	for {
		spent := b.spent.Load()
		if !isNext && now < spent+cost(1, rate)+patience {
			return 0
		}
		begin := from(spent, now, rate, burst)
		n := tokens(now-begin, rate)
		if n <= 0 {
			return 0
		}
		if n = min(n, most); others > 0 {
			n = max(1, tokens(now-begin, rate)/(others+1))
		}
		if b.spent.CompareAndSwap(spent, begin+cost(n, rate)) {
			if others > 0 {
				b.last.Store(int64(thread))
			}
			return n
		}
	}
}

// put gives back tokens that were not used. If n is negative, more were used than taken.
func (b *bucket) put(now, n, rate int64, burst time.Duration) {
	if n >= 0 {
		b.spent.Add(-tokenTime(n, rate))
		return
	}
	for {
		spent := b.spent.Load()
		after := min(from(spent, now, rate, burst)+cost(-n, rate), now+maxDebt)
		if b.spent.CompareAndSwap(spent, max(spent, after)) {
			return
		}
	}
}

// tokenTime is cost, rounded down, so that what is given back is not more than what was taken.
func tokenTime(n, rate int64) int64 { return int64(float64(n) * 1e9 / float64(rate)) }

// next returns the time at which the bucket has n tokens.
func (b *bucket) next(n, rate int64) int64 { return b.spent.Load() + cost(n, rate) }

// threads is a set of threads.
type threads [MaxThreads / 64]atomic.Uint64

// set puts a thread into the set or takes it out.
func (t *threads) set(thread int, isIn bool) {
	if bit := uint64(1) << (thread % 64); isIn {
		t[thread/64].Or(bit)
	} else {
		t[thread/64].And(^bit)
	}
}

// others returns how many threads are in the set besides this one.
func (t *threads) others(thread int) (n int64) {
	for i := range t {
		set := t[i].Load()
		if i == thread/64 {
			set &^= 1 << (thread % 64)
		}
		n += int64(bits.OnesCount64(set))
	}
	return n
}

// after returns the next thread of the set behind this one, in a circle, or -1 if there is no
// other.
func (t *threads) after(thread int) int {
	for i := range len(t) + 1 {
		word := (thread/64 + i) % len(t)
		set := t[word].Load()
		switch i {
		case 0:
			set &= ^uint64(0) << (thread%64 + 1)
		case len(t):
			set &= 1<<(thread%64) - 1
		}
		if set != 0 {
			return 64*word + bits.TrailingZeros64(set)
		}
	}
	return -1
}
