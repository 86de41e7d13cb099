package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/server"
)

// steering steers changes of the layout of a pool for operators, as keyway pause and the commands beside it do.
type steering struct {
	p         *served
	reversing *sync.Mutex
}

// Pause implements admin.Steering.
func (s steering) Pause(ctx context.Context, by string) (string, error) {
	return reshard.SetPace(ctx, s.file(), by, reshard.Pause)
}

// Resume implements admin.Steering.
func (s steering) Resume(ctx context.Context, by string) (string, error) {
	return reshard.SetPace(ctx, s.file(), by, reshard.Resume)
}

// Rate implements admin.Steering.
func (s steering) Rate(ctx context.Context, by, rate string) (string, error) {
	adjust, err := reshard.ParseRate(rate, nil)
	if err != nil {
		return "", admin.BadRequest(err)
	}
	return reshard.SetPace(ctx, s.file(), by, adjust)
}

// Cancel implements admin.Steering.
func (s steering) Cancel(ctx context.Context, _ string) (string, error) {
	return reshard.Cancel(ctx, s.file())
}

// file returns what the commands would read.
func (s steering) file() *config.Config { return config.File(s.p.cfg.Load()) }

// Reverse implements admin.Steering. It goes on if the operator leaves.
func (s steering) Reverse(_ context.Context, by string) (string, error) {
	if !s.reversing.TryLock() {
		return "", errors.New("somebody else takes the change back just now")
	}
	defer s.reversing.Unlock()
	ctx := s.p.beside
	change, err := reshard.Reverse(ctx, s.file())
	if err != nil {
		return "", err
	}
	r, err := change.Plan(ctx, nil)
	if err == nil && r != nil && !r.Ready {
		err = fmt.Errorf("%skeyway reverse can accept some of this", problemsOf(r))
	}
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	change.Report = func(format string, args ...any) {
		fmt.Fprintf(&lines, format+"\n", args...)
		s.p.log.Info(fmt.Sprintf(format, args...))
	}
	of := change.Settings()
	change.Pace = register.Pace{Rate: of.Rate, Latency: of.Latency, By: by}
	fmt.Fprintf(&lines, "taking %s\n", change.Back())
	_, err = change.Start(ctx, migrate.Options{Retry: wishRetry}, false)
	return lines.String(), err
}

// problemsOf says what stands in the way of a change.
func problemsOf(r *plan.Report) (text string) {
	for _, of := range r.Problems {
		if !of.Accepted {
			text += fmt.Sprintf("%s: %s; %s. ", of.Check, of.Text, of.Remedy)
		}
	}
	return text
}

// pauseClients makes clients wait, or ends that.
func (p *served) pauseClients(ctx context.Context, forTime time.Duration, writesOnly bool) error {
	return server.Pause(ctx, p.srv, forTime, writesOnly)
}
