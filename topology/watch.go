package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

const (
	interval = 10 * time.Second // between looks at a cluster without demand
	maxAsked = 5                // nodes asked at once
	maxStale = 20               // older views, or reports, in a row before one is believed
)

// Options configure a Watcher.
type Options struct {
	Seeds   []string
	Account control.Account // for the nodes
	Log     *slog.Logger
}

// Watcher follows a cluster's slot map.
type Watcher struct {
	follower[*slots.Map]
	o Options

	mu      sync.Mutex
	clients map[string]*redis.Client
	known   []string // addresses of the last map's nodes
	last    *view
	stale   int // views in a row that were older than last

	seen *slots.Map // of the last view, whether believed or not
}

// New returns a watcher. It asks nothing before Run or Fetch is called. Close, or the end
// of Run, closes its connections.
func New(o Options) *Watcher {
	w := &Watcher{
		follower: newFollower[*slots.Map]("the cluster", o.Account, interval, o.Log),
		o:        o, clients: map[string]*redis.Client{},
	}
	w.look, w.share = w.Fetch, w.shareAsked
	return w
}

// go-redis logs connection failures to stderr. It also returns them as errors, which the
// followers log once.
func init() { redis.SetLogger(quiet{}) }

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// Run calls publish with the map of each look until ctx ends. It returns ctx's error.
func (w *Watcher) Run(ctx context.Context, publish func(*slots.Map)) error {
	defer w.Close()
	return w.run(ctx, publish)
}

// Fetch asks several nodes at once and returns the most credible map. A view that is worse
// than the last believed one does not replace it.
func (w *Watcher) Fetch(ctx context.Context) (*slots.Map, error) {
	asked := w.candidates()
	if len(asked) == 0 {
		return nil, errors.New("no node of the cluster is configured")
	}
	views := make(chan *view, len(asked))
	errs := make(chan error, len(asked))
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, addr := range asked {
		go func() {
			v, err := w.ask(ctx, addr)
			if err != nil {
				errs <- fmt.Errorf("%s: %w", addr, err)
				return
			}
			views <- v
		}()
	}
	var best *view
	var failures []error
	for range asked {
		select {
		case v := <-views:
			if v.better(best) {
				best = v
			}
		case err := <-errs:
			failures = append(failures, err)
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no node reports the cluster's topology: %w", oneLine(failures))
	}
	return w.believe(best), nil
}

// shareAsked returns the share of the nodes that a look asks.
func (w *Watcher) shareAsked() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(1, maxAsked/float64(max(len(w.known), 1)))
}

// candidates returns a few known nodes, and a seed in case all known nodes are gone.
func (w *Watcher) candidates() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := slices.Clone(w.known)
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	if len(known) > maxAsked-1 {
		known = known[:maxAsked-1]
	}
	seeds := slices.Clone(w.o.Seeds)
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	for _, s := range seeds {
		if len(known) >= maxAsked {
			break
		}
		if !slices.Contains(known, s) {
			known = append(known, s)
		}
	}
	return known
}

// believe accepts the view, unless it is worse than the last one.
func (w *Watcher) believe(v *view) *slots.Map {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil || v.epoch >= w.last.epoch {
		w.logUnowned(v.m)
	}
	if l := w.last; l != nil && (v.epoch < l.epoch || !v.ok && l.ok && v.m.Covered() < l.m.Covered()) {
		// A cluster that was created anew counts epochs from the start. Believe it after
		// many such views in a row.
		if w.stale++; !v.ok || w.stale < maxStale {
			return l.m
		}
	}
	w.last, w.stale = v, 0
	w.known = w.known[:0]
	keep := map[string]bool{}
	for _, n := range v.m.Nodes() {
		w.known = append(w.known, n.Addr)
		keep[n.Addr] = true
	}
	for _, s := range w.o.Seeds {
		keep[s] = true
	}
	for addr, c := range w.clients {
		if !keep[addr] {
			c.Close()
			delete(w.clients, addr)
		}
	}
	return v.m
}

// logUnowned logs the slots that have lost their owner since the last view, and those that
// have an owner again. A failing cluster's map without these slots is not believed, so
// nothing else would log them.
func (w *Watcher) logUnowned(m *slots.Map) {
	if w.seen != nil {
		for _, c := range m.Changes(w.seen) {
			switch {
			case len(c.Slots) == 0:
			case c.To == "":
				w.log.Warn("slots have lost their owner", "last_owner", c.From, "slots", c.Text(), "count", c.Count())
			case c.From == "":
				w.log.Info("slots have an owner again", "node", c.To, "slots", c.Text(), "count", c.Count())
			}
		}
	}
	w.seen = m
}

// ask asks one node for CLUSTER SHARDS, or for CLUSTER SLOTS before Redis 7.
func (w *Watcher) ask(ctx context.Context, addr string) (*view, error) {
	c := w.client(addr)
	info, err := c.ClusterInfo(ctx).Result()
	if err != nil {
		return nil, err
	}
	v := &view{from: addr, ok: strings.Contains(info, "cluster_state:ok")}
	for line := range strings.Lines(info) {
		if n, ok := strings.CutPrefix(line, "cluster_current_epoch:"); ok {
			fmt.Sscan(n, &v.epoch)
		}
	}
	shards, err := c.ClusterShards(ctx).Result()
	var unknown redis.Error
	switch {
	case err == nil:
		v.m, err = fromShards(shards, addr, w.o.Account.TLS != nil)
	case errors.As(err, &unknown):
		var list []redis.ClusterSlot
		//lint:ignore SA1019 Redis before 7 has nothing else.
		if list, err = c.ClusterSlots(ctx).Result(); err == nil {
			v.m, err = fromSlots(list, addr)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(v.m.Nodes()) == 0 {
		return nil, errors.New("the node knows no cluster")
	}
	return v, nil
}

// client returns the client of a node.
func (w *Watcher) client(addr string) *redis.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clients[addr]
	if c == nil {
		c = control.NewClient(asking(addr, w.o.Account, askTimeout))
		w.clients[addr] = c
	}
	return c
}

// Accounts returns the account for a node of a table. It may be called from any goroutine.
type Accounts func(n router.Node) control.Account

// NewClient returns a client that asks one server. It sends no command twice.
// The server may take the time timeout, or half a second if that is longer, for each answer.
func NewClient(addr string, as control.Account, timeout time.Duration) *redis.Client {
	return control.NewClient(asking(addr, as, max(timeout, askTimeout)))
}

// asking returns the options of a client that asks short questions.
func asking(addr string, as control.Account, timeout time.Duration) control.Options {
	return control.Options{
		Addr: addr, Account: as, Dial: timeout, Reply: timeout, Buffer: 4 << 10,
	}
}

// Close closes the connections to the cluster.
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, c := range w.clients {
		c.Close()
		delete(w.clients, addr)
	}
}
