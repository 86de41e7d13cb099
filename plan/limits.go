package plan

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/router"
)

// Limit is something that cannot be had when the layout changes while clients run.
type Limit struct {
	Name string `json:"limit"`
	Text string `json:"text"` // as docs/operations.md has it
	// Nodes are the names of the nodes that it concerns. Empty: it concerns none in particular.
	Nodes []string `json:"nodes"`
}

// limits are all limits. concerns reports whether one concerns a node, also if the node does not
// say so. Without it, the limit always holds.
var limits = []struct {
	name, text string
	concerns   func(p *planner, n *node) bool
}{
	{"failover", "What Redis itself loses when a master fails over, it can lose of keys that have just moved. Where " +
		"the new node has replicas, one of them has a key before it leaves the old node. A node that says for five " +
		"seconds that no replica is connected, such as one that has just been promoted, gets keys without one.",
		(*planner).failsOver},
	{"frozen", "A keyway that is frozen while the others hold loses what it has in flight: these outcomes are unknown.",
		nil},
	{"bypass", "Clients that bypass keyway are not kept out: `plan` lists them.", (*planner).isBypassed},
	{"watch", "Transactions with WATCH do not survive the moment of the change: EXEC answers null.", nil},
	{"way-back", "There is no way back to nodes with an older version of RDB: `plan` says between which nodes.",
		(*planner).hasNoWayBack},
	{"scripts", "Keys that a script uses and does not declare are brought only if they have the hash tag `{...}` of " +
		"one that it declares.", func(_ *planner, n *node) bool {
		return n.used.hasRun("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro")
	}},
	{"expiry", "Expiry of moved keys is exact to a round trip, and the difference of the nodes' clocks is taken into " +
		"account.", (*planner).hasExpiries},
	{"events", "Whoever listens to keyspace events hears `del` or `unlink` at the old node and `restore` at the new " +
		"one, for each key.", func(_ *planner, n *node) bool { return n.used.tellsOfKeys() }},
}

// Limits returns all limits.
func Limits() (all []Limit) {
	for _, l := range limits {
		all = append(all, Limit{Name: l.name, Text: l.text})
	}
	return all
}

// limits adds the limits of this change. What a node does not say may be so.
func (p *planner) limits() {
	for _, l := range limits {
		found := Limit{Name: l.name, Text: l.text, Nodes: []string{}}
		for _, n := range p.nodes {
			if l.concerns != nil && (n.err != nil || l.concerns(p, n)) {
				found.Nodes = append(found.Nodes, n.name)
			}
		}
		if l.concerns == nil || len(found.Nodes) > 0 {
			p.report.Limits = append(p.report.Limits, found)
		}
	}
}

// failsOver reports whether the node has replicas.
func (p *planner) failsOver(n *node) bool { return n.number("connected_slaves") > 0 }

// isBypassed reports whether the node has clients that bypass keyway, or may have.
func (p *planner) isBypassed(n *node) bool {
	return n.hidesClients || slices.ContainsFunc(p.report.Others, func(o Other) bool {
		return slices.Contains(o.Nodes, n.name)
	})
}

// hasNoWayBack reports whether values that have moved to the node cannot go back.
func (p *planner) hasNoWayBack(n *node) bool {
	return n.newer != router.None && slices.ContainsFunc(p.report.Ways, func(w Way) bool {
		return w.To == n.newName(p) && w.Back != yes
	})
}

// hasExpiries reports whether keys of the node expire.
func (p *planner) hasExpiries(n *node) bool {
	return n.source() && slices.ContainsFunc(n.dbs, func(d info.Database) bool {
		return !strings.Contains(n.info["db"+strconv.Itoa(d.Number)], ",expires=0")
	})
}

// used is what a node says about its use, as far as limits go by it.
type used struct {
	stats  map[string]bool // the commands that it has run since its start; nil: it does not say
	events string          // notify-keyspace-events
	hidden bool            // it does not say which events it sends
}

// askUsed asks which commands the node has run, and which events it sends.
func (n *node) askUsed(ctx context.Context) error {
	var stats *redis.StringCmd
	var events *redis.MapStringStringCmd
	err := n.pipeline(ctx, "asking what it is used for", func(p redis.Pipeliner) {
		stats = p.Info(ctx, "commandstats")
		events = p.ConfigGet(ctx, "notify-keyspace-events")
	})
	if err != nil {
		return err
	}
	if stats.Err() == nil {
		n.used.stats = map[string]bool{}
	}
	for line := range strings.SplitSeq(stats.Val(), "\r\n") {
		name, figures, _ := strings.Cut(line, ":")
		if command, is := strings.CutPrefix(name, "cmdstat_"); is && !strings.HasPrefix(figures, "calls=0,") {
			n.used.stats[command] = true
		}
	}
	n.used.events, n.used.hidden = events.Val()["notify-keyspace-events"], events.Err() != nil
	return nil
}

// hasRun reports whether the node has run one of the commands, or does not say.
func (u used) hasRun(commands ...string) bool {
	return u.stats == nil || slices.ContainsFunc(commands, func(c string) bool { return u.stats[c] })
}

// tellsOfKeys reports whether the node sends events when a key is removed or restored, or does not
// say. They are of the class g, which A includes, and go to channels of keyspaces (K) or events (E).
func (u used) tellsOfKeys() bool {
	return u.hidden || strings.ContainsAny(u.events, "KE") && strings.ContainsAny(u.events, "gA")
}
