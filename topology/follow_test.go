package topology

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/slots"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch runs a watcher for d on a synthetic clock, and returns the times of its looks. act
// runs concurrently.
func watch(t *testing.T, d time.Duration, look func(n int) error, act func(w *Watcher)) (looks []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := New(Options{Seeds: []string{"127.0.0.1:1"}})
		w.look = func(context.Context) (*slots.Map, error) {
			looks = append(looks, time.Since(began))
			return nil, look(len(looks))
		}
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		go act(w)
		if err := w.Run(ctx, func(*slots.Map) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run returned %v", err)
		}
		synctest.Wait()
	})
	return looks
}

func fine(int) error { return nil }

// Without demand there is a look every ten seconds, give or take two.
func TestLooksWithoutDemand(t *testing.T) {
	looks := watch(t, 10*time.Minute, fine, func(*Watcher) {})
	for i := 1; i < len(looks); i++ {
		if gap := looks[i] - looks[i-1]; gap < 8*time.Second || gap > 12*time.Second {
			t.Errorf("look %d comes %s after the one before", i, gap)
		}
	}
	if len(looks) < 50 || len(looks) > 75 {
		t.Errorf("%d looks in ten minutes", len(looks))
	}
}

// Looks on demand are at least half a second apart. The first comes at once if there was
// none in the last half second.
func TestLooksOnDemand(t *testing.T) {
	looks := watch(t, 10*time.Second, fine, func(w *Watcher) {
		time.Sleep(3 * time.Second)
		for range 2000 {
			w.Refresh(nil)
			time.Sleep(time.Millisecond)
		}
	})
	want := []time.Duration{0, 3000, 3500, 4000, 4500, 5000, 5500}
	if len(looks) != len(want) {
		t.Fatalf("looks at %v", looks)
	}
	for i, at := range want {
		if looks[i] != at*time.Millisecond {
			t.Errorf("look %d at %s, want %s", i, looks[i], at*time.Millisecond)
		}
	}
}

// While no server answers there is a look every half second.
func TestLooksWhileFailing(t *testing.T) {
	looks := watch(t, 4*time.Second, func(n int) error {
		if n <= 4 {
			return errors.New("nobody answers")
		}
		return nil
	}, func(*Watcher) {})
	want := []time.Duration{0, 500, 1000, 1500, 2000}
	if len(looks) != len(want) {
		t.Fatalf("looks at %v", looks)
	}
	for i, at := range want {
		if looks[i] != at*time.Millisecond {
			t.Errorf("look %d at %s, want %s", i, looks[i], at*time.Millisecond)
		}
	}
}

// Whoever asks for a look is told when one has ended that began afterwards, also if nobody
// answered: here within a second and a half, though the look under way hangs.
func TestLookIsReported(t *testing.T) {
	var asked, told time.Duration
	looks := watch(t, 4*time.Second, func(n int) error {
		time.Sleep(askTimeout)
		return errors.New("nobody answers")
	}, func(w *Watcher) {
		began := time.Now()
		time.Sleep(askTimeout / 2)
		asked = time.Since(began)
		w.Refresh(func() { told = time.Since(began) })
	})
	if asked <= looks[0] || asked >= looks[1] || told != looks[1]+askTimeout || told > asked+1500*time.Millisecond {
		t.Errorf("looks at %v: asked at %s, told at %s", looks, asked, told)
	}
}
