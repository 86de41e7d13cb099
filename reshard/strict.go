package reshard

import (
	"context"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/wiring"
)

// planBack says what stands in the way of a change that takes back the one that is under way.
func (s *Switch) planBack(ctx context.Context) (r *plan.Report, err error) {
	r = &plan.Report{UnderWay: true}
	if s.newer.Switch.Durable == config.DurableStrict {
		r.Problems, err = lackReplicas(ctx, s.older, s.newer)
	}
	r.Ready = len(r.Problems) == 0
	return r, err
}

// lackReplicas returns the problems of a strict change, whose keys may be moving already.
func lackReplicas(ctx context.Context, older, newer *config.Config) ([]plan.Problem, error) {
	from, to, err := planSides(ctx, older, newer)
	if err != nil {
		return nil, err
	}
	return plan.Replicas(ctx, from, to), nil
}

// RefuseStrict returns an error if next makes switch.durable strict for keys that are moving, and nodes have no
// replicas for that. Such keys would not move any more, and commands on them would fail.
func RefuseStrict(ctx context.Context, old, next *config.Config) error {
	older := config.Older(next)
	if older == nil || config.Moves(next).Durable != config.DurableStrict ||
		config.InSameState(old, next) && config.Moves(old).Durable == config.DurableStrict {
		return nil
	}
	all, err := lackReplicas(ctx, older, next)
	if err != nil || len(all) == 0 {
		return err
	}
	return config.File(next).Errorf("switch.durable", all[0].Remedy, "%s", all[0].Text)
}

// planSides returns what package plan has to know of the layouts of two configurations.
func planSides(ctx context.Context, older, newer *config.Config) (from, to plan.Side, err error) {
	if from, err = planSide(ctx, older); err == nil {
		to, err = planSide(ctx, newer)
	}
	return from, to, err
}

func planSide(ctx context.Context, c *config.Config) (plan.Side, error) {
	t, err := wiring.FetchLayout(ctx, c)
	tag := c.HashTag
	if t != nil && t.Slotted() {
		tag = "{}"
	}
	return plan.Side{
		Table: t, HashTag: tag, Accounts: wiring.Accounts(c), Connect: c.Backend.ConnectTimeout,
		Reply: c.Backend.RequestTimeout, Cluster: c.Slots.Cluster,
	}, err
}
