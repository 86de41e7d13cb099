package loop

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Handler handles a socket's readiness.
type Handler interface {
	// Ready is called in the loop. A socket that has failed or was closed by
	// the peer is reported as readable.
	Ready(readable, writable bool)
}

// Owner does the work of a loop's turns.
type Owner interface {
	// BeginTurn is called first in each turn. now is the time since the loop's start.
	BeginTurn(now time.Duration, wall time.Time)
	// EndTurn is called last in each turn.
	EndTurn()
	// Pause is called when nothing is ready, before the loop sleeps. It does the work
	// that was delayed while sockets were ready, and returns the latest time at which
	// the next turn should begin.
	Pause() (next time.Duration)
}

// Loop is one thread's event loop. Except for Post and Stop, call its methods only within
// Run, or before it.
type Loop struct {
	poll  poller
	start time.Time

	mu      sync.Mutex
	mail    []func()
	posted  atomic.Bool
	stopped atomic.Bool
}

// New returns a loop.
func New() (*Loop, error) {
	l := &Loop{start: time.Now()}
	if err := l.poll.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Now returns the time since the loop's start, on the clock of BeginTurn.
func (l *Loop) Now() time.Duration { return time.Since(l.start) }

// Post makes the loop call f. Functions are called in the order in which they were
// posted. Post may be called from any goroutine and does not block. After Run has
// returned, f is never called.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	l.mail = append(l.mail, f)
	l.mu.Unlock()
	if !l.posted.Swap(true) {
		l.poll.wake()
	}
}

// Stop makes Run return after the current turn. It may be called from any
// goroutine.
func (l *Loop) Stop() {
	l.stopped.Store(true)
	l.Post(func() {})
}

// Run runs the loop until Stop is called. It locks its operating system thread.
func (l *Loop) Run(o Owner) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.poll.close()
	for !l.stopped.Load() {
		// Look first without sleeping: under load something is always ready.
		if err := l.poll.look(); err != nil {
			return err
		}
		if l.poll.ready == 0 && !l.posted.Load() {
			// Yield first: on a busy machine other processes send more meanwhile, and
			// one turn handles what would have been many.
			l.poll.yield()
			if err := l.poll.look(); err != nil {
				return err
			}
		}
		if l.poll.ready == 0 && !l.posted.Load() {
			next := o.Pause()
			l.poll.endTurn()
			if timeout := next - time.Since(l.start); timeout > 0 {
				if err := l.poll.wait(timeout); err != nil {
					return err
				}
			}
		}
		wall := time.Now()
		o.BeginTurn(wall.Sub(l.start), wall)
		l.poll.dispatch()
		if l.posted.Load() {
			l.runMail()
		}
		o.EndTurn()
		l.poll.endTurn()
	}
	return nil
}

func (l *Loop) runMail() {
	l.posted.Store(false)
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	for _, f := range mail {
		f()
	}
}
