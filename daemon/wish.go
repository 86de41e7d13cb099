package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

const (
	wishInterval = time.Second
	wishRetry    = time.Minute // after something has stood in the way, which costs the nodes a sample of their keys
)

// wishes begins changes to the layout of a pool's file.
type wishes struct {
	p      *served
	log    *slog.Logger
	tried  *config.Config // with which something stood in the way
	next   time.Time      // of the next attempt with that
	logged string         // what has stood in the way last
}

// followWishes begins the change to the layout of the file when the files of all keyways have it and
// switch.auto allows it, until ctx ends.
func (p *served) followWishes(ctx context.Context) {
	w := &wishes{p: p, log: p.log}
	for {
		cfg := p.cfg.Load()
		if config.File(cfg).Switch.Auto && (cfg != w.tried || time.Now().After(w.next)) {
			problem := w.try(ctx, cfg)
			w.report(problem)
			if w.tried = nil; problem != "" {
				w.tried, w.next = cfg, time.Now().Add(wishRetry)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wishInterval):
		}
	}
}

// report logs what stands in the way, once. It is empty if nothing does.
func (w *wishes) report(problem string) {
	if problem != "" && problem != w.logged {
		w.log.Error("the layout does not change to that of the file", "reason", problem)
	}
	w.logged = problem
}

// try carries the change out if the time has come. It returns what stands in the way.
func (w *wishes) try(ctx context.Context, cfg *config.Config) (problem string) {
	change, reason, err := w.p.wishes.Change(ctx, cfg, w.p.srv.Table())
	switch {
	case err != nil && ctx.Err() == nil:
		return err.Error()
	case change == nil || err != nil:
		return reason
	}
	r, err := change.Plan(ctx, nil)
	if err != nil {
		return err.Error()
	}
	if r != nil && !r.Ready {
		return problemsOf(r) + "keyway switch -c FILE can accept some of this"
	}
	w.p.of.audit.record(audit.Deed{
		Action: "switch to " + change.To(), Via: audit.ViaKeyway, Pool: w.p.name, Result: "begun",
	})
	w.log.Warn("the files of all keyways have another layout, so it changes now", "to", change.To())
	change.Report = func(format string, args ...any) { w.log.Info(fmt.Sprintf(format, args...)) }
	of := change.Settings()
	change.Pace = register.Pace{Rate: of.Rate, Latency: of.Latency}
	change.Pace.By = wiring.Instance(cfg) + " (switch.auto)"
	if _, err = change.Start(ctx, migrate.Options{Retry: wishRetry}, false); err == nil || ctx.Err() != nil {
		return ""
	}
	if !errors.Is(err, switching.ErrCancelled) {
		w.p.wishes.Failed(change)
	}
	return err.Error()
}
