package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/move"
)

const (
	firstPause = 100 * time.Millisecond // before a pass is tried again
	maxPause   = 2 * time.Second
)

// retry tries passes over nodes again while nodes cannot be reached.
type retry struct {
	limit time.Duration // the longest time without success; 0: no second try

	mu      sync.Mutex
	waiting []string // texts of the failures after which passes wait
}

// run calls pass until it returns nil, an error that does not go away by itself, or until it
// has failed for the time limit. pass reports whether it has advanced before its error: then
// the time begins again, because whoever advances a little each time comes to an end.
func (r *retry) run(ctx context.Context, pass func() (advanced bool, err error)) error {
	var since time.Time // of the failure since which no pass has advanced
	pause := firstPause
	for {
		began := time.Now()
		advanced, err := pass()
		var failed *move.Error
		if err == nil || ctx.Err() != nil || !errors.As(err, &failed) || !failed.Temporary || r.limit == 0 {
			return err
		}
		now := time.Now()
		if since.IsZero() || advanced || now.Sub(began) > r.limit {
			since, pause = now, firstPause
		}
		left := r.limit - now.Sub(since)
		if left <= 0 {
			return fmt.Errorf("gave up after %s: %w", r.limit, err)
		}
		text := fmt.Sprintf("node %s: %s: %v", failed.Node, failed.Doing, failed.Err)
		r.note(text, true)
		select {
		case <-ctx.Done():
		case <-time.After(min(pause, left)):
		}
		r.note(text, false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause = min(2*pause, maxPause)
	}
}

// note adds or removes the text of a failure.
func (r *retry) note(text string, waits bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if waits {
		r.waiting = append(r.waiting, text)
	} else if i := slices.Index(r.waiting, text); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
}

// failure returns the text of a failure after which a pass waits, empty if none does.
func (r *retry) failure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return ""
	}
	return r.waiting[0]
}
