package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/slots"
)

// reports are what the loops log. The log must not block (see admin.LogQueue), and
// nothing is logged, or waited for, with the mutex held.
type reports struct {
	log   *slog.Logger
	debug bool

	mu     sync.Mutex
	down   map[string]bool // names and addresses of nodes that were reported down
	limits map[string]*limit
}

func newReports(log *slog.Logger) *reports {
	return &reports{
		log: log, debug: log.Enabled(context.Background(), slog.LevelDebug),
		down: map[string]bool{}, limits: map[string]*limit{},
	}
}

// dialing logs that a connection to a node is begun.
func (r *reports) dialing(c *pool.Conn) {
	if r.debug && c.Addr != "" {
		r.log.Debug("connecting to a node", "node", proxy.NodeName(c), "addr", c.Addr)
	}
}

// lost logs, once for each time, that a node cannot be reached; found logs that
// it can be again.
func (r *reports) lost(c *pool.Conn) {
	if c.Addr == "" {
		return // the sentinels' follower logs what is wrong
	}
	name := proxy.NodeName(c)
	if r.debug {
		r.log.Debug("connection to a node ended", "node", name, "addr", c.Addr, "state", c.State(), "reason", c.Reason())
	}
	if c.State() == pool.Closed || c.Refusing() == "" {
		return // it has ended well, or will be made again at once
	}
	if r.setDown(name+" "+c.Addr, true) {
		r.log.Warn("node unreachable", "node", name, "addr", c.Addr, "reason", c.Reason())
	}
}

func (r *reports) found(c *pool.Conn) {
	name := proxy.NodeName(c)
	if r.debug {
		r.log.Debug("connected to a node", "node", name, "addr", c.Addr, "db", c.DB, "resp3", c.RESP3)
	}
	if r.setDown(name+" "+c.Addr, false) {
		r.log.Info("node reachable again", "node", name, "addr", c.Addr)
	}
}

// setDown returns whether that is news.
func (r *reports) setDown(node string, down bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down[node] == down {
		return false
	}
	if down {
		r.down[node] = true
	} else {
		delete(r.down, node)
	}
	return true
}

// limit lets a line a second through: what a peer can cause must not flood the log.
type limit struct {
	next    time.Time
	dropped int
}

// allow reports whether a line of that kind can be logged now, and how many like it
// were not since the last one.
func (r *reports) allow(kind string) (ok bool, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limits[kind]
	if l == nil {
		l = new(limit)
		r.limits[kind] = l
	}
	now := time.Now()
	if now.Before(l.next) {
		l.dropped++
		return false, 0
	}
	dropped = l.dropped
	*l = limit{next: now.Add(time.Second)}
	return true, dropped
}

func (r *reports) note(text string) {
	if ok, dropped := r.allow("note"); ok {
		r.log.Warn(text, "others_like_it", dropped)
	}
}

// refused logs that a client was refused or closed. Each reason has its own limit.
func (r *reports) refused(of proxy.Refusal) {
	if r.debug {
		r.log.Debug("client refused", "reason", of.Reason, "client", of.Client)
		return
	}
	if ok, dropped := r.allow(of.Reason); ok {
		r.log.Warn("client refused", "reason", of.Reason, "client", of.Client, "others_like_it", dropped)
	}
}

// maxChanges is how many lines a new topology may take.
const maxChanges = 20

// topology logs the cluster's new map, and what has changed since the one before.
func (r *reports) topology(before, m *slots.Map) {
	masters := 0
	for _, n := range m.Nodes() {
		if n.Master {
			masters++
		}
	}
	r.log.Info("topology", "nodes", len(m.Nodes()), "masters", masters, "slots_covered", m.Covered())
	if before == nil {
		return
	}
	changes := m.Changes(before)
	for i, c := range changes {
		switch {
		case i == maxChanges:
			r.log.Info("topology changed", "more_changes", len(changes)-maxChanges)
			return
		case len(c.Slots) > 0:
			r.log.Info("topology changed", "what", c.What, "from", c.From, "to", c.To, "slots", c.Text(), "count", c.Count())
		case c.To != "":
			r.log.Info("topology changed", "what", c.What, "node", c.Node, "of", c.To)
		default:
			r.log.Info("topology changed", "what", c.What, "node", c.Node)
		}
	}
}

// client logs that a client has come or gone.
func (r *reports) client(event string, c *client) {
	if r.debug {
		r.log.Debug(event, "client", c.session.Peer(), "id", c.session.ID(), "thread", c.t.index)
	}
}
