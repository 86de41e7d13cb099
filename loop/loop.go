package loop

import (
	"errors"
	"runtime"
	"slices"
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
	// Begin is called once in the loop, before all other methods. now is the time since the
	// loop's start.
	Begin(now time.Duration, wall time.Time)
	// BeginTurn is called first in each turn, with the time as in Begin.
	BeginTurn(now time.Duration, wall time.Time)
	// EndTurn is called last in each turn.
	EndTurn()
	// Lull is called when nothing is ready, before the loop yields the processor and looks again.
	Lull()
	// Pause is called when still nothing is ready, before the loop sleeps. It does the work
	// that was delayed while sockets were ready, and returns the latest time at which
	// the next turn should begin.
	Pause() (next time.Duration)
	// End is called last. It must close the owner's sockets, which the loop would go on to watch.
	End()
}

// Loop is one owner's part in the event loop of a thread. Except for Post, Join, Wait, Stop and Share,
// call its methods only within the loop, or before any owner runs.
type Loop struct {
	*turns

	owner   Owner
	state   state    // in the loop only
	early   []func() // were posted before the owner had joined
	stopped atomic.Bool
	left    chan error // gets the result of Wait
}

// state says whether an owner takes part in turns.
type state uint8

const (
	outside state = iota
	joined
	gone
)

// turns is the loop itself, which owners share.
type turns struct {
	poll   poller
	start  time.Time
	owners []*Loop // those that have joined; in the loop only
	measured

	mu     sync.Mutex
	mail   []letter
	isRun  bool // an owner has joined
	ended  bool // the last owner has left, or the loop has failed
	posted atomic.Bool
}

// measured is what is measured of a turn that is not over.
type measured struct {
	turned func(took time.Duration, events, posts int)
	began  time.Duration // on the clock of BeginTurn; 0: no turn has begun
	events int           // sockets that were ready, and posted functions
	posts  int           // posted functions
}

// over ends the turn, if it is not over yet.
func (m *measured) over(now time.Duration) {
	if m.began != 0 {
		m.turned(now-m.began, m.events, m.posts)
		m.began = 0
	}
}

// letter is a function for the loop to call. Without a function, the owner joins.
type letter struct {
	to *Loop
	f  func()
}

// New returns a loop's part for the first owner.
func New() (*Loop, error) {
	t := &turns{start: time.Now(), measured: measured{turned: func(time.Duration, int, int) {}}}
	if err := t.poll.open(); err != nil {
		return nil, err
	}
	return newLoop(t), nil
}

func newLoop(t *turns) *Loop { return &Loop{turns: t, left: make(chan error, 1)} }

// Share returns the part of the same loop for another owner.
func (l *Loop) Share() *Loop { return newLoop(l.turns) }

// Measure makes the loop call turned after each turn: how long it took, how many sockets and posted
// functions it served, and how many of these were posted functions. A turn lasts until the loop sleeps
// or begins the next one. To look for ready sockets without sleeping belongs to the turn. Call Measure
// before any owner runs.
func (l *Loop) Measure(turned func(took time.Duration, events, posts int)) { l.turned = turned }

// Now returns the time since the loop's start, on the clock of BeginTurn.
func (l *Loop) Now() time.Duration { return time.Since(l.start) }

// Post makes the loop call f. An owner's functions are called in the order in which they were
// posted, after Begin and before End. Post may be called from any goroutine and does not block.
// Before the owner has joined, f waits; after it has left, f is never called.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	l.mail = append(l.mail, letter{l, f})
	l.mu.Unlock()
	if !l.posted.Swap(true) {
		l.poll.wake()
	}
}

// Stop makes the owner leave after the current turn. It may be called from any goroutine.
func (l *Loop) Stop() {
	l.stopped.Store(true)
	l.Post(func() {})
}

// Join makes o take part in the loop until Stop is called. If o is the first owner, Join returns a
// function that runs the loop until the last owner has left; otherwise nil. Call it in a goroutine
// of its own.
func (l *Loop) Join(o Owner) (run func()) {
	l.owner = o
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		l.left <- errors.New("the event loop has ended")
		return nil
	}
	l.mail = append(l.mail, letter{l, nil})
	l.posted.Store(true)
	first := !l.isRun
	l.isRun = true
	l.mu.Unlock()
	if first {
		return l.turns.run
	}
	l.poll.wake()
	return nil
}

// Wait waits until the owner has left, after its End, and returns the error of the loop.
func (l *Loop) Wait() error { return <-l.left }

// run makes turns until the last owner has left. It locks its operating system thread.
func (t *turns) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	for err == nil && !t.isOver() {
		err = t.turn()
	}
	t.mu.Lock()
	t.ended = true
	for _, m := range t.mail { // owners that were about to join
		if m.f == nil {
			t.owners = append(t.owners, m.to)
		}
	}
	t.mu.Unlock()
	for _, l := range t.owners {
		l.leave(err)
	}
	t.poll.close()
}

// isOver reports whether all owners have left and none is about to join.
func (t *turns) isOver() bool {
	if len(t.owners) > 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.mail {
		if m.f == nil {
			return false
		}
	}
	t.ended = true // no owner can join from now on
	return true
}

// turn waits until something is ready, and makes one turn.
func (t *turns) turn() error {
	// Look first without sleeping: under load something is always ready.
	if err := t.poll.look(); err != nil {
		return err
	}
	if t.poll.ready == 0 && !t.posted.Load() {
		for _, l := range t.owners {
			l.owner.Lull()
		}
		// Yield first: on a busy machine other processes send more meanwhile, and
		// one turn handles what would have been many.
		t.poll.yield()
		if err := t.poll.look(); err != nil {
			return err
		}
	}
	if t.poll.ready == 0 && !t.posted.Load() {
		next := t.owners[0].owner.Pause()
		for _, l := range t.owners[1:] {
			next = min(next, l.owner.Pause())
		}
		t.poll.endTurn()
		now := time.Since(t.start)
		if timeout := next - now; timeout > 0 {
			t.over(now)
			if err := t.poll.wait(timeout); err != nil {
				return err
			}
		}
	}
	wall := time.Now()
	now := wall.Sub(t.start)
	t.over(now)
	t.began = now
	for _, l := range t.owners {
		l.owner.BeginTurn(now, wall)
	}
	t.events, t.posts = t.poll.dispatch(), 0
	if t.posted.Load() {
		t.runMail(wall)
	}
	for _, l := range t.owners {
		l.owner.EndTurn()
	}
	for i := 0; i < len(t.owners); i++ {
		if l := t.owners[i]; l.stopped.Load() {
			t.owners = slices.Delete(t.owners, i, i+1)
			i--
			l.leave(nil)
		}
	}
	t.poll.endTurn()
	return nil
}

func (t *turns) runMail(wall time.Time) {
	t.posted.Store(false)
	t.mu.Lock()
	mail := t.mail
	t.mail = nil
	t.mu.Unlock()
	t.events, t.posts = t.events+len(mail), len(mail)
	for _, m := range mail {
		switch {
		case m.f == nil:
			t.owners = append(t.owners, m.to)
			m.to.join(wall.Sub(t.start), wall)
		case m.to.state == joined:
			m.f()
		case m.to.state == outside:
			m.to.early = append(m.to.early, m.f)
		}
	}
}

// join makes the owner take part in turns.
func (l *Loop) join(now time.Duration, wall time.Time) {
	l.state = joined
	l.owner.Begin(now, wall)
	for _, f := range l.early {
		f()
	}
	l.early = nil
}

// leave ends the owner's part.
func (l *Loop) leave(err error) {
	l.owner.End()
	l.state = gone
	l.left <- err
}
