package loop

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// owner records what the loop calls.
type owner struct {
	mu     sync.Mutex
	events []string
	turns  int
}

func (o *owner) add(event string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, event)
}

func (o *owner) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

func (o *owner) Begin(time.Duration, time.Time)     { o.add("begin") }
func (o *owner) BeginTurn(time.Duration, time.Time) { o.turns++ }
func (o *owner) EndTurn()                           {}
func (o *owner) Lull()                              {}
func (o *owner) Pause() time.Duration               { return time.Hour }
func (o *owner) End()                               { o.add("end") }

// running starts an owner, and returns what Wait returns.
func running(l *Loop, o Owner) <-chan error {
	ended := make(chan error, 1)
	if run := l.Join(o); run != nil {
		go run()
	}
	go func() { ended <- l.Wait() }()
	return ended
}

// done waits until the loop has called a function of the owner.
func done(t *testing.T, l *Loop) {
	t.Helper()
	called := make(chan struct{})
	l.Post(func() { close(called) })
	select {
	case <-called:
	case <-time.After(10 * time.Second):
		t.Fatal("the loop does not call what was posted")
	}
}

// TestOwnersShareALoop: what is posted to an owner waits for its Begin, keeps its order, and is
// dropped after its End. An owner that leaves disturbs no other.
func TestOwnersShareALoop(t *testing.T) {
	first, err := New()
	if err != nil {
		t.Fatal(err)
	}
	second := first.Share()
	a, b := new(owner), new(owner)
	for i := range 3 {
		first.Post(func() { a.add(fmt.Sprint("a", i)) })
		second.Post(func() { b.add(fmt.Sprint("b", i)) })
	}
	aEnded := running(first, a)
	done(t, first)
	if got, want := a.all(), []string{"begin", "a0", "a1", "a2"}; !slices.Equal(got, want) {
		t.Errorf("the first owner: %q, want %q", got, want)
	}
	if got := b.all(); len(got) > 0 {
		t.Errorf("an owner that does not run: %q", got)
	}
	bEnded := running(second, b)
	done(t, second)
	if got, want := b.all(), []string{"begin", "b0", "b1", "b2"}; !slices.Equal(got, want) {
		t.Errorf("the second owner: %q, want %q", got, want)
	}
	first.Stop()
	if err := <-aEnded; err != nil {
		t.Fatal(err)
	}
	first.Post(func() { a.add("late") })
	done(t, second)
	turns := make(chan int, 2)
	second.Post(func() { turns <- a.turns })
	done(t, second)
	second.Post(func() { turns <- a.turns })
	done(t, second)
	if before, after := <-turns, <-turns; before != after {
		t.Error("an owner that has left takes part in turns")
	}
	if got := a.all(); got[len(got)-1] != "end" {
		t.Errorf("an owner that has left: %q", got)
	}
	second.Stop()
	if err := <-bEnded; err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, first)
	if err := <-running(first.Share(), new(owner)); err == nil || err.Error() != "the event loop has ended" {
		t.Errorf("after the last owner has left: %v", err)
	}
}

// awaitEnd waits until the loop has ended. Until then another owner could join.
func awaitEnd(t *testing.T, l *Loop) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		ended := l.ended
		l.mu.Unlock()
		if ended {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the loop does not end with its last owner")
		}
	}
}

// TestOwnersComeAndGo: owners join and leave a loop at the same time, and each begins and ends
// once.
func TestOwnersComeAndGo(t *testing.T) {
	first, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ended := running(first, new(owner))
	done(t, first)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			l, o := first.Share(), new(owner)
			ended := running(l, o)
			done(t, l)
			l.Stop()
			if err := <-ended; err != nil || !slices.Equal(o.all(), []string{"begin", "end"}) {
				t.Errorf("%v %q", err, o.all())
			}
		})
	}
	all.Wait()
	first.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
