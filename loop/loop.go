package loop

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Handler is told when its socket is ready.
type Handler interface {
	// Ready is called in the loop. A socket that has failed or was closed by
	// the peer is reported as readable.
	Ready(readable, writable bool)
}

// Owner is whom the loop serves.
type Owner interface {
	// BeginTurn is called before anything else of a turn. now is the time
	// since the loop's start.
	BeginTurn(now time.Duration, wall time.Time)
	// EndTurn is called last.
	EndTurn()
	// Pause is called when nothing is ready, before the loop sleeps: the
	// moment to do what was put off in favour of what was ready. It returns when
	// the next turn should begin at the latest.
	Pause() (next time.Duration)
}

// Loop is one thread's event loop. Except for Post and Stop, its methods are to
// be called from within Run, or before it.
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

// Now is the time since the loop's start, as BeginTurn tells it.
func (l *Loop) Now() time.Duration { return time.Since(l.start) }

// Post has f run in the loop, in the order of posting. It may be called from
// any goroutine and does not wait. After Run has returned, f is never run.
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

// Run turns the loop until Stop. It holds its operating system thread.
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
			// Let others run first, if any want to: on a busy machine what
			// they send meanwhile makes one turn of many.
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
