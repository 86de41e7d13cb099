package reshard

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

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
		Instance: wiring.Instance(current()), Keyways: keyways, Log: log, Seen: seen,
	})
}

// workOf returns what the change from one layout to another moves.
func workOf(ctx context.Context, epoch int64, older, newer *config.Config) (*mover.Work, error) {
	how := config.Moves(newer)
	w := &mover.Work{Epoch: epoch, Durable: wiring.Durability(newer), Batch: how.Batch}
	if how.Big.How != config.BigNow {
		w.BigOver = int64(how.Big.Over)
	}
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
