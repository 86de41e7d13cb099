package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

const (
	sampleSize     = 200             // keys that are drawn from each node
	surveyInterval = 2 * time.Second // between questions to nodes that did not answer, or cannot serve
	surveyTimeout  = 5 * time.Second
)

// survey asks each node once it can be reached, and warns about what clients would not
// notice: a node in cluster mode behind a layout that needs standalone nodes, and keys on
// another node than the layout says. Keys lie elsewhere after the layout, a hash, a name
// or a weight was changed.
type survey struct {
	cfg   *config.Config
	log   *slog.Logger
	table func() *router.Table

	mu    sync.Mutex
	found map[string]admin.Surveyed // by name
}

func newSurvey(cfg *config.Config, log *slog.Logger, table func() *router.Table) *survey {
	return &survey{cfg: cfg, log: log, table: table, found: map[string]admin.Surveyed{}}
}

// nodes returns the findings so far.
func (s *survey) nodes() []admin.Surveyed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []admin.Surveyed
	for _, f := range s.found {
		all = append(all, f)
	}
	return all
}

// run asks nodes until ctx ends. It does not ask a cluster, whose nodes themselves answer
// with a redirect when a key belongs elsewhere.
func (s *survey) run(ctx context.Context) {
	if s.cfg.Clustered() {
		return
	}
	ticker := time.NewTicker(surveyInterval)
	defer ticker.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look asks the masters that are not known to be fit yet.
func (s *survey) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	t := s.table()
	var open []router.NodeID
	s.mu.Lock()
	for i, n := range t.Nodes {
		if f, ok := s.found[n.Name]; n.Master && n.Addr != "" && (!ok || f.Unfit != "") {
			open = append(open, router.NodeID(i))
		}
	}
	s.mu.Unlock()
	for _, r := range topology.Inspect(ctx, s.cfg, t, open, sampleSize) {
		if r.Err == nil {
			s.record(t, r)
		} else {
			s.log.Debug("cannot ask a node about itself", "node", r.Name, "addr", r.Addr, "error", r.Err)
		}
	}
}

func (s *survey) record(t *router.Table, r topology.Report) {
	problem, remedy := r.Unfit(t)
	s.mu.Lock()
	before, known := s.found[r.Name]
	s.found[r.Name] = admin.Surveyed{
		Name: r.Name, Addr: r.Addr, Unfit: problem, Sampled: r.Sampled, Elsewhere: r.Elsewhere,
	}
	s.mu.Unlock()
	if known && before.Unfit == problem {
		return
	}
	if problem != "" {
		s.log.Error("a node cannot serve its keys",
			"node", r.Name, "addr", r.Addr, "problem", problem, "remedy", remedy)
	}
	if r.Elsewhere > 0 {
		s.log.Warn("keys lie on another node than the layout says, so clients do not find them; "+
			"the layout, a hash, a name or a weight has changed since they were written",
			"node", r.Name, "addr", r.Addr, "sampled", r.Sampled, "elsewhere", r.Elsewhere,
			"example", r.Example, "belongs_to", r.Belongs)
	}
	s.log.Debug("looked at a node", "node", r.Name, "addr", r.Addr, "role", r.Role, "mode", r.Mode,
		"version", r.Version, "maxmemory_policy", r.Policy, "sampled", r.Sampled, "elsewhere", r.Elsewhere)
}
