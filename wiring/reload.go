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
	if moving := placement(changes); len(moving) > 0 && !(old.Clustered() && next.Clustered()) {
		if change.Table, err = FetchTable(ctx, next); err != nil {
			return nil, err
		}
		if err := mayReplace(srv.Table(), change.Table, moving, allowMisplaced); err != nil {
			return nil, err
		}
	}
	if restart := slices.DeleteFunc(slices.Clone(changes), func(c config.Change) bool {
		return c.Effect != config.Restart
	}); len(restart) > 0 {
		return nil, needsRestart(restart)
	}
	if change.Follower = follow(next, log); change.Follower != nil {
		change.Follow = change.Table != nil || slices.ContainsFunc(changes, func(c config.Change) bool {
			return strings.HasPrefix(c.Path, "backend.username") || strings.HasPrefix(c.Path, "backend.password")
		})
		if f, ok := change.Follower.(*sentinels); ok {
			f.assume(srv.Table())
		}
	}
	if err := srv.Configure(change); err != nil {
		return nil, err
	}
	return changes, nil
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
func mayReplace(older, newer *router.Table, moving []config.Change, allowMisplaced bool) error {
	if c := router.Compare(older, newer); c.Moves && !allowMisplaced {
		return fmt.Errorf("%s: this would move %s; see keyway plan; to accept losing sight of them: --allow-misplaced",
			list(moving), moved(c))
	}
	// What is under way, such as a transaction, knows its node by the number in the table.
	before, after := older.Owners(), newer.Owners()
	same := older.Name == newer.Name && older.Clustered() == newer.Clustered() && len(after) >= len(before)
	for i := 0; same && i < len(before); i++ {
		a, b := older.Nodes[before[i]], newer.Nodes[after[i]]
		same = before[i] == after[i] && a.Name == b.Name && a.Addr == b.Addr
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
