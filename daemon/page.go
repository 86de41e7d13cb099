package daemon

import (
	"context"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slowlog"
)

// newPage returns the page of a pool whose sampler exists.
func (p *served) newPage() *page.Page {
	return page.New(page.Source{
		State: p.sampler.State, Table: p.srv.Table, Migrating: p.migrating,
		HotKeys: func(ctx context.Context, count int) ([]hotkeys.Row, error) {
			rows, err := server.HotKeys(ctx, p.srv, hotkeys.ByCommands, count)
			return hotkeys.ForJSON(rows), err
		},
		BigKeys: func(ctx context.Context, count int) ([]bigkeys.Row, error) {
			rows, err := server.BigKeys(ctx, p.srv, count)
			return bigkeys.ForJSON(rows), err
		},
		Slow: func(ctx context.Context, count int) ([]slowlog.Row, error) {
			return server.SlowLog(ctx, p.srv, count)
		},
		Clients: func(ctx context.Context, q clients.Query) ([]clients.Row, error) {
			rows, _, err := server.ClientRows(ctx, p.srv, q)
			return rows, err
		},
		Subscriptions: func(ctx context.Context, count int) ([]clients.Topic, error) {
			of, err := server.Subscriptions(ctx, p.srv, count)
			return of.Topics, err
		},
		Orders: &page.Orders{
			HasToken: func() bool { return len(p.of.first().cfg.Load().Admin.Tokens()) > 0 },
			HasUsers: func() bool { return server.LatestUsers(p.srv).HasOperators() },
			Level:    p.of.out.levelText,
		},
		Locks: func(ctx context.Context, count int) ([]locks.Row, error) {
			return p.srv.Locks(ctx, locks.Query{Count: count})
		},
	})
}
