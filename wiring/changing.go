package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
)

// changing follows both layouts while keys move from the older one.
type changing struct {
	sides [2]follower // of the older and the newer layout; nil: the configuration says everything

	mu     sync.Mutex
	tables [2]*router.Table // what the sides have published last; nil: nothing is known of a cluster yet
}

// followBoth is follow, also while keys move.
func followBoth(c *config.Config, log *slog.Logger) server.Follower {
	if config.Older(c) == nil {
		if f := follow(c, log); f != nil {
			return f
		}
		return nil
	}
	f := &changing{sides: [2]follower{follow(config.Older(c), log), follow(c, log)}}
	if f.sides[0] == nil && f.sides[1] == nil {
		return nil
	}
	for i, of := range []*config.Config{config.Older(c), c} {
		if !of.Clustered() {
			f.tables[i], _ = table(of, nil) // the configuration is valid
		}
	}
	return f
}

// assume treats a table as what clusters and sentinels have reported last. Call it before Run.
func assume(f server.Follower, t *router.Table) {
	switch f := f.(type) {
	case *sentinels:
		f.assume(t)
	case *changing:
		for i, side := range f.sides {
			switch of := side.(type) {
			case *sentinels:
				of.assume(t)
				f.tables[i], _ = table(of.c, of.shards)
			case *cluster:
				if t.IsMoving() {
					older, newer := t.Sides()
					f.tables[i] = [2]*router.Table{older, newer}[i]
				}
			}
		}
	}
}

// Run implements server.Follower.
func (f *changing) Run(ctx context.Context, publish func(*router.Table)) error {
	var g errgroup.Group
	for i, side := range f.sides {
		if side == nil {
			continue
		}
		g.Go(func() error {
			return side.Run(ctx, func(t *router.Table) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.tables[i] = t
				if f.tables[0] != nil && f.tables[1] != nil {
					publish(router.Moving(f.tables[0], f.tables[1]))
				}
			})
		})
	}
	return g.Wait()
}

// SetKeyways implements server.Follower.
func (f *changing) SetKeyways(n int) {
	for _, side := range f.sides {
		if side != nil {
			side.SetKeyways(n)
		}
	}
}

// Refresh implements server.Follower.
func (f *changing) Refresh(done func()) {
	var left atomic.Int64
	for _, side := range f.sides {
		if side != nil {
			left.Add(1)
		}
	}
	all := done
	if done != nil {
		done = func() {
			if left.Add(-1) == 0 {
				all()
			}
		}
	}
	for _, side := range f.sides {
		if side != nil {
			side.Refresh(done)
		}
	}
}

// Preparation is what a keyway needs to serve while the keys of a plan move, so that clients do not wait
// until nodes have been asked and tables have been made.
type Preparation struct {
	*Prepared
	Old, Next *config.Config
}

// PrepareChange prepares a running server, whose configuration is old, for a plan. It is an error if the
// server could not serve it. What it returns is of no use any more when the server has got another
// configuration.
func PrepareChange(
	ctx context.Context, srv *server.Server, old *config.Config, p *register.Plan, log *slog.Logger,
) (*Preparation, error) {
	next, err := served(config.File(old), p.Record, "the plan", false, planned(p))
	if err != nil {
		return nil, err
	}
	var tables []*router.Table
	for _, side := range []*config.Config{config.Older(next), next} {
		t, err := FetchLayout(ctx, side)
		if err != nil {
			return nil, err
		}
		for _, r := range Inspect(ctx, side, t) {
			if problem, remedy := r.Unfit(t); problem != "" {
				return nil, fmt.Errorf("node %s %s; %s", r.Name, problem, remedy)
			}
		}
		tables = append(tables, t)
	}
	prepared, err := prepareReload(ctx, srv, old, next, router.Moving(tables[0], tables[1]), true, log)
	if err != nil {
		return nil, err
	}
	return &Preparation{prepared, old, next}, nil
}
