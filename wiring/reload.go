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

// Prepared is a reload that cannot fail any more. Call Apply or Discard once at most.
type Prepared struct {
	Changes []config.Change // of keys of the file
	change  *server.Prepared
}

// Apply applies the changes.
func (p *Prepared) Apply() {
	if p.change != nil {
		p.change.Apply()
	}
}

// Discard changes nothing.
func (p *Prepared) Discard() {
	if p.change != nil {
		p.change.Discard()
	}
}

// PrepareReload prepares a running server, whose configuration is old, to serve next. If keys
// would move to other nodes, where clients would not find them, or if clients would lose locks of
// locks.quorum, it is an error unless allowMisplaced is true. Errors in the file are
// *config.Error. Calls must not overlap.
func PrepareReload(
	ctx context.Context, srv *server.Server, old, next *config.Config, allowMisplaced bool, log *slog.Logger,
) (*Prepared, error) {
	return prepareReload(ctx, srv, old, next, nil, allowMisplaced, log)
}

// prepareReload is PrepareReload, if the table of next is known already: otherwise it is nil.
func prepareReload(ctx context.Context, srv *server.Server, old, next *config.Config, known *router.Table,
	allowMisplaced bool, log *slog.Logger,
) (*Prepared, error) {
	if err := config.LoadCertificates(next); err != nil {
		return nil, err
	}
	changes := old.Changes(next)
	setup, err := setUp(next)
	isSame := len(changes) == 0 && config.InSameState(old, next) && config.Moves(old) == config.Moves(next)
	if err != nil || isSame {
		return &Prepared{}, err
	}
	change := server.Change{
		Config: next, Workers: setup.Workers, Users: concerns(changes, "users", "clients.password"),
		Nodes: setup.Nodes,
	}
	if change.Table = known; known == nil {
		if change.Table, err = newTable(ctx, srv.Table(), old, next, changes, allowMisplaced); err != nil {
			return nil, err
		}
	}
	if restart := withEffect(changes, config.Restart); len(restart) > 0 {
		return nil, needsRestart(restart)
	}
	if concerns(changes, "users") {
		if err := RefuseDatabases(ctx, next, cmp.Or(change.Table, srv.Table())); err != nil {
			return nil, err
		}
	}
	if !allowMisplaced {
		if err := refuseLosingLocks(ctx, old, next); err != nil {
			return nil, err
		}
	}
	if concerns(changes, serverKeys...) || change.Table != nil {
		change.Follow, change.Follower = true, followBoth(next, log)
		assume(change.Follower, cmp.Or(change.Table, srv.Table()))
	}
	prepared, err := srv.Prepare(change)
	if err != nil {
		return nil, err
	}
	return &Prepared{changes, prepared}, nil
}

// UsePasswords makes a running server log in by the passwords of c. Nothing else in it may differ
// from the server's configuration. Connections that are open go on.
func UsePasswords(srv *server.Server, c *config.Config) error {
	workers, err := workerOptions(c)
	if err != nil {
		return err
	}
	p, err := srv.Prepare(server.Change{Config: c, Workers: workers, Nodes: nodeSettings(c)})
	if err == nil {
		p.Apply()
	}
	return err
}

// serverKeys begin the paths of the keys that say where servers are, and how they are asked.
var serverKeys = []string{"nodes", "slots.seeds", "backend.username", "backend.password", "backend.tls"}

// concerns reports whether a change's path has one of the prefixes.
func concerns(changes []config.Change, prefixes ...string) bool {
	return slices.ContainsFunc(changes, func(c config.Change) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.Path, p) })
	})
}

// newTable returns the table that replaces current, or nil if current stays. It returns an
// error if current must not be replaced.
func newTable(ctx context.Context, current *router.Table, old, next *config.Config, changes []config.Change,
	allowMisplaced bool,
) (*router.Table, error) {
	isOther := len(withEffect(changes, config.IfNothingMoves)) > 0 || concerns(changes, "nodes", "slots.seeds") ||
		(config.Older(old) != nil || config.Older(next) != nil) && !config.InSameState(old, next)
	if !isOther {
		return nil, nil
	}
	t, err := FetchTable(ctx, next)
	if err != nil {
		return nil, err
	}
	if old.Clustered() && next.Clustered() && config.InSameState(old, next) {
		switch {
		case IsSameCluster(current, t):
			return nil, nil // its follower knows more
		case !allowMisplaced && old.PlacementHash() == next.PlacementHash():
			return nil, next.Errorf("slots.seeds", "name nodes of the cluster that keyway follows; to move the keys "+
				"there, give the cluster a name, as in slots: {cluster: new}; to accept losing sight of them: "+
				"--allow-misplaced", "these seeds belong to another cluster, so clients would not find their keys")
		}
	}
	if err := mayReplace(current, t, changes, allowMisplaced); err != nil {
		return nil, err
	}
	return t, refuseUnfit(ctx, next, current, t, changes)
}

// IsSameCluster reports whether two tables have a node in common. It cannot tell while no
// current node is known.
func IsSameCluster(current, found *router.Table) bool {
	return len(current.Nodes) == 0 || slices.ContainsFunc(found.Nodes, func(n router.Node) bool {
		_, known := current.ByAddr(n.Addr)
		return known
	})
}

// refuseUnfit returns an error if a node at a new address, or one that is to serve outside a
// cluster from now on, cannot serve.
func refuseUnfit(
	ctx context.Context, c *config.Config, current, t *router.Table, changes []config.Change,
) error {
	for _, r := range Inspect(ctx, c, t) {
		i := c.Node(r.Name)
		_, known := current.ByAddr(r.Addr)
		known = known && current.Clustered() == t.Clustered()
		if i < 0 || known && !concerns(changes, "nodes["+r.Name+"].addr", "nodes["+r.Name+"].sentinel") {
			continue
		}
		if problem, remedy := r.Unfit(t); problem != "" {
			return c.Errorf(fmt.Sprintf("nodes[%d].addr", i), remedy, "node %s %s", r.Name, problem)
		}
	}
	return nil
}

// withEffect returns the changes that have the effect.
func withEffect(changes []config.Change, effect config.Effect) []config.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c config.Change) bool { return c.Effect != effect })
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

// MovesKeys is the error of a reload that would move keys to other nodes.
type MovesKeys struct{ text string }

// Error says which change would move which part of the keys.
func (e *MovesKeys) Error() string {
	return e.text + "; see keyway plan; to accept losing sight of them: --allow-misplaced"
}

// Wish returns a line about a file that would move keys, so that its layout is not in force.
func (e *MovesKeys) Wish() string {
	return "problem: the layout of this file is not in force: " + e.text + "; keyway serves by the layout that it " +
		"had; keyway switch -c FILE changes it while clients run; to accept losing sight of the keys: --allow-misplaced"
}

// mayReplace returns an error if a running server must not route by newer instead of older.
func mayReplace(older, newer *router.Table, changes []config.Change, allowMisplaced bool) error {
	if allowMisplaced {
		return nil // to compare the tables takes long, and clients may be waiting for the new one
	}
	moving := slices.DeleteFunc(slices.Clone(changes), func(c config.Change) bool {
		return c.Effect != config.IfNothingMoves && !strings.HasPrefix(c.Path, "nodes")
	})
	if c := router.Compare(older, newer); c.Moves {
		return &MovesKeys{fmt.Sprintf("%s: this would move %s", list(moving), moved(c))}
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
