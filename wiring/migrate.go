package wiring

import (
	"context"
	"log/slog"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/plan"
)

// Verify reports which keys lie elsewhere than the configuration places them. While the layout changes, the
// file may have either layout, and keys may lie where either places them.
func Verify(ctx context.Context, c *config.Config, o migrate.Options) (*migrate.Report, error) {
	in, err := InForce(ctx, c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if older := config.Older(in); older != nil {
		from, err := scanned(ctx, older)
		if err != nil {
			return nil, err
		}
		to, err := scanned(ctx, in)
		if err != nil {
			return nil, err
		}
		return migrate.VerifyChange(ctx, from, to, o)
	}
	if err := refuseOther(ctx, c); err != nil {
		return nil, err
	}
	l, err := scanned(ctx, c)
	if err != nil {
		return nil, err
	}
	return migrate.Verify(ctx, l, o)
}

// Repair moves keys to where the configuration places them.
func Repair(ctx context.Context, c *config.Config, o migrate.Options) (*migrate.Repaired, error) {
	if err := refuseOther(ctx, c); err != nil {
		return nil, err
	}
	l, err := scanned(ctx, c)
	if err != nil {
		return nil, err
	}
	o.Keyways = keyways
	return migrate.Repair(ctx, l, o)
}

// Migrate moves all keys from the layout of the older configuration to that of the newer.
func Migrate(ctx context.Context, older, newer *config.Config, o migrate.Options) (migrate.Summary, error) {
	for _, refuse := range []func(context.Context, *config.Config) error{refuseOther, refuseRegister} {
		if err := refuse(ctx, older); err != nil {
			return migrate.Summary{}, err
		}
	}
	from, err := scanned(ctx, older)
	if err != nil {
		return migrate.Summary{}, err
	}
	to, err := scanned(ctx, newer)
	if err != nil {
		return migrate.Summary{}, err
	}
	o.Keyways = keyways
	return migrate.Migrate(ctx, from, to, o)
}

func keyways(clients string) (all []migrate.Keyway) {
	for _, k := range guard.Keyways(clients) {
		all = append(all, migrate.Keyway(k))
	}
	return all
}

// scanned returns the layout of a configuration alone, and asks the cluster or the sentinels.
func scanned(ctx context.Context, c *config.Config) (migrate.Layout, error) {
	t, err := fetchTable(ctx, c)
	return migrate.Layout{
		Table: t, Account: accounts(c), ConnectTimeout: c.Backend.ConnectTimeout,
		Placement: c.PlacementHash(),
	}, err
}

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
