package topology

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/control"
)

const (
	askTimeout  = 500 * time.Millisecond // for one question to one server
	refreshRest = 500 * time.Millisecond // between looks on demand, at least

	// How many looks a server gets in a second from all keyways: without demand, and when errors of nodes show
	// that something has changed, or no server answers. A look is two or three questions.
	looksPerSecond  = 50
	urgentPerSecond = 500
	maxInterval     = 10 * time.Minute // between looks without demand
)

// follower asks servers for their state: at intervals, and soon after each Refresh. One
// round of questions is called a look.
type follower[T any] struct {
	look     func(context.Context) (T, error)
	interval time.Duration   // between looks without demand, ± a fifth, unless keyways are many
	what     string          // the state's name, for the log
	account  control.Account // of the servers
	log      *slog.Logger
	demand   chan struct{}

	keyways atomic.Int64 // that ask the servers; 0: not known
	// share returns the share of the looks that reaches each of the servers, or how many looks at each server
	// there are if one server is looked at for several masters.
	share func() float64

	mu      sync.Mutex
	waiting []func() // to be called after the next look
}

func newFollower[T any](what string, account control.Account, interval time.Duration, log *slog.Logger) follower[T] {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return follower[T]{what: what, account: account, interval: interval, log: log, demand: make(chan struct{}, 1)}
}

// SetKeyways says how many keyways ask the same servers. Many ask less often.
func (f *follower[T]) SetKeyways(n int) { f.keyways.Store(int64(n)) }

// spread returns the time between two looks, so that each server gets so many in a second from all keyways.
func (f *follower[T]) spread(least time.Duration, perSecond float64) time.Duration {
	share := 1.
	if f.share != nil {
		share = f.share()
	}
	return control.Interval(least, int(f.keyways.Load()), perSecond/share)
}

// Refresh asks for a new look soon. It may be called from any goroutine and at any rate:
// looks are at least half a second apart. done, unless it is nil, is called when a look has
// ended that began after this call, with or without success: within a second and a half,
// or later if keyways are many.
func (f *follower[T]) Refresh(done func()) {
	if done != nil {
		f.mu.Lock()
		f.waiting = append(f.waiting, done)
		f.mu.Unlock()
	}
	select {
	case f.demand <- struct{}{}:
	default: // one is already requested
	}
}

// run calls publish with the result of each look until ctx ends, and returns ctx's error.
func (f *follower[T]) run(ctx context.Context, publish func(T)) error {
	var failing bool
	for {
		began, waiting := time.Now(), f.takeWaiting()
		found, err := f.look(ctx)
		f.log.Debug("read the topology", "of", f.what,
			"duration", time.Since(began).Round(time.Millisecond).String(), "ok", err == nil)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !failing:
			failing = true
			_, remedy := Explain(err, f.account)
			f.log.Warn("cannot read the topology; the last one stays in use",
				"of", f.what, "error", err, "remedy", remedy)
		case err == nil:
			if failing {
				f.log.Info("can read the topology again", "of", f.what)
			}
			failing = false
			publish(found)
		}
		for _, done := range waiting {
			done()
		}
		rest := f.spread(refreshRest, urgentPerSecond)
		wait := min(f.spread(f.interval, looksPerSecond), max(f.interval, maxInterval))
		wait += rand.N(2*wait/5) - wait/5
		if failing {
			wait = rest
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-f.demand:
			timer.Stop()
			if left := rest - time.Since(began); left > 0 {
				if err := sleep(ctx, left); err != nil {
					return err
				}
			}
		}
	}
}

func (f *follower[T]) takeWaiting() []func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := f.waiting
	f.waiting = nil
	return waiting
}

// jittered returns the duration, give or take a tenth.
func jittered(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5) }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
