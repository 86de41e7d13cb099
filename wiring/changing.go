package wiring

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/switching"
)

// changing follows both layouts while keys move from the older one.
type changing struct {
	sides [2]follower // of the older and the newer layout; nil: the configuration says everything

	mu     sync.Mutex
	tables [2]*router.Table // what the sides have published last
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
		f.tables[i], _ = table(of, nil) // the configuration is valid
	}
	return f
}

// assume treats a table as what sentinels have reported last. Call it before Run.
func assume(f server.Follower, t *router.Table) {
	switch f := f.(type) {
	case *sentinels:
		f.assume(t)
	case *changing:
		for i, side := range f.sides {
			if of, ok := side.(*sentinels); ok {
				of.assume(t)
				f.tables[i], _ = table(of.c, of.shards)
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
				publish(router.Moving(f.tables[0], f.tables[1]))
			})
		})
	}
	return g.Wait()
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

// MoveKeys moves the keys of the change that is under way by the configuration that current returns,
// beside others who may; see mover.Run.
func MoveKeys(ctx context.Context, current func() *config.Config, log *slog.Logger, seen func(mover.View)) {
	mover.Run(ctx, mover.Options{
		Find: func(ctx context.Context) (*mover.Work, error) {
			c := current()
			older := config.Older(c)
			if older == nil {
				return nil, errors.New("the change is over")
			}
			return workOf(ctx, c.Epoch(), older, c)
		},
		Instance: Instance(current()), Keyways: keyways, Log: log, Seen: seen,
	})
}

// workOf returns what the change from one layout to another moves.
func workOf(ctx context.Context, epoch int64, older, newer *config.Config) (*mover.Work, error) {
	w := &mover.Work{Epoch: epoch}
	var err error
	if w.From, err = scanned(ctx, older); err != nil {
		return nil, err
	}
	if w.To, err = scanned(ctx, newer); err != nil {
		return nil, err
	}
	w.Home = Home(older, w.From.Table)
	w.Nodes, w.Newer = mastersOf(older, w.From.Table), mastersOf(newer, w.To.Table)
	for _, n := range w.Newer {
		if !slices.ContainsFunc(w.Nodes, func(o *switching.Node) bool { return o.Addr == n.Addr }) {
			w.Nodes = append(w.Nodes, n)
		}
	}
	if w.Home == nil {
		return nil, errors.New("no node of the old layout is known")
	}
	return w, nil
}

// Work returns what the change moves that is in force. It is nil if there was none.
func (l *LastChange) Work(ctx context.Context) (*mover.Work, error) {
	if l.Old == nil {
		return nil, nil
	}
	return workOf(ctx, l.Epoch, l.Old, l.New)
}

// Status asks the nodes of a file for the last change of their layout, which may be a planned one. The layout
// of the file may be the old or the new one. Before the first change, it must be the one in force.
func Status(ctx context.Context, c *config.Config) (*mover.Status, error) {
	l, err := ReadLastChange(ctx, c)
	if l == nil {
		return nil, err
	} // otherwise some nodes do not answer, which the status says
	of := mover.Subject{To: layoutText(l.New)}
	switch {
	case l.Planned > 0:
		of.Home, of.From, of.To = l.home, of.To, ""
	case l.Old == nil:
		nodes, err := sideNodes(ctx, l.New)
		if err != nil {
			return nil, err
		}
		of.Home, of.Nodes = slices.MinFunc(nodes, byName), nodes
	default:
		w, err := l.Work(ctx)
		if err != nil {
			return nil, err
		}
		of.From, of.Home, of.Next, of.Nodes = layoutText(l.Old), w.Home, Home(l.New, w.To.Table), w.Nodes
		of.Older = mastersOf(l.Old, w.From.Table)
	}
	return mover.ReadStatus(ctx, of), nil
}

// layoutText names a layout, for people.
func layoutText(c *config.Config) string {
	text := c.Layout
	if len(c.Nodes) > 0 {
		names := make([]string, len(c.Nodes))
		for i, n := range c.Nodes {
			names[i] = n.Name
		}
		text += " of " + strings.Join(names, ", ")
	}
	return text + " (placement " + c.PlacementHash() + ")"
}
