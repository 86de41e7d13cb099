package topology

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
)

const (
	// surveyInterval is the time between questions to nodes that did not answer, or cannot
	// serve.
	surveyInterval = 2 * time.Second

	// repeatInterval is the time between questions to all nodes, whose roles may change.
	repeatInterval = 10 * time.Second

	// How many questions a node gets in a second from all keyways: one that serves, and one that does not. Each
	// takes a connection and the whole INFO, a quarter of a millisecond of the node's time.
	surveysPerSecond = 10
	repairsPerSecond = 50
)

// Finding is what a Survey knows about a node.
type Finding struct {
	Name, Addr string
	Unfit      string // why it cannot serve its keys; empty if it can
	Version    string // of its software
	Memory     int64  // in use; 0: not known, since the node is not asked again
}

// Survey asks the nodes about themselves, and reports those that cannot serve their keys: a
// node in cluster mode behind a layout that needs standalone nodes, or a replica where a
// master is needed. It asks again, since a master may become a replica.
type Survey struct {
	as      Accounts
	timeout time.Duration
	log     *slog.Logger
	table   func() *router.Table
	keyways func() int

	mu    sync.Mutex
	found map[string]Finding // by name
}

// NewSurvey returns a survey of the nodes of table(). It asks nothing before Run is called.
// For timeout see Inspect. keyways returns how many keyways serve the nodes: many ask less often.
func NewSurvey(
	as Accounts, timeout time.Duration, log *slog.Logger, table func() *router.Table, keyways func() int,
) *Survey {
	return &Survey{as: as, timeout: timeout, log: log, table: table, keyways: keyways, found: map[string]Finding{}}
}

// Findings returns what the nodes have answered so far.
func (s *Survey) Findings() []Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Finding
	for _, f := range s.found {
		all = append(all, f)
	}
	return all
}

// Run asks nodes until ctx ends. It does not ask a cluster, whose nodes themselves answer
// with a redirect when a key belongs elsewhere.
func (s *Survey) Run(ctx context.Context) {
	if s.table().Clustered() {
		return
	}
	var last time.Time // when all nodes were asked
	for {
		all := time.Since(last) >= control.Interval(repeatInterval, s.keyways(), surveysPerSecond)
		if all {
			last = time.Now()
		}
		s.look(ctx, all)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(control.Interval(surveyInterval, s.keyways(), repairsPerSecond))):
		}
	}
}

// look asks the masters that are not known to be fit yet, or all of them. It leaves out
// masters that sentinels have chosen and that were fit: the sentinels report changes.
func (s *Survey) look(ctx context.Context, all bool) {
	t := s.table()
	var open []router.NodeID
	s.mu.Lock()
	for i, n := range t.Nodes {
		f, known := s.found[n.Name]
		if n.Master && n.Addr != "" && (!known || f.Unfit != "" || all && !n.Sentinel) {
			open = append(open, router.NodeID(i))
		}
	}
	s.mu.Unlock()
	for _, r := range inspect(ctx, s.as, s.timeout, t, open) {
		if r.Err == nil {
			s.record(t, r)
		} else {
			s.log.Debug("cannot ask a node about itself", "node", r.Name, "addr", r.Addr, "error", r.Err)
		}
	}
}

func (s *Survey) record(t *router.Table, r Report) {
	problem, remedy := r.Unfit(t)
	if slices.ContainsFunc(t.Nodes, func(n router.Node) bool { return n.Name == r.Name && n.Sentinel }) {
		r.Memory = 0
	}
	s.mu.Lock()
	before, known := s.found[r.Name]
	s.found[r.Name] = Finding{Name: r.Name, Addr: r.Addr, Unfit: problem, Version: r.Version, Memory: r.Memory}
	s.mu.Unlock()
	if known && before.Unfit == problem {
		return
	}
	switch {
	case problem != "":
		s.log.Error("a node cannot serve its keys",
			"node", r.Name, "addr", r.Addr, "problem", problem, "remedy", remedy)
	case known:
		s.log.Info("a node can serve its keys again",
			"node", r.Name, "addr", r.Addr, "problem_was", before.Unfit)
	}
	s.log.Debug("looked at a node", "node", r.Name, "addr", r.Addr, "role", r.Role, "mode", r.Mode,
		"version", r.Version, "maxmemory_policy", r.Policy)
}
