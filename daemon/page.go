package daemon

import (
	"context"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/page"
)

// newPage returns the page of a pool whose sampler exists.
func (p *served) newPage() *page.Page {
	return page.New(page.Source{
		State: p.sampler.State, Table: p.srv.Table,
		Locks: func(ctx context.Context, count int) ([]locks.Row, error) {
			return p.srv.Locks(ctx, locks.Query{Count: count})
		},
	})
}
