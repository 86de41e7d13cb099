package main

import (
	"context"
	"log/slog"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

// admit returns an error if keyway must not serve: the configuration is wrong, or clients
// would not find the keys that are on the nodes. Otherwise it returns the guard that goes
// on looking.
func admit(ctx context.Context, cfg *config.Config, log *slog.Logger) (*guard.Guard, error) {
	keys, t, err := wiring.NewGuard(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err := keys.Start(ctx, t); err != nil {
		return nil, cfg.Errorf("placement.misplaced", "", "%v", err)
	}
	return keys, nil
}

// surveyed returns the survey's findings as the admin address shows them.
func surveyed(s *topology.Survey) func() []admin.Surveyed {
	return func() (all []admin.Surveyed) {
		for _, f := range s.Findings() {
			all = append(all, admin.Surveyed(f))
		}
		return all
	}
}

// guarded returns the guard's findings as the admin address shows them.
func guarded(g *guard.Guard) func() []admin.Guarded {
	return func() (all []admin.Guarded) {
		for _, s := range g.Findings() {
			all = append(all, admin.Guarded{
				Name: s.Name, Addr: s.Addr, Sampled: s.Sampled, Elsewhere: s.Elsewhere, Ratio: s.Ratio(),
			})
		}
		return all
	}
}
