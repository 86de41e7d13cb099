package topology

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
)

const (
	// zonesInterval is the time between looks for nodes that are new, and zonesRepeat that between questions to one
	// node, whose zone may have been set meanwhile.
	zonesInterval = 2 * time.Second
	zonesRepeat   = time.Minute
)

// Zones learns from the nodes in which zone each is: Valkey says its availability-zone in INFO, and so do some
// services.
type Zones struct {
	o ZonesOptions

	mu    sync.Mutex
	found map[string]string    // by address; replaced, never changed
	next  map[string]time.Time // when a node is asked again, by address
}

// ZonesOptions are what Zones needs.
type ZonesOptions struct {
	Accounts Accounts
	Timeout  time.Duration // as of Inspect
	Log      *slog.Logger
	Table    func() *router.Table
	Keyways  func() int                    // that serve the nodes: many ask less often
	Known    func(addr string) string      // the zone that nobody has to ask for; empty: it is not known
	Learned  func(zones map[string]string) // gets all zones, by address, when they have changed
}

// NewZones returns Zones that ask nothing before Run is called.
func NewZones(o ZonesOptions) *Zones { return &Zones{o: o, next: map[string]time.Time{}} }

// Of returns the zone that the node at an address has said; empty: none.
func (z *Zones) Of(addr string) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.found[addr]
}

// Run asks nodes until ctx ends. What an earlier one has learned does not hold any more.
func (z *Zones) Run(ctx context.Context) {
	z.o.Learned(nil)
	for {
		z.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(zonesInterval)):
		}
	}
}

// look asks the nodes whose turn it is.
func (z *Zones) look(ctx context.Context) {
	t, now := z.o.Table(), time.Now()
	next, due := map[string]time.Time{}, []router.NodeID(nil)
	for i, n := range t.Nodes {
		if n.Addr == "" || z.o.Known(n.Addr) != "" {
			continue
		}
		if next[n.Addr] = z.next[n.Addr]; !now.Before(next[n.Addr]) {
			due = append(due, router.NodeID(i))
			next[n.Addr] = now.Add(control.Interval(zonesRepeat, z.o.Keyways(), surveysPerSecond))
		}
	}
	z.next = next
	found := maps.Clone(z.found)
	if found == nil {
		found = map[string]string{}
	}
	maps.DeleteFunc(found, func(addr, _ string) bool {
		_, isThere := next[addr]
		return !isThere
	})
	for _, r := range inspect(ctx, z.o.Accounts, z.o.Timeout, t, due) {
		switch {
		case r.Err != nil:
			z.o.Log.Debug("cannot ask a node for its zone", "node", r.Name, "addr", r.Addr, "error", r.Err)
		case r.Zone == "":
			delete(found, r.Addr)
		default:
			found[r.Addr] = r.Zone
		}
	}
	if maps.Equal(found, z.found) {
		return
	}
	z.mu.Lock()
	z.found = found
	z.mu.Unlock()
	z.o.Log.Debug("nodes have said their zones", "zones", found)
	z.o.Learned(found)
}
