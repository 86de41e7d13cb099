package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/console"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/machine"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

// served is a pool that a keyway serves.
type served struct {
	of   *running
	name string // empty: the configuration has no pools
	log  *slog.Logger
	srv  *server.Server
	next *trials

	cfg       atomic.Pointer[config.Config]
	observers atomic.Pointer[observers]
	prepared  atomic.Pointer[wiring.Preparation] // for a change of the layout; nil: nothing is prepared
	moving    moving
	later     chan *pool.Link    // a node's register is of a later epoch
	beside    context.Context    // ends when the server has ended
	stop      context.CancelFunc // ends the server, because the pool was removed; nil: it does not run
	keys      *guard.Guard       // looked at the nodes before the pool was served
	wishes    reshard.Wishes
	reversing sync.Mutex         // locked while an operator takes a change of the layout back
	events    *overview.Recorder // that of the process, if the configuration has no pools
	sampler   *overview.Sampler
	page      *page.Page
}

// observers look at the nodes while keyway serves.
type observers struct {
	survey *topology.Survey
	slots  *topology.Migrations
	keys   *guard.Guard
	zones  *topology.Zones // nil: zones do not matter
	stop   context.CancelFunc
}

// newServed asks the nodes of a pool whether it may be served, and opens its listeners. It serves
// once start is called.
func (r *running) newServed(ctx context.Context, cfg *config.Config) (*served, error) {
	p := &served{of: r, name: cfg.Pool(), log: r.log, later: make(chan *pool.Link, 1), events: r.events}
	if p.name != "" {
		p.events = new(overview.Recorder)
		p.log = slog.New(p.events.Handler(slog.New(r.out.handler).With("pool", p.name).Handler()))
	}
	cfg, err := wiring.InForce(ctx, cfg, nil, p.log)
	if err != nil {
		return nil, err
	}
	wiring.LogInForce(cfg, p.log)
	if p.keys, err = wiring.Admit(ctx, cfg, p.log, p.countKeyways); err != nil {
		return nil, err
	}
	asked := p.console()
	p.srv, err = wiring.NewServer(cfg, server.Options{
		Console: func(q proxy.Question) []byte { return asked.Answer(console.Question(q)) },
		Log:     p.log, Version: r.version, LaterEpoch: p.onLaterEpoch, UsersFile: usersFile{p}, Host: r.host,
		Audit: r.audit.withPool(p.name), Follow: r.follow.taker(p.name),
		Passed: r.passed, Inherited: r.before.inherited(p.name),
	})
	if err != nil {
		return nil, err
	}
	p.next = &trials{srv: p.srv, log: p.log}
	p.cfg.Store(cfg)
	p.sampler = p.newSampler()
	p.page = p.newPage()
	return p, nil
}

// countKeyways says how many keyways serve the pool's nodes. Before the pool has a server, nobody needs that.
func (p *served) countKeyways(n int) {
	if p.srv != nil {
		server.SetKeyways(p.srv, n)
	}
}

// start serves the pool until r.ctx ends or the pool is removed.
func (p *served) start() {
	cfg, r := p.cfg.Load(), p.of
	p.logCertificates(cfg)
	p.logOpenUser(cfg)
	beside, stopBeside := context.WithCancel(r.beside)
	p.beside = beside
	p.observe(cfg, p.keys)
	p.surveyLocks(cfg)
	p.logAddresses(cfg)
	r.watchers.Go(func() {
		p.tryNext()
		p.obeyLater(beside)
	})
	r.watchers.Go(func() { p.sampler.Run(beside) })
	r.watchers.Go(func() { p.takePart(beside) })
	r.watchers.Go(func() { p.moveKeys(beside) })
	r.watchers.Go(func() { p.followWishes(beside) })
	ctx, stop := context.WithCancel(r.ctx)
	p.stop = stop
	r.serving.Go(func() error {
		defer stopBeside()
		err := p.srv.Run(ctx)
		if err != nil {
			r.stop() // all pools
		}
		return err
	})
}

// observe replaces the observers by those of the configuration.
func (p *served) observe(cfg *config.Config, keys *guard.Guard) {
	ctx, stop := context.WithCancel(p.beside)
	o := &observers{
		survey: wiring.NewSurvey(cfg, p.log, p.srv), slots: wiring.NewMigrations(cfg, p.srv.Table), keys: keys,
		zones: wiring.NewZones(cfg, p.log, p.srv), stop: stop,
	}
	if o.zones != nil {
		p.of.watchers.Go(func() { o.zones.Run(ctx) })
	}
	p.of.watchers.Go(func() { o.slots.Run(ctx) })
	p.of.watchers.Go(func() { o.survey.Run(ctx) })
	p.of.watchers.Go(func() { o.keys.Run(ctx, p.srv.Table) })
	if before := p.observers.Swap(o); before != nil {
		before.stop()
	}
}

// forAdmin returns the pool as the admin address shows it.
func (p *served) forAdmin() admin.Pool {
	return admin.Pool{Name: p.name, Backend: p.srv, Options: admin.Options{
		Surveyed: p.surveyed, Guarded: p.guarded,
		Who:         admin.Who{Users: func() *acl.Users { return server.LatestUsers(p.srv) }},
		Disagreeing: func() int { return p.observers.Load().keys.Disagreeing() },
		Page:        p.page,
		Views:       p.views(),
		Locks:       p.srv.Locks,
		LockFigures: p.srv.LockFigures,
		Keys: admin.Keys{
			HotKeys: func(ctx context.Context, by hotkeys.By, count int) ([]hotkeys.Row, error) {
				return server.HotKeys(ctx, p.srv, by, count)
			},
			BigKeys: func(ctx context.Context, count int) ([]bigkeys.Row, error) {
				return server.BigKeys(ctx, p.srv, count)
			},
		},
		Certificates: func() (files []admin.Certificate) {
			for _, f := range config.Certificates(p.cfg.Load()) {
				files = append(files, admin.Certificate{File: f.File, NotAfter: f.NotAfter})
			}
			return files
		},
		Passwords: func() (all []admin.Password) {
			for section, password := range wiring.Printed(p.cfg.Load()) {
				f := password.Figures()
				all = append(all, admin.Password{Key: section, Runs: f.Runs, Failures: f.Failures, Printed: f.Printed})
			}
			return all
		},
		InForce: func() (int64, bool) {
			cfg := p.cfg.Load()
			return cfg.Epoch(), cfg.Replaced() != nil
		},
		Switch:    func() admin.Switch { return p.moving.forAdmin(p.cfg.Load()) },
		ReadyAll:  func() bool { return p.cfg.Load().Ready == config.ReadyAll },
		Placement: p.placement,
		Next:      p.next,
		Acts:      admin.Acts{Kill: p.kill, PauseClients: p.pauseClients, Steering: steering{p, &p.reversing}},
		Route:     func(key []byte) router.Explanation { return p.srv.Table().ExplainKey(key) },
	}}
}

// kill closes a client for an operator.
func (p *served) kill(ctx context.Context, id uint64) (report string, err error) {
	line, err := server.Kill(ctx, p.srv, id)
	if err == nil {
		p.log.Info("client closed by an operator", "id", id)
		line = "closed " + line
	}
	return line, err
}

// placement returns where the pool looks for keys.
func (p *served) placement() admin.Placement {
	cfg := p.cfg.Load()
	return admin.Placement{
		Version: p.of.version, Instance: wiring.Instance(cfg), Hash: cfg.PlacementHash(), Config: cfg.PlacementText(),
	}
}

// surveyed returns the survey's findings as the admin address shows them.
func (p *served) surveyed() (all []admin.Surveyed) {
	for _, f := range p.observers.Load().survey.Findings() {
		all = append(all, admin.Surveyed{Name: f.Name, Addr: f.Addr, Unfit: f.Unfit})
	}
	return all
}

// guarded returns the guard's findings as the admin address shows them.
func (p *served) guarded() (all []admin.Guarded) {
	for _, s := range p.observers.Load().keys.Findings() {
		all = append(all, admin.Guarded{
			Name: s.Name, Addr: s.Addr, Sampled: s.Sampled, Elsewhere: s.Elsewhere, Ratio: s.Ratio(),
		})
	}
	return all
}

// logAddresses logs where the pool listens.
func (p *served) logAddresses(cfg *config.Config) {
	for _, a := range p.srv.Addrs() {
		p.log.Info("listening", "addr", a.String(),
			"layout", cfg.Layout, "threads", cfg.Threads.Count(machine.Available()), "version", p.of.version)
	}
	p.logProtected(cfg)
}

// logProtected warns if clients of other machines are refused because they need no password.
func (p *served) logProtected(cfg *config.Config) {
	if warning := wiring.Protected(cfg); warning != "" {
		p.log.Warn(warning)
	}
}

// addresses returns where the pool listens, for people.
func (p *served) addresses() string {
	addrs := p.srv.Addrs()
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// logCertificates warns of certificates that have expired or soon will.
func (p *served) logCertificates(cfg *config.Config) {
	for _, f := range config.Certificates(cfg) {
		if warning := f.Warning(time.Now()); warning != "" {
			p.log.Warn(warning, "file", f.File)
		}
	}
}

// trialOf returns the function that begins to try the layout that placement.next names.
func (p *served) trialOf(cfg *config.Config) (func(), error) {
	next, table, err := wiring.Next(cfg)
	return func() { p.next.setFile(next, table) }, err
}

// tryNext begins to try the layout that placement.next names. Without that, keyway serves all
// the same: the file may be gone because the layout is in force now.
func (p *served) tryNext() {
	trial, err := p.trialOf(p.cfg.Load())
	if err != nil {
		p.log.Error("cannot count what the next layout would refuse", "error", err)
		return
	}
	trial()
}

// use makes the pool's observers follow a configuration that the server has taken.
func (p *served) use(next *config.Config, changes []config.Change) {
	p.cfg.Store(next)
	p.logCertificates(next)
	p.logOpenUser(next)
	if slices.ContainsFunc(changes, concernsProtection) {
		p.logProtected(next)
	}
	if slices.ContainsFunc(changes, concernsObservers) {
		p.observe(next, wiring.NewGuard(next, p.log, p.countKeyways))
	}
	if slices.ContainsFunc(changes, concernsLockNodes) {
		p.surveyLocks(next)
	}
}

// surveyLocks logs what is wrong with the nodes of locks.quorum, while keyway serves.
func (p *served) surveyLocks(cfg *config.Config) {
	p.of.watchers.Go(func() { wiring.SurveyLocks(p.beside, cfg, p.srv.Table(), p.log) })
}

// concernsLockNodes reports whether the changed key says which nodes hold locks, or how keyway
// logs in to them.
func concernsLockNodes(c config.Change) bool {
	return strings.HasPrefix(c.Path, "locks.quorum") || strings.HasPrefix(c.Path, "backend")
}

// concernsProtection reports whether the changed key decides whom protected mode refuses.
func concernsProtection(c config.Change) bool {
	keys := []string{"listen", "users", "clients.password", "protected_mode"}
	return slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(c.Path, key) })
}

// concernsObservers reports whether the observers use the changed key.
func concernsObservers(c config.Change) bool {
	return c.Effect == config.IfNothingMoves ||
		slices.ContainsFunc([]string{"nodes", "slots", "backend", "placement", "replicas.zone"},
			func(section string) bool { return strings.HasPrefix(c.Path, section) })
}

// logOpenUser warns if there are users and the default user is open.
func (p *served) logOpenUser(cfg *config.Config) {
	if warning := wiring.OpenUser(cfg); warning != "" {
		p.log.Warn(warning)
	}
}
