package main

import (
	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/wiring"
)

// placement returns where this keyway looks for keys.
func (r *running) placement() admin.Placement {
	cfg := r.cfg.Load()
	return admin.Placement{
		Version: versionText(), Instance: wiring.Instance(cfg), Hash: cfg.PlacementHash(), Config: cfg.PlacementText(),
	}
}

// surveyed returns the survey's findings as the admin address shows them.
func (r *running) surveyed() (all []admin.Surveyed) {
	for _, f := range r.observers.Load().survey.Findings() {
		all = append(all, admin.Surveyed(f))
	}
	return all
}

// guarded returns the guard's findings as the admin address shows them.
func (r *running) guarded() (all []admin.Guarded) {
	for _, s := range r.observers.Load().keys.Findings() {
		all = append(all, admin.Guarded{
			Name: s.Name, Addr: s.Addr, Sampled: s.Sampled, Elsewhere: s.Elsewhere, Ratio: s.Ratio(),
		})
	}
	return all
}
