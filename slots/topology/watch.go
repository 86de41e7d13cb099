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
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/keyway-proxy/keyway/slots"
)

const (
	interval = 10 * time.Second // between looks at a cluster without demand
	maxAsked = 5                // nodes put the question at once
	patience = 20               // views that are behind before one is believed
)

// Options configure a Watcher.
type Options struct {
	Seeds              []string
	Username, Password string
	Log                *slog.Logger
}

// Watcher follows a cluster's slot map.
type Watcher struct {
	follower[*slots.Map]
	o Options

	mu      sync.Mutex
	clients map[string]*redis.Client
	known   []string // addresses of the last map's nodes
	last    *view
	behind  int // views in a row that were behind last

	seen *slots.Map // of the last view, believed or not
}

// New returns a watcher; nothing is asked before Run or Fetch.
func New(o Options) *Watcher {
	// go-redis logs pool failures on its own to stderr; they come back as
	// errors here, where they are counted once.
	redis.SetLogger(quiet{})
	w := &Watcher{follower: newFollower[*slots.Map]("the cluster's topology", interval, o.Log), o: o, clients: map[string]*redis.Client{}}
	w.look = w.Fetch
	return w
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// Run calls publish with the map that each look at the cluster finds, until ctx
// ends. It returns ctx's error.
func (w *Watcher) Run(ctx context.Context, publish func(*slots.Map)) error {
	defer w.close()
	return w.run(ctx, publish)
}

// Fetch asks several nodes at once and returns the map that is best founded. A
// view that is worse than the last one believed never replaces it.
func (w *Watcher) Fetch(ctx context.Context) (*slots.Map, error) {
	asked := w.candidates()
	if len(asked) == 0 {
		return nil, errors.New("no node of the cluster is named")
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
		return nil, fmt.Errorf("no node tells the cluster's topology: %w", oneLine(failures))
	}
	return w.believe(best), nil
}

// candidates are a few known nodes, and a seed lest all known ones be stale.
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

// believe takes the view over unless it is behind what is known already.
func (w *Watcher) believe(v *view) *slots.Map {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil || v.epoch >= w.last.epoch {
		w.logUnowned(v.m)
	}
	if l := w.last; l != nil && (v.epoch < l.epoch || !v.ok && l.ok && v.m.Covered() < l.m.Covered()) {
		// A cluster that was made anew counts its epochs from the start: when
		// nothing else is to be seen for long, that is what there is.
		if w.behind++; !v.ok || w.behind < patience {
			return l.m
		}
	}
	w.last, w.behind = v, 0
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

// logUnowned logs which slots have lost their owner since the last view, and which
// have one again. A map that lacks slots of a failing cluster is not believed, so
// nothing else would tell of them.
func (w *Watcher) logUnowned(m *slots.Map) {
	if w.seen != nil {
		for _, c := range m.Changes(w.seen) {
			switch {
			case len(c.Slots) == 0:
			case c.To == "":
				w.log.Warn("slots have lost their owner", "node", c.From, "slots", c.Text(), "count", c.Count())
			case c.From == "":
				w.log.Info("slots have an owner again", "node", c.To, "slots", c.Text(), "count", c.Count())
			}
		}
	}
	w.seen = m
}

// ask puts the question to one node: CLUSTER SHARDS, or SLOTS before Redis 7.
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
		v.m, err = fromShards(shards, addr)
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

// client returns the control connection to a node.
func (w *Watcher) client(addr string) *redis.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clients[addr]
	if c == nil {
		c = redis.NewClient(control(addr, w.o.Username, w.o.Password))
		w.clients[addr] = c
	}
	return c
}

// control are the settings of a plain client that never acts on its own.
func control(addr, username, password string) *redis.Options {
	return &redis.Options{
		Addr: addr, Username: username, Password: password,
		Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, PoolSize: 2, MinIdleConns: 0,
		DialTimeout: askTimeout, DialerRetries: 1, ReadTimeout: askTimeout, WriteTimeout: askTimeout,
		ContextTimeoutEnabled: true,
		ReadBufferSize:        4 << 10, WriteBufferSize: 4 << 10,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (w *Watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, c := range w.clients {
		c.Close()
		delete(w.clients, addr)
	}
}
