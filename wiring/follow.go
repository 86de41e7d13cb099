package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/topology"
)

// follower makes routing tables out of what servers say.
type follower interface {
	server.Follower
	// fetch asks once, instead of Run. Errors are *config.Error.
	fetch(ctx context.Context) (*router.Table, error)
}

// follow returns the follower of the configured cluster or sentinels, nil if the
// configuration says everything.
func follow(c *config.Config, log *slog.Logger) follower {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.Clustered() {
		o := topology.Options{Seeds: c.Slots.Seeds, Account: nodeAccount(c, -1), Log: log}
		return &cluster{Watcher: topology.New(o), c: c, log: log}
	}
	f := &sentinels{c: c, log: log, of: map[int]*topology.Sentinel{}, shards: make([]topology.Shard, len(c.Nodes))}
	shared := new(topology.Sentinels)
	for i, n := range c.Nodes {
		if s := n.Sentinel; s != nil {
			f.of[i] = topology.NewSentinel(topology.SentinelOptions{
				Master: s.Master, Addrs: s.Addrs, Log: log, Masters: behindSentinels(c),
				Account: sentinelAccount(c, i), Shared: shared,
			})
		}
	}
	if len(f.of) == 0 {
		return nil
	}
	return f
}

// behindSentinels returns how many masters sentinels monitor.
func behindSentinels(c *config.Config) (n int) {
	for _, of := range c.Nodes {
		if of.Sentinel != nil {
			n++
		}
	}
	return n
}

// sentinelKey returns the key of a node's sentinels in the configuration.
func sentinelKey(node int) string { return fmt.Sprintf("nodes[%d].sentinel", node) }

// cluster follows the slots of a cluster.
type cluster struct {
	*topology.Watcher
	c    *config.Config
	log  *slog.Logger
	last *slots.Map
}

// Run implements server.Follower.
func (f *cluster) Run(ctx context.Context, publish func(*router.Table)) error {
	return f.Watcher.Run(ctx, func(m *slots.Map) {
		if !m.Same(f.last) {
			logChanges(f.log, f.last, m)
		}
		f.last = m
		publish(router.NewSlots(m))
	})
}

func (f *cluster) fetch(ctx context.Context) (*router.Table, error) {
	defer f.Close()
	m, err := f.Fetch(ctx)
	if err != nil {
		_, remedy := topology.Explain(err, nodeAccount(f.c, -1))
		return nil, f.c.Errorf("slots.seeds", remedy+"; keyway check --offline asks no node", "%v", err)
	}
	return router.NewSlots(m), nil
}

// maxChanges is the maximum number of changes that are logged for a new map.
const maxChanges = 20

// logChanges logs the cluster's new map and its differences from the one before.
func logChanges(log *slog.Logger, before, m *slots.Map) {
	masters := 0
	for _, n := range m.Nodes() {
		if n.Master {
			masters++
		}
	}
	log.Info("topology", "nodes", len(m.Nodes()), "masters", masters, "slots_covered", m.Covered())
	if before == nil {
		return
	}
	changes := m.Changes(before)
	for i, c := range changes {
		switch {
		case i == maxChanges:
			log.Info("topology changed", "more_changes", len(changes)-maxChanges)
			return
		case len(c.Slots) > 0:
			log.Info("topology changed", "what", c.What, "from", c.From, "to", c.To,
				"slots", c.Text(), "count", c.Count())
		case c.To != "":
			log.Info("topology changed", "what", c.What, "node", c.Node, "of", c.To)
		default:
			log.Info("topology changed", "what", c.What, "node", c.Node)
		}
	}
}

// sentinels follows every master that sentinels monitor.
type sentinels struct {
	c   *config.Config
	log *slog.Logger
	of  map[int]*topology.Sentinel // by the index in c.Nodes

	mu     sync.Mutex
	shards []topology.Shard // the last reports, by the index in c.Nodes
}

// assume treats the masters and replicas of a table as the sentinels' last reports. Call it
// before Run.
func (f *sentinels) assume(t *router.Table) {
	for i, n := range f.c.Nodes {
		at := slices.IndexFunc(t.Nodes, func(of router.Node) bool { return of.Name == n.Name })
		if f.of[i] == nil || at < 0 {
			continue
		}
		f.shards[i].Master = t.Nodes[at].Addr
		for _, id := range t.Nodes[at].Replicas {
			f.shards[i].Replicas = append(f.shards[i].Replicas, t.Nodes[id].Addr)
		}
	}
}

// Run implements server.Follower.
func (f *sentinels) Run(ctx context.Context, publish func(*router.Table)) error {
	var g errgroup.Group
	for i, s := range f.of {
		g.Go(func() error {
			return s.Run(ctx, func(to topology.Shard) { f.update(i, to, publish) })
		})
	}
	return g.Wait()
}

// Refresh implements server.Follower.
func (f *sentinels) Refresh(done func()) {
	if done != nil {
		var left atomic.Int64
		left.Store(int64(len(f.of)))
		all := done
		done = func() {
			if left.Add(-1) == 0 {
				all()
			}
		}
	}
	for _, s := range f.of {
		s.Refresh(done)
	}
}

// SetKeyways implements server.Follower.
func (f *sentinels) SetKeyways(n int) {
	for _, s := range f.of {
		s.SetKeyways(n)
	}
}

// update publishes a table with the master and replicas that the sentinels report for a
// node. It publishes nothing if they have not changed.
func (f *sentinels) update(node int, to topology.Shard, publish func(*router.Table)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := f.shards[node]
	if to.Same(from) {
		return
	}
	f.shards[node] = to
	t, err := table(f.c, f.shards)
	if err != nil { // not expected: the configuration was valid with other addresses
		f.log.Error("cannot follow the sentinels", "node", f.c.Nodes[node].Name, "error", err)
		return
	}
	logShard(f.log, f.c.Nodes[node].Name, from, to)
	publish(t)
}

// logShard logs what the sentinels report about a node, and the differences from their last
// report.
func logShard(log *slog.Logger, node string, from, to topology.Shard) {
	if from.Master == "" {
		log.Info("topology", "node", node, "master", to.Master, "replicas", len(to.Replicas))
		return
	}
	if to.Master != from.Master {
		log.Info("topology changed", "what", "node has another master", "node", node,
			"from", from.Master, "to", to.Master)
	}
	for _, addr := range to.Replicas {
		if !slices.Contains(from.Replicas, addr) {
			log.Info("topology changed", "what", "replica joined", "node", node, "addr", addr)
		}
	}
	for _, addr := range from.Replicas {
		if addr != to.Master && !slices.Contains(to.Replicas, addr) {
			log.Info("topology changed", "what", "replica left", "node", node, "addr", addr)
		}
	}
}

func (f *sentinels) fetch(ctx context.Context) (*router.Table, error) {
	for _, s := range f.of {
		defer s.Close()
	}
	for i := range f.c.Nodes {
		s := f.of[i]
		if s == nil {
			continue
		}
		var err error
		if f.shards[i], err = s.Fetch(ctx); err != nil {
			_, remedy := topology.Explain(err, sentinelAccount(f.c, i))
			return nil, f.c.Errorf(sentinelKey(i), remedy, "%v", err)
		}
	}
	return table(f.c, f.shards)
}
