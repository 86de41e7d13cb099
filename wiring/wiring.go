package wiring

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/topology"
)

// NewServer returns a server of the configuration and opens its listeners. Errors in the
// configuration are *config.Error.
func NewServer(c *config.Config, o server.Options) (*server.Server, error) {
	setup, err := setUp(c)
	if err != nil {
		return nil, err
	}
	setup.Follower = followBoth(c, o.Log)
	return server.New(c, setup, o)
}

// setUp returns what the configuration alone says.
func setUp(c *config.Config) (setup server.Setup, err error) {
	if setup.Table, err = table(c, nil); err != nil {
		return setup, err
	}
	if config.Older(c) != nil {
		older, err := table(config.Older(c), nil)
		if err != nil {
			return setup, err
		}
		setup.Table = router.Moving(older, setup.Table)
	}
	setup.Nodes = nodeSettings(c)
	setup.Workers, err = workerOptions(c)
	return setup, err
}

// Table returns the table by which a server of the configuration starts to route, and
// asks nobody. A master behind sentinels has no address in it. The table of a cluster is
// empty, because only the cluster knows its nodes. Errors are *config.Error, the same as
// NewServer's.
func Table(c *config.Config) (*router.Table, error) {
	setup, err := setUp(c)
	return setup.Table, err
}

// Next returns the configuration that placement.next names, and its table for trying it: the
// table of a cluster has no nodes, which does not matter for which keys live together. It
// returns nil if there is none. Errors are *config.Error.
func Next(c *config.Config) (*config.Config, *router.Table, error) {
	next, err := c.Next()
	if err != nil || next == nil {
		return nil, nil, err
	}
	t, err := Table(next)
	if err != nil {
		err = c.Errorf("placement.next", "correct that file, or leave next out", "%v", err)
	}
	return next, t, err
}

// fetchTimeout is the time for asking all servers that FetchTable asks.
const fetchTimeout = 5 * time.Second

// Asks reports whether FetchTable asks servers.
func Asks(c *config.Config) bool {
	return c.Clustered() || slices.ContainsFunc(c.Nodes, func(n config.Node) bool { return n.Sentinel != nil })
}

// FetchTable is like Table, but asks the configured cluster, or the sentinels.
func FetchTable(ctx context.Context, c *config.Config) (*router.Table, error) {
	if config.Older(c) == nil {
		return FetchLayout(ctx, c)
	}
	older, err := FetchLayout(ctx, config.Older(c))
	if err != nil {
		return nil, err
	}
	newer, err := FetchLayout(ctx, c)
	if err != nil {
		return nil, err
	}
	return router.Moving(older, newer), nil
}

// FetchLayout is FetchTable for the layout of c alone, also while keys move to it.
func FetchLayout(ctx context.Context, c *config.Config) (*router.Table, error) {
	if _, err := setUp(c); err != nil {
		return nil, err
	}
	t, err := table(c, nil)
	if err != nil {
		return nil, err
	}
	f := follow(c, nil)
	if f == nil {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return f.fetch(ctx)
}

// Inspect asks each node of the table about itself.
func Inspect(ctx context.Context, c *config.Config, t *router.Table) []topology.Report {
	return topology.Inspect(ctx, Accounts(c), c.Backend.ConnectTimeout, t)
}

// SampleKeys looks at keys of each node of the table that owns some, and counts those that
// the table places elsewhere. It asks no cluster, which moves keys itself.
func SampleKeys(ctx context.Context, c *config.Config, t *router.Table) []guard.Sample {
	if t.Clustered() {
		return nil
	}
	return guard.Look(ctx, Accounts(c), c.Backend.ConnectTimeout, t, t.Owners())
}

// NewMigrations returns what knows which slots a cluster moves that a running server follows.
func NewMigrations(c *config.Config, table func() *router.Table) *topology.Migrations {
	return topology.NewMigrations(Accounts(c), c.Backend.ConnectTimeout, table)
}

// NewZones returns what learns in which zones the nodes of a running server are, and tells the server. It returns nil
// if zones do not matter.
func NewZones(c *config.Config, log *slog.Logger, s *server.Server) *topology.Zones {
	if c.Replicas.Zone == "" {
		return nil
	}
	return topology.NewZones(topology.ZonesOptions{
		Accounts: Accounts(c), Timeout: c.Backend.ConnectTimeout, Log: log, Table: s.Table,
		Keyways: func() int { return server.Keyways(s) }, Known: c.Replicas.ZoneOf,
		Learned: func(zones map[string]string) { server.LearnZones(s, zones) },
	})
}

// NewSurvey returns a survey of the nodes of a running server, whose current table is
// s.Table().
func NewSurvey(c *config.Config, log *slog.Logger, s *server.Server) *topology.Survey {
	return topology.NewSurvey(Accounts(c), c.Backend.ConnectTimeout, log, s.Table,
		func() int { return server.Keyways(s) })
}
