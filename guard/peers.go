package guard

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

const (
	firstPeers   = 5 * time.Second // after the start: others may have started at the same time
	peerInterval = time.Minute     // between looks at a node's clients, give or take a tenth
	// peerBytes is how much of CLIENT LIST all keyways together read from a node in a second: half a percent of
	// its processor. Longer lists, and more keyways, make the intervals longer in proportion.
	peerBytes  = 1 << 20
	secondLook = time.Second // before a refusal: a keyway that is being replaced may be about to end
)

// peer is a keyway whose connections a node lists.
type peer struct {
	instance, placement string
	host                string // from which it connects
	node                string // a node that it is connected to
}

// String returns a text for people.
func (p peer) String() string { return p.instance + " at " + p.host }

// peers looks for keyways that serve the same nodes by another placement.
type peers struct {
	self    string // hash of the own placement
	as      topology.Accounts
	timeout time.Duration
	log     *slog.Logger
	list    func(ctx context.Context, n router.Node) (clients string, err error)
	counted func(keyways int)

	mu    sync.Mutex
	nodes map[string]*listing // by the node's name
	found int                 // keyways in a census
}

// listing is what is known about the clients of a node.
type listing struct {
	others []peer // that disagree
	all    []Keyway
	due    time.Time // of the next look
}

func (l *listing) dueAt() time.Time { return l.due }

// newPeers returns peers that have not looked at any node yet.
func newPeers(o Options) *peers {
	p := &peers{
		self: o.Placement, as: o.Accounts, timeout: o.Timeout, log: o.Log,
		nodes: map[string]*listing{}, counted: o.Counted,
	}
	p.list = p.ask
	if p.counted == nil {
		p.counted = func(int) {}
	}
	return p
}

// ask returns the clients of a node.
func (p *peers) ask(ctx context.Context, n router.Node) (string, error) {
	client := topology.NewClient(n.Addr, p.as(n), p.timeout)
	defer client.Close()
	return client.Do(ctx, "CLIENT", "LIST", "TYPE", "normal").Text()
}

// start returns the keyways that disagree when this one wants to start. It looks again
// before it returns any.
func (p *peers) start(ctx context.Context, t *router.Table) []peer {
	p.look(ctx, t, t.Owners())
	if len(p.disagreeing()) == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(secondLook):
	}
	p.look(ctx, t, t.Owners())
	return p.disagreeing()
}

// run looks at the clients of the nodes of table() until ctx ends.
func (p *peers) run(ctx context.Context, table func() *router.Table) {
	p.mu.Lock()
	for _, l := range p.nodes {
		l.due = time.Now().Add(firstPeers)
	}
	p.mu.Unlock()
	everyTick(ctx, func() {
		t := table()
		before := p.disagreeing()
		p.look(ctx, t, p.due(t))
		p.logChanges(before, p.disagreeing())
	})
}

// due returns the nodes to look at now. It forgets those that the table lacks.
func (p *peers) due(t *router.Table) []router.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return dueNodes(t, p.nodes)
}

// look asks some nodes for their clients, several at once. A node that cannot be asked
// keeps what is known of it.
func (p *peers) look(ctx context.Context, t *router.Table, ids []router.NodeID) {
	forEach(ctx, len(ids), func(ctx context.Context, i int) {
		n := t.Nodes[ids[i]]
		if n.Addr == "" {
			return
		}
		clients, err := p.list(ctx, n)
		if err != nil {
			p.log.Debug("cannot ask the node for its clients", "node", n.Name, "addr", n.Addr, "error", err)
		}
		p.record(n.Name, clients, err)
	})
}

// record keeps what a node has answered.
func (p *peers) record(node, clients string, err error) {
	listed := Keyways(clients)
	if err == nil {
		defer func() { p.counted(p.count()) }()
	}
	wait := peerWait(len(listed), len(clients), 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.nodes[node]
	if l == nil {
		l = &listing{}
		p.nodes[node] = l
	}
	l.due = time.Now().Add(jittered(wait))
	if err == nil {
		l.others, l.all = disagreeing(node, clients, p.self), listed
	}
}

// peerWait returns the interval at which each of the keyways should ask one of the nodes for a list of this
// many bytes.
func peerWait(keyways, bytes, nodes int) time.Duration {
	return control.Interval(peerInterval, keyways*bytes, float64(peerBytes*nodes))
}

// count returns how many keyways serve the nodes, as far as known, this one included.
func (p *peers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := max(p.found, 1)
	for _, l := range p.nodes {
		n = max(n, len(l.all))
	}
	return n
}

// runCensus counts the keyways until ctx ends. It asks one node of table() at a time, which stands for all: each
// keyway is connected to each.
func (p *peers) runCensus(ctx context.Context, table func() *router.Table) {
	for wait := firstPeers; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(wait)):
		}
		t := table()
		owners := t.Owners()
		if len(owners) == 0 {
			continue
		}
		n := t.Nodes[owners[rand.N(len(owners))]]
		clients, err := p.listWithin(ctx, n)
		if err != nil {
			p.log.Debug("cannot ask the node for its clients", "node", n.Name, "addr", n.Addr, "error", err)
			wait = peerInterval
			continue
		}
		listed := len(Keyways(clients))
		wait = peerWait(listed, len(clients), len(owners))
		p.mu.Lock()
		p.found = listed
		p.mu.Unlock()
		p.counted(p.count())
	}
}

func (p *peers) listWithin(ctx context.Context, n router.Node) (clients string, err error) {
	if n.Addr == "" {
		return "", topology.ErrNoAddress
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return p.list(ctx, n)
}

// disagreeing returns the keyways in a reply to CLIENT LIST that have another placement
// than self, each once. A keyway whose file was just reloaded may still have connections
// with its former placement, and does not disagree.
func disagreeing(node, clients, self string) (all []peer) {
	var agreeing []peer
	for line := range strings.Lines(clients) {
		switch p := parsePeer(line); {
		case p.instance == "":
		case p.placement == self:
			agreeing = append(agreeing, p)
		default:
			p.node = node
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b peer) int { return strings.Compare(a.key(), b.key()) })
	all = slices.CompactFunc(all, peer.same)
	return slices.DeleteFunc(all, func(p peer) bool {
		return slices.ContainsFunc(agreeing, func(o peer) bool { return o.instance == p.instance && o.host == p.host })
	})
}

// Keyway is a keyway that a node's clients show.
type Keyway struct{ Instance, Host, Placement string }

// Keyways returns the keyways in a reply to CLIENT LIST, each once.
func Keyways(clients string) (all []Keyway) {
	seen := map[Keyway]bool{}
	for line := range strings.Lines(clients) {
		p := parsePeer(line)
		k := Keyway{p.instance, p.host, p.placement}
		if p.instance != "" && !seen[k] {
			seen[k] = true
			all = append(all, k)
		}
	}
	return all
}

// keyways returns all keyways that nodes list, by instance and host. One that has connections with two
// placements has the own one.
func (p *peers) keyways() (all []Keyway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.nodes {
		for _, k := range l.all {
			same := func(o Keyway) bool { return o.Instance == k.Instance && o.Host == k.Host }
			if i := slices.IndexFunc(all, same); i < 0 {
				all = append(all, k)
			} else if k.Placement == p.self {
				all[i] = k
			}
		}
	}
	slices.SortFunc(all, func(a, b Keyway) int {
		return cmp.Or(strings.Compare(a.Instance, b.Instance), strings.Compare(a.Host, b.Host))
	})
	return all
}

// parsePeer returns the keyway that a line of CLIENT LIST shows. Its instance is empty if the
// connection is no keyway's.
func parsePeer(line string) (p peer) {
	if c, ok := ParseConnection(line); ok {
		p.instance, p.placement, p.host = c.Instance, c.Placement, c.Host
	}
	return p
}

// KeywayIn returns the name of the keyway that a line of CLIENT LIST shows, and the host from
// which it connects. The name is empty if the connection is no keyway's.
func KeywayIn(line string) (instance, host string) {
	p := parsePeer(line)
	return p.instance, p.host
}

// disagreeing returns the keyways that have another placement, each once.
func (p *peers) disagreeing() (all []peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.nodes {
		all = append(all, l.others...)
	}
	slices.SortFunc(all, func(a, b peer) int { return strings.Compare(a.key()+a.node, b.key()+b.node) })
	return slices.CompactFunc(all, peer.same)
}

// key returns a text that is the same for the same keyway with the same placement.
func (p peer) key() string { return p.String() + " " + p.placement + " " }

// same reports whether two are the same keyway with the same placement.
func (p peer) same(o peer) bool {
	return p.key() == o.key()
}

// logChanges logs which keyways have begun to disagree since before, and which no longer do.
func (p *peers) logChanges(before, now []peer) {
	for _, o := range now {
		if !slices.ContainsFunc(before, o.same) {
			p.log.Warn("another keyway serves the same nodes by another placement, so clients of one do not find "+
				"all keys of the other; give both the same configuration",
				"keyway", o.instance, "from", o.host, "node", o.node, "placement", o.placement, "own_placement", p.self)
		}
	}
	for _, o := range before {
		if !slices.ContainsFunc(now, o.same) {
			p.log.Info("a keyway with another placement is gone", "keyway", o.instance, "from", o.host,
				"placement", o.placement)
		}
	}
}

// disagreement says that other keyways serve the same nodes by another placement.
type disagreement struct {
	placement string // this keyway's
	peers     []peer
}

// Error returns several lines: the other keyways, and what to do.
func (e *disagreement) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "other keyways serve these nodes by another placement than this file (%s), "+
		"so clients of one would not find all keys of the other\n", e.placement)
	for _, p := range e.peers {
		fmt.Fprintf(&b, "  keyway %s, with placement %s, is connected to node %s\n", p, p.placement, p.node)
	}
	b.WriteString("What to do, one of:\n" +
		"  - give all keyways the same layout, hash, hash_tag, slots or ranges, and names and weights of nodes\n" +
		"  - change the layout of the others with keyway switch OLD.yml NEW.yml, which clients do not notice\n" +
		"  - stop the others first\n" +
		"  - if clients may lose sight of keys while you change one after another: placement: {misplaced: allow}")
	return b.String()
}
