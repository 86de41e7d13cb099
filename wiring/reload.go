package wiring

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
)

// Reload makes a running server, whose configuration is old, serve next. It returns what has
// changed. It applies all changes or, if it returns an error, none. If keys would move to
// other nodes, where clients would not find them, it is an error unless allowMisplaced is
// true. Errors in the file are *config.Error. Calls must not overlap.
func Reload(
	ctx context.Context, srv *server.Server, old, next *config.Config, allowMisplaced bool, log *slog.Logger,
) ([]config.Change, error) {
	changes := old.Changes(next)
	setup, err := setUp(next)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	change := server.Change{Config: next, Workers: setup.Workers}
	if change.Table, err = newTable(ctx, srv.Table(), old, next, changes, allowMisplaced); err != nil {
		return nil, err
	}
	if restart := slices.DeleteFunc(slices.Clone(changes), func(c config.Change) bool {
		return c.Effect != config.Restart
	}); len(restart) > 0 {
		return nil, needsRestart(restart)
	}
	if change.Follower = follow(next, log); concerns(changes, serverKeys...) || change.Table != nil {
		change.Follow = true
		if f, ok := change.Follower.(*sentinels); ok {
			f.assume(cmp.Or(change.Table, srv.Table()))
		}
	}
	if err := srv.Configure(change); err != nil {
		return nil, err
	}
	return changes, nil
}

// serverKeys begin the paths of the keys that say where servers are, and how they are asked.
var serverKeys = []string{"nodes", "slots.seeds", "backend.username", "backend.password"}

// concerns reports whether a change's path has one of the prefixes.
func concerns(changes []config.Change, prefixes ...string) bool {
	return slices.ContainsFunc(changes, func(c config.Change) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.Path, p) })
	})
}

// newTable returns the table that takes the place of current, or nil if that stays. It returns
// an error if it must not be replaced.
func newTable(ctx context.Context, current *router.Table, old, next *config.Config, changes []config.Change,
	allowMisplaced bool,
) (*router.Table, error) {
	moving := placement(changes)
	if len(moving) == 0 && !concerns(changes, "nodes", "slots.seeds") {
		return nil, nil
	}
	t, err := FetchTable(ctx, next)
	if err != nil {
		return nil, err
	}
	if old.Clustered() && next.Clustered() {
		if known := func(n router.Node) bool { _, ok := current.ByAddr(n.Addr); return ok }; len(current.Nodes) > 0 &&
			!slices.ContainsFunc(t.Nodes, known) {
			return nil, next.Errorf("slots.seeds", "name nodes of the cluster that keyway follows, or restart keyway",
				"these seeds belong to another cluster, so clients would not find their keys")
		}
		return nil, nil
	}
	if err := mayReplace(current, t, changes, allowMisplaced); err != nil {
		return nil, err
	}
	return t, refuseUnfit(ctx, next, t, changes)
}

// refuseUnfit returns an error if a node at a new address cannot serve.
func refuseUnfit(ctx context.Context, c *config.Config, t *router.Table, changes []config.Change) error {
	for _, r := range Inspect(ctx, c, t) {
		i := c.Node(r.Name)
		if i < 0 || !concerns(changes, "nodes["+r.Name+"].addr", "nodes["+r.Name+"].sentinel") {
			continue
		}
		if problem, remedy := r.Unfit(t); problem != "" {
			return c.Errorf(fmt.Sprintf("nodes[%d].addr", i), remedy, "node %s %s", r.Name, problem)
		}
	}
	return nil
}

// placement returns the changes of keys that decide where keys live.
func placement(changes []config.Change) []config.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c config.Change) bool {
		return c.Effect != config.IfNothingMoves
	})
}

func needsRestart(changes []config.Change) error {
	return fmt.Errorf("%s: a reload cannot change this, so nothing was changed; restart keyway, or take it back",
		list(changes))
}

func list(changes []config.Change) string {
	lines := make([]string, len(changes))
	for i, c := range changes {
		lines[i] = c.String()
	}
	return strings.Join(lines, "; ")
}

// mayReplace returns an error if a running server must not route by newer instead of older.
func mayReplace(older, newer *router.Table, changes []config.Change, allowMisplaced bool) error {
	moving := slices.DeleteFunc(slices.Clone(changes), func(c config.Change) bool {
		return c.Effect != config.IfNothingMoves && !strings.HasPrefix(c.Path, "nodes")
	})
	if c := router.Compare(older, newer); c.Moves && !allowMisplaced {
		return fmt.Errorf("%s: this would move %s; see keyway plan; to accept losing sight of them: --allow-misplaced",
			list(moving), moved(c))
	}
	// What is under way, such as a transaction, knows its node by the number in the table.
	before, after := older.Owners(), newer.Owners()
	same := older.Name == newer.Name && older.Clustered() == newer.Clustered() && len(after) >= len(before)
	for i := 0; same && i < len(before); i++ {
		a, b := older.Nodes[before[i]], newer.Nodes[after[i]]
		same = before[i] == after[i] && (a.Name == b.Name || a.Addr == b.Addr)
	}
	if !same {
		return needsRestart(moving)
	}
	return nil
}

// moved says which part of the keys moves, and from which nodes.
func moved(c router.Comparison) string {
	if c.Basis == router.Unmeasured {
		text := "keys"
		for i, r := range c.Rules {
			switch {
			case i == 0:
				text = fmt.Sprintf("the keys %s from %s to %s", r.Keys, r.From, cmp.Or(r.To, "no node"))
			case i < 5:
				text += fmt.Sprintf(", %s from %s to %s", r.Keys, r.From, cmp.Or(r.To, "no node"))
			case i == 5:
				text += fmt.Sprintf(" and %d more ranges", len(c.Rules)-i)
			}
		}
		return text
	}
	leaving, names := map[string]float64{}, []string{}
	for _, m := range c.Pairs {
		if _, ok := leaving[m.From]; !ok {
			names = append(names, m.From)
		}
		leaving[m.From] += m.Share
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s: %.1f %%", name, 100*leaving[name])
	}
	text := fmt.Sprintf("%.1f %% of the keys (%s)", 100*c.Share, strings.Join(names, ", "))
	if c.Basis == router.Sampled {
		text = "about " + text
	}
	return text
}

// assume makes the masters and replicas of a table the sentinels' last reports, until they
// report others.
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
