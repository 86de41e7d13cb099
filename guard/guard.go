package guard

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

const (
	interval = time.Hour   // between looks at a node that could be judged, give or take a tenth
	maxRetry = time.Minute // between looks at a node that could not be judged

	// How many looks a node gets in a second from all keyways: at its keys, and when it could not be judged.
	// A look at keys takes some milliseconds of the node's time.
	looksPerSecond   = 0.3
	retriesPerSecond = 5

	// noteworthy is the change of a node's ratio that is logged. Samples differ by chance.
	noteworthy = 0.05
)

// Options configure a Guard.
type Options struct {
	Accounts topology.Accounts // those of the nodes
	Timeout  time.Duration     // for one answer of a node
	Off      bool              // look at no keys
	Refuse   bool              // Start refuses when clients would not find keys
	// Placement is the hash of all that decides where keys go, as in ConnectionName.
	Placement string
	Log       *slog.Logger // nil: no log
	// Counted, if not nil, gets the number of keyways that serve the nodes, this one included, whenever a
	// node has listed its clients.
	Counted func(keyways int)
	// Variants returns other ways to place keys, the likeliest first. It is called only to
	// explain a refusal.
	Variants func() []Variant
}

// Guard samples the nodes' keys, at start and every hour.
type Guard struct {
	o    Options
	look func(ctx context.Context, t *router.Table, ids []router.NodeID) []Sample

	peers *peers

	mu    sync.Mutex
	found map[string]*finding // by the node's name
}

// finding is what is known about a node.
type finding struct {
	last   Sample // the last that could be judged
	judged bool
	logged Sample    // the last that was logged
	failed int       // looks in a row that could not judge the node
	due    time.Time // of the next look
}

func (f *finding) dueAt() time.Time { return f.due }

// New returns a guard that has not looked at any node yet.
func New(o Options) *Guard {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{o: o, found: map[string]*finding{}}
	g.look = func(ctx context.Context, t *router.Table, ids []router.NodeID) []Sample {
		return Look(ctx, o.Accounts, o.Timeout, t, ids)
	}
	g.peers = newPeers(o)
	return g
}

// Start looks at all nodes of the table that own keys, and at their clients. It returns an
// error if clients would not find more than a hundredth of the keys of a node, or if other
// keyways serve a node by another placement. It does not judge nodes that cannot be asked.
func (g *Guard) Start(ctx context.Context, t *router.Table) error {
	if g.o.Off || t.Clustered() || t.IsMoving() { // keys are on their way
		return nil
	}
	var others []peer
	var asked sync.WaitGroup
	asked.Go(func() { others = g.peers.start(ctx, t) })
	samples := g.look(ctx, t, t.Owners())
	asked.Wait()
	for _, s := range samples {
		if s.Err != nil && ctx.Err() == nil {
			g.o.Log.Warn("cannot judge whether the node's keys lie where the layout says; keyway looks again",
				"node", s.Name, "addr", s.Addr, "error", s.Err)
		}
	}
	if g.o.Refuse && slices.ContainsFunc(samples, Sample.Hides) {
		var variants []Variant
		if g.o.Variants != nil {
			variants = g.o.Variants()
		}
		return &refusal{t.Name, samples, cause(t, samples, variants)}
	}
	if g.o.Refuse && len(others) > 0 {
		return &disagreement{g.o.Placement, others}
	}
	for _, s := range samples {
		g.record(s)
	}
	g.peers.logChanges(nil, others)
	return nil
}

// Run looks at the nodes of table() until ctx ends: at the keys of each once an hour, and
// more often at those that could not be asked, and at its clients once a minute. Many keyways look less often. If
// there is nothing to guard, Run only counts the keyways.
func (g *Guard) Run(ctx context.Context, table func() *router.Table) {
	if g.o.Off || table().Clustered() {
		g.peers.runCensus(ctx, table)
		return
	}
	var looking sync.WaitGroup
	looking.Go(func() { g.runKeys(ctx, table) })
	looking.Go(func() { g.peers.run(ctx, table) })
	looking.Wait()
}

// Disagreeing returns how many other keyways serve nodes by another placement.
func (g *Guard) Disagreeing() int { return len(g.peers.disagreeing()) }

// Keyways returns the keyways that the nodes have listed at the last look, this one included.
func (g *Guard) Keyways() []Keyway { return g.peers.keyways() }

func (g *Guard) runKeys(ctx context.Context, table func() *router.Table) {
	everyTick(ctx, func() {
		t := table()
		if t.IsMoving() {
			return
		}
		for _, s := range g.look(ctx, t, g.due(t)) {
			g.record(s)
		}
	})
}

// Findings returns the last sample of each node that could be judged.
func (g *Guard) Findings() []Sample {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Sample
	for _, f := range g.found {
		if f.judged {
			all = append(all, f.last)
		}
	}
	slices.SortFunc(all, func(a, b Sample) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// due returns the nodes to look at now. It forgets those that the table lacks.
func (g *Guard) due(t *router.Table) []router.NodeID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return dueNodes(t, g.found)
}

// Look samples some nodes of the table, several at once. A node may take the time timeout,
// or half a second if that is longer, for each answer.
func Look(
	ctx context.Context, as topology.Accounts, timeout time.Duration, t *router.Table, ids []router.NodeID,
) []Sample {
	samples := make([]Sample, len(ids))
	forEach(ctx, len(ids), func(ctx context.Context, i int) {
		n := t.Nodes[ids[i]]
		if n.Addr == "" {
			samples[i] = Sample{Name: n.Name, Err: topology.ErrNoAddress}
			return
		}
		client := topology.NewClient(n.Addr, as(n), timeout)
		defer client.Close()
		samples[i] = take(ctx, client, t, ids[i])
	})
	return samples
}

// record keeps a sample, and logs it if it says something new.
func (g *Guard) record(s Sample) {
	s.keys = nil
	g.mu.Lock()
	f := g.found[s.Name]
	if f == nil {
		f = &finding{}
		g.found[s.Name] = f
	}
	if s.Err != nil {
		f.failed++
		least := min(tick<<min(f.failed, 10), maxRetry)
		f.due = time.Now().Add(control.Interval(least, g.peers.count(), retriesPerSecond))
		g.mu.Unlock()
		return
	}
	f.failed, f.last, f.judged = 0, s, true
	f.due = time.Now().Add(jittered(control.Interval(interval, g.peers.count(), looksPerSecond)))
	was := f.logged
	changed := level(s) != level(was) || math.Abs(s.Ratio()-was.Ratio()) >= noteworthy
	if changed {
		f.logged = s
	}
	g.mu.Unlock()
	if changed {
		g.log(s, was)
	}
}

// level is 0 if a node has no misplaced keys, 1 if it has few, and 2 if it has more than
// keyway tolerates at start.
func level(s Sample) int {
	switch {
	case s.Elsewhere == 0:
		return 0
	case s.Hides():
		return 2
	}
	return 1
}

func (g *Guard) log(s, was Sample) {
	if s.Elsewhere == 0 {
		g.o.Log.Info("the node's keys lie where the layout says again", "node", s.Name, "addr", s.Addr,
			"keys", s.Keys, "looked_at", s.Sampled)
		return
	}
	examples := make([]string, len(s.Examples))
	for i, e := range s.Examples {
		examples[i] = e.String()
	}
	g.o.Log.Warn("keys lie on another node than the layout says, so clients do not find them",
		"node", s.Name, "addr", s.Addr, "keys", s.Keys, "looked_at", s.Sampled, "misplaced", s.Elsewhere,
		"ratio", s.Ratio(), "ratio_before", was.Ratio(), "examples", strings.Join(examples, "; "))
}
