package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/reshard"
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
		if err := p.obeyRegisters(ctx); err != nil && err.Error() != logged {
			logged = err.Error()
			p.log.Error("a node says that another layout is in force, which keyway cannot take; it does not use such "+
				"nodes, and their keys cannot be reached", "node", proxy.NodeName(l), "addr", l.Addr, "error", err)
		}
		pause(ctx, obeyInterval)
	}
}

// takePart makes the keyway take part in changes of the layout, until ctx ends.
func (p *served) takePart(ctx context.Context) {
	for ctx.Err() == nil {
		cfg := p.cfg.Load()
		home := reshard.Home(cfg, p.srv.Table())
		of, stop := context.WithCancel(ctx)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			defer stop()
			for of.Err() == nil && isHome(home, p.cfg.Load(), p.srv.Table()) {
				pause(of, obeyInterval)
			}
		})
		if home != nil {
			home.TakePart(of, &part{p: p, home: home.Name}, p.log)
		}
		waiting.Wait()
	}
}

// moveKeys makes the keyway one of those who move the keys of a change while it is under way, until ctx
// ends.
func (p *served) moveKeys(ctx context.Context) {
	for ctx.Err() == nil {
		cfg := p.cfg.Load()
		if config.Older(cfg) == nil {
			p.moving.end()
			pause(ctx, obeyInterval)
			continue
		}
		of, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() {
			defer stop()
			for of.Err() == nil && movesAlike(p.cfg.Load(), cfg) {
				pause(of, obeyInterval)
			}
		})
		reshard.MoveKeys(of, p.cfg.Load, p.log, func(v mover.View) { p.moving.see(p.log, v) })
		watching.Wait() // Run returns when the change is over, of which the configuration says so a little later
	}
}

// movesAlike reports whether keys move by both configurations in the same way, or by neither.
func movesAlike(a, b *config.Config) bool {
	return config.InSameState(a, b) && config.Moves(a) == config.Moves(b)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// isHome reports whether a node is still the home of changes.
func isHome(home *switching.Node, c *config.Config, t *router.Table) bool {
	now := reshard.Home(c, t)
	return (home == nil) == (now == nil) && (now == nil || now.Addr == home.Addr)
}

// part is a keyway's part in a change of the layout.
type part struct {
	p    *served
	home string // the name of the node
}

func (of *part) Name(epoch int64, state string) string {
	of.p.moving.state.Store(&state)
	return wiring.MemberName(of.p.cfg.Load(), epoch, state)
}

func (of *part) Keyways() int { return server.Keyways(of.p.srv) }

func (of *part) Prepare(ctx context.Context, plan *register.Plan) error {
	ready, err := wiring.PrepareChange(ctx, of.p.srv, of.p.cfg.Load(), plan, of.p.log)
	of.p.prepared.Store(ready)
	return err
}

func (of *part) Hold(atMost time.Duration) { server.Hold(of.p.srv, atMost) }
func (of *part) IsHeld() bool              { return server.IsHeld(of.p.srv) }
func (of *part) EndHold()                  { server.EndHold(of.p.srv) }

// Obey implements switching.Keyway.
func (of *part) Obey(ctx context.Context, change *register.Change) error {
	old := of.p.cfg.Load()
	switch ready := of.p.preparedFor(old, change.Epoch, change.Done); {
	case change.Entered == nil:
		return of.p.obeyRegisters(ctx)
	case old.Epoch() == change.Epoch && !change.Done && config.Older(old) != nil:
		return nil
	case ready != nil:
		return of.p.reload(ctx, old, ready.Next)
	}
	next, err := wiring.InForceBy(config.File(old), old, wiring.Last{
		Record: *change.Entered, Node: of.home, Done: change.Done, Plan: change.Plan,
	})
	if err != nil {
		return err
	}
	return of.p.reload(ctx, old, next)
}

// obeyRegisters makes the server take the layout that the nodes' registers say is in force.
func (p *served) obeyRegisters(ctx context.Context) error {
	old := p.cfg.Load()
	next, err := wiring.InForce(ctx, config.File(old), old, p.log)
	if err != nil {
		return err
	}
	return p.reload(ctx, old, next)
}

// preparedFor returns what is prepared for the change of a configuration to an epoch, nil if nothing is.
func (p *served) preparedFor(old *config.Config, epoch int64, isDone bool) *wiring.Preparation {
	ready := p.prepared.Load()
	if ready == nil || ready.Old != old || ready.Next.Epoch() != epoch || isDone {
		return nil
	}
	return ready
}

// reload makes the server take next instead of old. Clients wait meanwhile, so it takes what is prepared if it
// can: without that it asks the nodes, one of which may not answer.
func (p *served) reload(ctx context.Context, old, next *config.Config) error {
	if ready := p.preparedFor(old, next.Epoch(), config.Older(next) == nil); ready != nil {
		return p.obey(old, ready.Next, func() (*wiring.Prepared, error) { return ready.Prepared, nil })
	}
	return p.obey(old, next, func() (*wiring.Prepared, error) {
		return wiring.PrepareReload(ctx, p.srv, old, next, true, p.log)
	})
}

// obey makes the server take next instead of old, unless it has taken another one meanwhile.
func (p *served) obey(old, next *config.Config, prepare func() (*wiring.Prepared, error)) error {
	p.of.reloading.Lock()
	defer p.of.reloading.Unlock()
	if p.cfg.Load() != old || config.InSameState(old, next) {
		return nil
	}
	change, err := prepare()
	if err != nil {
		return fmt.Errorf("%w; restart keyway", err)
	}
	change.Apply()
	p.use(next, change.Changes)
	logEpoch(p.log, old, next)
	if config.Older(next) == nil { // files have the old layout until a change is over
		wiring.LogInForce(next, p.log)
	}
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
	about := []any{"epoch", next.Epoch(), "layout", next.Layout, "placement", next.PlacementHash()}
	if old.Epoch() != next.Epoch() {
		about = append(about, "from_epoch", old.Epoch(), "placement_before", old.PlacementHash())
	}
	log.Warn(text, about...)
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
