package wiring

import (
	"context"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/topology"
)

// InspectLocks asks the nodes of each rule of locks.quorum about themselves. The reports are in
// the order of the rules and of their nodes.
func InspectLocks(ctx context.Context, c *config.Config) []topology.LockReport {
	var nodes []topology.LockNode
	for i, r := range c.Locks.Quorum {
		as := lockAccount(c, i)
		for _, addr := range r.Nodes {
			nodes = append(nodes, topology.LockNode{Addr: addr, As: as})
		}
	}
	return topology.InspectLocks(ctx, nodes, c.Backend.ConnectTimeout)
}
