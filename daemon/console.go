package daemon

import (
	"context"
	"net"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/console"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slowlog"
)

// console returns what clients and operators can ask about the pool. The pool need not be served yet.
func (p *served) console() *console.Pool {
	return &console.Pool{
		Lists:    p.lists(),
		State:    func() overview.State { return p.sampler.State() },
		Events:   p.newestEvents,
		Route:    func(key []byte) router.Explanation { return p.srv.Table().ExplainKey(key) },
		Settings: p.settings,
		Level:    p.of.out.levelText,
		SetLevel: func(level, user, addr string) error {
			report, err := p.of.setLogLevel(level)
			d := audit.Deed{
				Action: "KEYWAY LOG", Via: audit.ViaClient, Addr: addr, User: user, Pool: p.name,
				Result: oneLine(report), Err: err,
			}
			if user == "" {
				d.Via = audit.ViaConsole
			}
			p.of.audit.record(d)
			return err
		},
	}
}

// lists returns what operators can ask the threads of the pool.
func (p *served) lists() console.Lists {
	return console.Lists{
		Clients: func(ctx context.Context, q clients.Query) ([]clients.Row, error) {
			rows, _, err := server.ClientRows(ctx, p.srv, q)
			return rows, err
		},
		HotKeys: func(ctx context.Context, by hotkeys.By, count int) ([]hotkeys.Row, error) {
			return server.HotKeys(ctx, p.srv, by, count)
		},
		BigKeys: func(ctx context.Context, count int) ([]bigkeys.Row, error) {
			return server.BigKeys(ctx, p.srv, count)
		},
		SlowLog: func(ctx context.Context) ([]slowlog.Entry, error) { return server.SlowEntries(ctx, p.srv) },
		Users: func(ctx context.Context) ([]metrics.User, error) {
			threads, err := p.srv.Snapshot(ctx)
			return metrics.Sum(threads).Users, err
		},
		Locks: func(ctx context.Context, q locks.Query) ([]locks.Row, error) {
			if !p.cfg.Load().Locks.Observe {
				return nil, locks.ErrNotObserved
			}
			return p.srv.Locks(ctx, q)
		},
	}
}

// settings returns the configuration of the pool that is in force.
func (p *served) settings() (all []console.Setting) {
	for _, s := range config.Settings(p.cfg.Load()) {
		all = append(all, console.Setting(s))
	}
	return all
}

// consoleAddr returns the console's address of the configuration.
func (r *running) consoleAddr() string { return r.first().cfg.Load().Admin.Console }

// doors are the addresses for operators.
type doors struct {
	admin   *adminListener
	console consoleListener
}

// consoleListener is the console's address.
type consoleListener struct {
	addr string             // as in the configuration; empty: there is none
	stop context.CancelFunc // nil: it is not served
}

// consoleRetry is the time between two attempts to listen on the console's address.
const consoleRetry = time.Second

// serveConsole serves the console on an address, instead of the one before, until ctx ends; empty: nowhere. The
// process that this one replaces, or another program, may still have the address. keyway serves all the same.
func (r *running) serveConsole(ctx context.Context, addr string) {
	if r.console.addr == addr {
		return
	}
	if r.console.stop != nil {
		r.console.stop()
	}
	r.console = consoleListener{addr: addr}
	if addr == "" {
		return
	}
	ctx, r.console.stop = context.WithCancel(ctx)
	r.watchers.Go(func() {
		for attempt := 1; ctx.Err() == nil; attempt++ {
			err := r.listenConsole(ctx, addr)
			if err == nil || ctx.Err() != nil {
				return
			}
			if attempt == 2 { // the first one may be too early after an upgrade
				r.log.Warn("the console is not served; keyway tries again", "addr", addr, "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(consoleRetry):
			}
		}
	})
}

// listenConsole serves the console until ctx ends.
func (r *running) listenConsole(ctx context.Context, addr string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	r.log.Info("serving the console", "addr", ln.Addr().String())
	return console.Serve(ctx, ln, console.Options{
		Pools: func() map[string]*console.Pool {
			all := map[string]*console.Pool{}
			for _, p := range *r.pools.Load() {
				all[p.name] = p.console()
			}
			return all
		},
		IsToken: func(token string) (is, hasAny bool) {
			tokens := r.first().cfg.Load().Admin.Tokens()
			return admin.IsToken(tokens, token), len(tokens) > 0
		},
	})
}
