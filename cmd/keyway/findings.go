package main

import (
	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/topology"
)

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
