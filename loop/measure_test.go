package loop

import (
	"testing"
	"time"
)

// measuredLoop is a running loop whose turns are added up.
type measuredLoop struct {
	*Loop
	busy   time.Duration // in the loop only
	events int
	posts  int
}

// look returns what has been measured of the turns in which all was called that was posted before, and
// the time.
func (l *measuredLoop) look() (busy time.Duration, events int, now time.Time) {
	for range 2 { // the first may be called in the same turn as what was posted before
		seen := make(chan struct{})
		l.Post(func() {
			busy, events, now = l.busy, l.events, time.Now()
			close(seen)
		})
		<-seen
	}
	return busy, events, now
}

// TestTurnsAreMeasured: a turn has its whole work and its events; the time in which the loop sleeps
// belongs to none.
func TestTurnsAreMeasured(t *testing.T) {
	of, err := New()
	if err != nil {
		t.Fatal(err)
	}
	l := &measuredLoop{Loop: of}
	l.Measure(func(took time.Duration, events, posts int) {
		l.busy += took
		l.events += events
		l.posts += posts
	})
	ended := running(l.Loop, new(owner))
	const work = 20 * time.Millisecond
	busy, events, _ := l.look()
	for range 3 {
		l.Post(func() { time.Sleep(work) })
	}
	if b, e, _ := l.look(); b-busy < 3*work || e-events < 3 {
		t.Errorf("three times %v of work in turns of %v with %d events", work, b-busy, e-events)
	}
	deadline := time.Now().Add(3 * time.Second)
	for { // the system may let the loop wait in a turn
		before, _, from := l.look()
		time.Sleep(work)
		after, _, to := l.look()
		if to.Sub(from)-(after-before) >= work/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the loop was busy for %v of %v, without work", after-before, to.Sub(from))
		}
	}
	l.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if l.posts < 3+4 || l.posts > l.events { // what is posted above, and by the first two looks
		t.Errorf("%d posted functions of %d events", l.posts, l.events)
	}
}
