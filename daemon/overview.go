package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/machine"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slowlog"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

// newSampler returns the sampler of a pool whose server exists.
func (p *served) newSampler() *overview.Sampler {
	return overview.NewSampler(overview.Options{
		Source: p.srv, Table: p.srv.Table, About: p.about, Events: p.newestEvents,
		Memory: func() int64 { return machine.Resident(os.DirFS("/")) }, Losses: p.of.losses,
	})
}

// views returns what operators look at.
func (p *served) views() admin.Views {
	return admin.Views{
		Overview: p.sampler.State, Events: p.newestEvents,
		Layout: func() *admin.Layout {
			l := admin.LayoutOf(p.srv.Table(), p.cfg.Load().Epoch())
			l.Migrating = append(l.Migrating, p.migrating()...)
			return l
		},
		Clients: func(ctx context.Context, q clients.Query) ([]clients.Row, int, error) {
			return server.ClientRows(ctx, p.srv, q)
		},
		SlowLog: func(ctx context.Context, count int) ([]slowlog.Row, error) {
			return server.SlowLog(ctx, p.srv, count)
		},
		Subscriptions: func(ctx context.Context, count int) (clients.Topics, error) {
			return server.Subscriptions(ctx, p.srv, count)
		},
	}
}

// migrating returns the slots that the cluster moves.
func (p *served) migrating() []topology.Migration {
	if of := p.observers.Load(); of != nil {
		return of.slots.Slots()
	}
	return nil // it has not begun to serve
}

// newestEvents returns the last events of the pool and of the process, the newest first.
func (p *served) newestEvents(count int) []overview.Event {
	if p.events == p.of.events {
		return overview.Newest(count, p.events)
	}
	return overview.Newest(count, p.events, p.of.events)
}

// about returns what the counters do not say of the pool.
func (p *served) about() overview.About {
	cfg := p.cfg.Load()
	a := overview.About{
		Pool: p.name, Version: p.of.version, Instance: wiring.Instance(cfg), Epoch: cfg.Epoch(),
		Started: p.srv.Started(), MemoryLimit: p.srv.MemoryLimit(), Problems: p.problems(cfg),
		Switch: p.change(cfg),
	}
	for _, addr := range p.srv.Addrs() {
		a.Listen = append(a.Listen, addr.String())
	}
	self := overview.Keyway{Instance: a.Instance, Version: a.Version, Self: true, Agrees: true}
	a.Keyways = []overview.Keyway{self}
	of := p.observers.Load()
	a.Zone = func(addr string) string { return zoneOf(cfg, of, addr) }
	if of != nil {
		a.Keyways = append(a.Keyways, othersOf(self.Instance, of.keys.Keyways(), cfg.PlacementHash())...)
		a.Nodes = map[string]overview.Known{}
		for _, f := range of.survey.Findings() {
			a.Nodes[f.Name] = overview.Known{Version: f.Version, Memory: f.Memory}
		}
	}
	return a
}

// zoneOf returns the zone of the node at an address: that of the configuration or, if zones matter, what the node
// says.
func zoneOf(cfg *config.Config, of *observers, addr string) string {
	zone := cfg.Replicas.ZoneOf(addr)
	if zone == "" && of != nil && of.zones != nil {
		return of.zones.Of(addr)
	}
	return zone
}

// othersOf returns the keyways, among those that nodes list, that are not called self. placement is the own one.
func othersOf(self string, listed []guard.Keyway, placement string) (others []overview.Keyway) {
	for _, k := range listed {
		if k.Instance != self {
			others = append(others, overview.Keyway{
				Instance: k.Instance, Host: k.Host, Agrees: k.Placement == placement,
			})
		}
	}
	return others
}

// change returns the change of the layout that is under way or planned, nil if there is none.
func (p *served) change(cfg *config.Config) *overview.Switch {
	s := p.moving.forAdmin(cfg)
	if of := underWay(s, cfg); of != nil {
		return of
	}
	ready := p.prepared.Load()
	if ready == nil || ready.Old != cfg || s.State == idle {
		return nil
	}
	return &overview.Switch{
		Epoch: ready.Next.Epoch(), From: cfg.Layout, To: ready.Next.Layout, State: s.State, IsPlanned: true,
	}
}

// underWay returns the change of the layout that is under way, nil if there is none.
func underWay(s admin.Switch, cfg *config.Config) *overview.Switch {
	older := config.Older(cfg)
	if s.Epoch == 0 || older == nil {
		return nil
	}
	of := &overview.Switch{
		Epoch: s.Epoch, From: string(older.Layout), To: string(cfg.Layout), State: s.State,
		Moves: s.Moves, Moved: s.Moved, Conflicts: s.Conflicts, Waits: s.Waits,
		Paused: s.Paused, Pace: s.Pace, PaceBy: s.PaceBy,
	}
	if s.Left >= 0 {
		of.Left = &s.Left
	}
	if s.Rate >= 0 {
		of.Rate = &s.Rate
	}
	return of
}

// problems returns what those who look at the nodes have found, and what is wrong with files.
func (p *served) problems(cfg *config.Config) (all []overview.Problem) {
	add := func(severity, node, help, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		all = append(all, overview.Problem{Severity: severity, Node: node, Text: text, Help: help})
	}
	of := p.observers.Load()
	if of == nil {
		return nil // it has not begun to serve
	}
	for _, f := range of.survey.Findings() {
		if f.Unfit != "" {
			add(overview.Bad, f.Name, "the log has the remedy", "node %s %s %s", f.Name, f.Addr, f.Unfit)
		}
	}
	for _, s := range of.keys.Findings() {
		if s.Elsewhere > 0 {
			add(overview.Bad, s.Name, "has the layout, a hash, a name or a weight changed? keyway verify says more",
				"%.1f %% of the keys of node %s lie on another node than the layout says, so clients do not find them",
				100*s.Ratio(), s.Name)
		}
	}
	if n := of.keys.Disagreeing(); n > 0 {
		add(overview.Bad, "", "give all keyways the same configuration; the log names the others",
			"%d other keyways look for keys on other nodes than this one", n)
	}
	if hasWrongFile(cfg) {
		add(overview.Warn, "", "write that layout into the file, or change the layout: keyway switch -c FILE",
			"keyway serves by another layout than that of its file")
	}
	for _, f := range config.Certificates(cfg) {
		if warning := f.Warning(time.Now()); warning != "" {
			add(overview.Warn, "", "replace the file", "%s: %s", f.File, warning)
		}
	}
	return all
}

// hasWrongFile reports whether keyway serves by another layout than that of its file. While the layout changes, the
// file may still have the old one: keyway status says when to write the new one.
func hasWrongFile(cfg *config.Config) bool {
	file, older := cfg.Replaced(), config.Older(cfg)
	return file != nil && (older == nil || older.PlacementHash() != file.PlacementHash())
}

// losses returns what all pools share and lose.
func (r *running) losses() []overview.Loss {
	loss := func(count uint64, text, help string) overview.Loss {
		return overview.Loss{Count: count, Problem: overview.Problem{Severity: overview.Warn, Text: text, Help: help}}
	}
	traces, lines := &r.follow.counts, &r.follow.lines.Counts
	return []overview.Loss{
		loss(r.out.lines.Dropped(), "log lines are dropped", "what reads keyway's log must be faster"),
		loss(r.audit.lines.Dropped(), "what operators do cannot be written to audit.file", "keyway's log says why"),
		loss(lines.Failed.Load(), "the access log cannot be written", "keyway's log says why"),
		loss(lines.Dropped.Load(), "lines of the access log are dropped",
			"write it to a faster disk, or let it have fewer commands: access_log.one_in"),
		loss(traces.Failed.Load(), "traces cannot be sent", "see whether the collector at traces.endpoint runs; "+
			"keyway's log says more"),
		loss(traces.Dropped.Load(), "traces are dropped",
			"see whether the collector at traces.endpoint is fast enough, or record fewer commands: traces.one_in"),
	}
}
