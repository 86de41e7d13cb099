package wiring

import (
	"context"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/plan"
)

// Plan asks the nodes of two configurations what would happen if newer replaced older.
// Errors in the configurations are *config.Error.
func Plan(ctx context.Context, older, newer *config.Config, o plan.Options) (*plan.Report, error) {
	if err := refuseOther(ctx, older); err != nil {
		return nil, err
	}
	a, err := planSide(ctx, older)
	if err != nil {
		return nil, err
	}
	b, err := planSide(ctx, newer)
	if err != nil {
		return nil, err
	}
	return plan.Make(ctx, a, b, o)
}

func planSide(ctx context.Context, c *config.Config) (plan.Side, error) {
	t, err := FetchTable(ctx, c)
	tag := c.HashTag
	if t != nil && t.Slotted() {
		tag = "{}"
	}
	return plan.Side{
		Table: t, HashTag: tag, Accounts: accounts(c), Connect: c.Backend.ConnectTimeout,
		Reply: c.Backend.RequestTimeout,
	}, err
}
