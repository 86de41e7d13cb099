package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

// onLaterEpoch tells obeyLater of a node of a later epoch.
func (p *served) onLaterEpoch(l *pool.Link) {
	select {
	case p.later <- l:
	default: // obeyLater knows of another
	}
}

// obeyInterval is the time between two attempts to take a later layout.
const obeyInterval = 500 * time.Millisecond

// obeyLater makes the server take the layouts that nodes' registers say are in force, until
// ctx ends. Until the server has taken one, it does not use the nodes that say so.
func (p *served) obeyLater(ctx context.Context) {
	logged := ""
	for {
		var l *pool.Link
		select {
		case <-ctx.Done():
			return
		case l = <-p.later:
		}
		if err := p.obey(ctx); err != nil && err.Error() != logged {
			logged = err.Error()
			p.log.Error("a node says that another layout is in force, which keyway cannot take; it does not use such "+
				"nodes, and their keys cannot be reached", "node", proxy.NodeName(l), "addr", l.Addr, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(obeyInterval):
		}
	}
}

// takePart makes the keyway take part in changes of the layout, until ctx ends.
func (p *served) takePart(ctx context.Context) {
	for ctx.Err() == nil {
		cfg := p.cfg.Load()
		home := wiring.Home(cfg, p.srv.Table())
		of, stop := context.WithCancel(ctx)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			defer stop()
			for of.Err() == nil && isHome(home, p.cfg.Load(), p.srv.Table()) {
				select {
				case <-of.Done():
				case <-time.After(obeyInterval):
				}
			}
		})
		if home != nil {
			home.TakePart(of, partOf{p}, p.log)
		}
		waiting.Wait()
	}
}

// isHome reports whether a node is still the home of changes.
func isHome(home *switching.Node, c *config.Config, t *router.Table) bool {
	now := wiring.Home(c, t)
	return (home == nil) == (now == nil) && (now == nil || now.Addr == home.Addr)
}

// partOf is a keyway's part in a change of the layout.
type partOf struct{ p *served }

func (of partOf) Name(epoch int64, state string) string {
	return wiring.MemberName(of.p.cfg.Load(), epoch, state)
}

func (of partOf) Prepare(ctx context.Context, plan *register.Plan) error {
	return wiring.PrepareChange(ctx, fileOf(of.p.cfg.Load()), plan)
}

func (of partOf) Hold(atMost time.Duration)      { server.Hold(of.p.srv, atMost) }
func (of partOf) IsHeld() bool                   { return server.IsHeld(of.p.srv) }
func (of partOf) EndHold()                       { server.EndHold(of.p.srv) }
func (of partOf) Obey(ctx context.Context) error { return of.p.obey(ctx) }

// obey makes the server take the layout that the nodes' registers say is in force.
func (p *served) obey(ctx context.Context) error {
	p.of.reloading.Lock()
	defer p.of.reloading.Unlock()
	old := p.cfg.Load()
	next, err := wiring.InForce(ctx, fileOf(old), old, p.log)
	if err != nil || config.InSameState(old, next) {
		return err
	}
	changes, err := wiring.Reload(ctx, p.srv, old, next, true, p.log)
	if err != nil {
		return fmt.Errorf("%w; restart keyway", err)
	}
	p.use(next, changes)
	logEpoch(p.log, old, next)
	wiring.LogInForce(next, p.log)
	return nil
}

// logEpoch logs that the server has taken another layout.
func logEpoch(log *slog.Logger, old, next *config.Config) {
	text := "the layout of a later epoch is in force; keyway serves by it"
	switch {
	case config.Older(next) != nil:
		text = "the layout is being changed; keyway serves by the new one, and brings keys that clients use"
	case config.Older(old) != nil:
		text = "the change of the layout is done; keyway serves by it alone"
	}
	log.Warn(text, "epoch", next.Epoch(), "from_epoch", old.Epoch(), "layout", next.Layout,
		"placement", next.PlacementHash(), "placement_before", old.PlacementHash())
}

// fileOf returns the configuration as the file has it.
func fileOf(c *config.Config) *config.Config {
	if file := c.Replaced(); file != nil {
		return file
	}
	return c
}

// inForceReport returns the lines that the report of a reload ends with. It is empty if the
// file's layout was in force before and still is.
func inForceReport(old, next *config.Config) string {
	switch {
	case next.Replaced() != nil:
		return fmt.Sprintf("  %s; keyway check --connect prints their layout\n", wiring.NotInForce(next))
	case old.Replaced() != nil:
		return "  the layout of this file is in force\n"
	}
	return ""
}
