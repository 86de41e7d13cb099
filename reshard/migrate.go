package reshard

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/wiring"
)

// Verify reports which keys lie elsewhere than the configuration places them. While the layout changes, the
// file may have either layout, and keys may lie where either places them.
func Verify(ctx context.Context, c *config.Config, o migrate.Options) (*migrate.Report, error) {
	from, to, epoch, err := changing(ctx, c)
	if err != nil {
		return nil, err
	}
	if epoch > 0 {
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

// changing returns the layouts of the change that is under way, and its epoch: 0 if there is none.
func changing(ctx context.Context, c *config.Config) (from, to migrate.Layout, epoch int64, err error) {
	in, err := wiring.InForce(ctx, c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return from, to, 0, err
	}
	older := config.Older(in)
	if older == nil {
		return from, to, 0, nil
	}
	if from, err = scanned(ctx, older); err == nil {
		to, err = scanned(ctx, in)
	}
	return from, to, in.Epoch(), err
}

// Repair moves keys to where the configuration places them. While the layout changes, the file may have
// either layout, and keys are set aside that lie where neither places them.
func Repair(ctx context.Context, c *config.Config, o migrate.Options) (*migrate.Repaired, error) {
	from, to, epoch, err := changing(ctx, c)
	if err != nil {
		return nil, err
	}
	if epoch > 0 {
		o.Epoch = epoch
		return migrate.RepairChange(ctx, from, to, o)
	}
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

// Plan asks the nodes of two configurations what would happen if newer replaced older.
// Errors in the configurations are *config.Error.
func Plan(ctx context.Context, older, newer *config.Config, o plan.Options) (*plan.Report, error) {
	if err := refuseOther(ctx, older); err != nil {
		return nil, err
	}
	from, to, err := planSides(ctx, older, newer)
	if err != nil {
		return nil, err
	}
	s := newer.Switch
	o.BigOver, o.RefuseBig = int64(s.Big.Over), s.Big.How == config.BigRefuse
	o.Strict = s.Durable == config.DurableStrict
	r, err := plan.Make(ctx, from, to, o)
	if err != nil || !r.Space.Moves {
		return r, err
	}
	if err := areApart(older, newer, from.Table, to.Table); err != nil {
		r.Add(plan.Problem{
			Check: plan.CheckNames, Text: fmt.Sprintf("keyway switch refuses this change: %v", err),
			Remedy:   "keyway migrate needs no names: --accept " + plan.CheckNames,
			Accepted: slices.Contains(o.Accept, plan.CheckNames),
		})
	}
	return r, nil
}

// refuseRegister returns an error if the nodes of the older configuration have a register. It
// would keep all keyways at the older layout, and so hide the keys that have moved.
func refuseRegister(ctx context.Context, older *config.Config) error {
	next, err := wiring.Settled(ctx, older)
	if err != nil || next.Epoch() == 0 {
		return err
	}
	return older.Errorf("layout", "stop all keyways, and remove the register on every node, replicas excepted: "+
		"FUNCTION DELETE "+register.Name(next.Epoch()), "the nodes say that this layout is in force (epoch %d), so "+
		"keyways would go on looking for the keys by it after they have moved", next.Epoch())
}

// refuseOther returns an error if the nodes of a configuration say that another layout is in
// force than its own.
func refuseOther(ctx context.Context, c *config.Config) error {
	next, err := wiring.Settled(ctx, c)
	if err != nil || next.Replaced() == nil {
		return err
	}
	return c.Errorf("layout", "write the layout that is in force into the file; keyway check --connect prints it",
		"the nodes say that another layout is in force than that of this file (%s): layout %s with placement %s, "+
			"epoch %d", c.PlacementHash(), next.Layout, next.PlacementHash(), next.Epoch())
}
