package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
)

// newHome returns a world without faults in which the home of a change has some records. hold is that of
// the plan, if it is not 0.
func newHome(t *testing.T, hold time.Duration, codes ...string) (*world, *shell) {
	w, s := newShell(4, nil)
	w.faults = false
	p := planOf(1, 1)
	if hold > 0 {
		p.Options = fmt.Appendf(nil, `{"hold": %d}`, hold)
	}
	plan, err := p.Code()
	if err != nil {
		t.Fatal(err)
	}
	home := w.nodes[s.c.masters[0][0]]
	for _, code := range append([]string{plan, register.Note(register.HoldName(1, 1))}, codes...) {
		home.redis.Execute("FUNCTION", "LOAD", code)
	}
	s.c.startAll(4)
	return w, s
}

func (w *world) pass(d time.Duration) {
	for end := w.now + int64(d); w.now < end && w.failure == ""; {
		w.turn()
	}
}

// TestHoldOfADecidedEpoch: a keyway that starts, or wakes up, when a change is decided does not hold
// commands for it: nobody would wait for that.
func TestHoldOfADecidedEpoch(t *testing.T) {
	for _, decision := range []register.Decision{register.Go, register.Cancelled} {
		synctest.Test(t, func(t *testing.T) {
			w, s := newHome(t, 0, decision.Code(1))
			defer s.stop()
			if w.pass(time.Second); s.holds != 0 || w.failure != "" {
				t.Errorf("%s: %d keyways hold commands; %s", decision, s.holds, w.failure)
			}
			if in := s.c.epoch == 1 && s.newest() == 1; in != (decision == register.Go) {
				t.Errorf("%s: the home is in epoch %d", decision, s.newest())
			}
		})
	}
}

// TestHoldEnds: commands wait no longer than switching.HoldTime, or than the plan says, whatever becomes of
// who asked for that, and of what follows the change in the keyway. Nobody decides because of a hold.
func TestHoldEnds(t *testing.T) {
	holdEnds(t, 0, switching.HoldTime)
	holdEnds(t, 300*time.Millisecond, 200*time.Millisecond)
}

// holdEnds looks for the end of a hold of a plan soon after 200 ms, and after a while.
func holdEnds(t *testing.T, hold, after time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newHome(t, hold)
		defer s.stop()
		for i := 0; s.holds < len(s.c.keyways) && i < 200; i++ {
			w.turn()
		}
		for i, p := range s.parts {
			if i > 0 { // the first one goes on to follow the change
				p.die()
			}
		}
		w.pass(100 * time.Millisecond)
		for _, c := range w.clients {
			c.user.send("GET", "", []string{"text0"}, "GET", "text0")
		}
		if w.pass(100 * time.Millisecond); w.replies != 0 || s.holds != len(s.c.keyways) {
			t.Errorf("%d keyways hold commands, and %d are answered", s.holds, w.replies)
		}
		if w.pass(after); w.replies != len(w.clients) || w.failure != "" {
			t.Errorf("%d of %d commands are answered; %s", w.replies, len(w.clients), w.failure)
		}
		if got := s.records[1].decision; got != "" {
			t.Errorf("the decision is %q", got)
		}
	})
}

// TestHoldGoesOnWhenDecided: if a change is decided at the end of a hold, and who has decided dies, commands wait
// until the home is in the epoch. Otherwise they would be in flight when it enters it.
func TestHoldGoesOnWhenDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newHome(t, 0)
		defer s.stop()
		for i := 0; s.holds < len(s.c.keyways) && i < 200; i++ {
			w.turn()
		}
		w.pass(switching.HoldTime - 150*time.Millisecond)
		for _, c := range w.clients {
			c.user.send("GET", "", []string{"text0"}, "GET", "text0")
		}
		home := w.nodes[s.c.masters[0][0]]
		home.redis.Execute("FUNCTION", "LOAD", register.Go.Code(1))
		for i := 0; s.newest() == 0 && i < 2000 && w.failure == ""; i++ {
			if w.replies != 0 {
				t.Fatalf("%d commands were answered before the home was in the epoch", w.replies)
			}
			w.turn()
		}
		if w.pass(time.Second); w.replies != len(w.clients) || s.newest() != 1 || w.failure != "" {
			t.Errorf("%d of %d commands are answered, in epoch %d; %s",
				w.replies, len(w.clients), s.newest(), w.failure)
		}
	})
}
