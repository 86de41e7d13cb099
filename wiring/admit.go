package wiring

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

// Admit asks the nodes whether keyway may serve. It returns an error if the configuration
// is wrong, if nodes are part of a cluster that the layout cannot use, if they lack the database of a
// user, or if clients would not find the keys that are on the nodes. Otherwise it returns the guard that goes on
// looking. Nodes that cannot be asked keep nobody from serving. Errors are *config.Error,
// those of the configuration the same as NewServer's. counted is as in guard.Options.
func Admit(ctx context.Context, c *config.Config, log *slog.Logger, counted func(keyways int)) (*guard.Guard, error) {
	t, err := Table(c)
	if err != nil {
		return nil, err
	}
	if !c.Clustered() || userOfHighest(c) >= 0 {
		if fetched, err := FetchTable(ctx, c); err == nil {
			t = fetched // otherwise the nodes behind sentinels are judged when their masters are known
		}
	}
	g := NewGuard(c, log, counted)
	var ofCluster, noDatabase, misplaced error
	var asked sync.WaitGroup
	asked.Go(func() { noDatabase = RefuseDatabases(ctx, c, t) })
	asked.Go(func() { ofCluster = refuseCluster(ctx, c, t) })
	asked.Go(func() {
		if err := g.Start(ctx, t); err != nil {
			misplaced = c.Errorf("placement", "", "%v", err)
		}
	})
	asked.Wait()
	if err := cmp.Or(ofCluster, noDatabase); err != nil {
		return nil, err
	}
	return g, misplaced
}

// NewGuard returns a guard that has not looked at any node yet.
// counted is as in guard.Options.
func NewGuard(c *config.Config, log *slog.Logger, counted func(keyways int)) *guard.Guard {
	return guard.New(guard.Options{
		Accounts: Accounts(c), Timeout: c.Backend.ConnectTimeout, Log: log,
		Off: c.Placement.Misplaced == config.MisplacedOff, Refuse: c.Placement.Misplaced == config.MisplacedRefuse,
		Placement: c.PlacementHash(),
		Variants:  func() []guard.Variant { return variants(c) },
		Counted:   counted,
	})
}

// refuseCluster returns an error if nodes are part of a cluster, whose redirects only a
// layout that follows the cluster can use. Static slots may agree with the cluster's.
func refuseCluster(ctx context.Context, c *config.Config, t *router.Table) error {
	if t.Clustered() {
		return nil
	}
	var problem string
	var others []string
	for _, r := range Inspect(ctx, c, t) {
		switch {
		case !r.Master || r.Err != nil || r.Peers == 0 || r.Agrees:
		case problem == "":
			problem = strings.TrimPrefix(errtext.NodeIsCluster(r.Name, r.Addr), "ERR keyway: ")
		default:
			others = append(others, r.Name)
		}
	}
	if problem == "" {
		return nil
	}
	if len(others) > 0 {
		problem += " (the same holds for " + strings.Join(others, ", ") + ")"
	}
	return c.Errorf("layout", "", "%s", problem)
}

// userOfHighest returns the index of the user with the highest database, or -1 if all users begin in
// database 0, which every node has.
func userOfHighest(c *config.Config) int {
	highest := -1
	for i, u := range c.Users {
		if u.Database > 0 && (highest < 0 || u.Database > c.Users[highest].Database) {
			highest = i
		}
	}
	return highest
}

// RefuseDatabases asks the masters of the table for the highest database of the users. It returns an
// error if one does not have it, as most clusters have only database 0. Nodes that cannot be asked
// are not judged.
func RefuseDatabases(ctx context.Context, c *config.Config, t *router.Table) error {
	i := userOfHighest(c)
	if i < 0 {
		return nil
	}
	db := c.Users[i].Database
	n, err := topology.TrySelect(ctx, Accounts(c), c.Backend.ConnectTimeout, t, db)
	if err == nil {
		return nil
	}
	return config.UserKeyError(c, i, "database", "choose one that all nodes have, or give the nodes more databases",
		"node %s (%s) does not let keyway select database %d: %v", n.Name, n.Addr, db, err)
}
