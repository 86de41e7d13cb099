package page

import (
	"context"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slowlog"
	"github.com/keyway-proxy/keyway/topology"
)

// Source is where a page gets what it shows of one pool. The functions may be called from any goroutine.
// Those that are nil have no place on the page. The lists begin with the rows that matter most.
type Source struct {
	State func() overview.State // never nil
	Table func() *router.Table  // the layout in force; nil: there is no picture
	// Migrating are the slots that a cluster moves.
	Migrating func() []topology.Migration

	HotKeys       func(ctx context.Context, count int) ([]hotkeys.Row, error)
	BigKeys       func(ctx context.Context, count int) ([]bigkeys.Row, error)
	Slow          func(ctx context.Context, count int) ([]slowlog.Row, error)
	Clients       func(ctx context.Context, q clients.Query) ([]clients.Row, error)
	Subscriptions func(ctx context.Context, count int) ([]clients.Topic, error)
	Locks         func(ctx context.Context, count int) ([]locks.Row, error)

	Orders *Orders // nil: the page only shows
}
