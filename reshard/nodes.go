package reshard

import (
	"context"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

// Home returns the node whose register has the records of the next change of a configuration's
// layout, by its present table. It is nil if the table has no nodes yet. In a cluster it is the owner
// of slot 0: a replica that takes over has another name, but the same slots and records.
func Home(c *config.Config, t *router.Table) *switching.Node {
	nodes := mastersOf(c, t)
	if len(nodes) == 0 {
		return nil
	}
	// While the layout is replaced, the configuration and the table may be of different layouts.
	if c.Clustered() && t.Slotted() {
		if id := t.SlotOwner(0); id != router.None {
			home := nodes[slices.IndexFunc(nodes, func(n *switching.Node) bool { return n.Addr == t.Nodes[id].Addr })]
			home.OwnsSlot0 = true
			return home
		}
	}
	return slices.MinFunc(nodes, byName)
}

// mastersOf returns the masters of a table, apart from those that only an older layout has.
func mastersOf(c *config.Config, t *router.Table) (nodes []*switching.Node) {
	as := wiring.Accounts(c)
	for _, id := range t.Owners() {
		n := t.Nodes[id]
		if n.Addr == "" || !c.Clustered() && c.Node(n.Name) < 0 {
			continue
		}
		of := &switching.Node{
			Name: n.Name, Addr: n.Addr, Account: as(n), ConnectTimeout: c.Backend.ConnectTimeout,
		}
		for _, r := range n.Replicas {
			of.Replicas = append(of.Replicas, t.Nodes[r].Addr)
		}
		nodes = append(nodes, of)
	}
	return nodes
}

// sideNodes returns the masters of a configuration's own layout.
func sideNodes(ctx context.Context, c *config.Config) ([]*switching.Node, error) {
	t, err := wiring.FetchLayout(ctx, c)
	if err != nil {
		return nil, err
	}
	return mastersOf(c, t), nil
}

// byName compares nodes by their names.
func byName(a, b *switching.Node) int { return strings.Compare(a.Name, b.Name) }

// scanned returns the layout of a configuration alone, and asks the cluster or the sentinels.
func scanned(ctx context.Context, c *config.Config) (migrate.Layout, error) {
	t, err := wiring.FetchLayout(ctx, c)
	return migrate.Layout{
		Table: t, Account: wiring.Accounts(c), ConnectTimeout: c.Backend.ConnectTimeout,
		Placement: c.PlacementHash(),
	}, err
}

// keyways returns the keyways among the clients of a node.
func keyways(clients string) (all []migrate.Keyway) {
	for _, k := range guard.Keyways(clients) {
		all = append(all, migrate.Keyway(k))
	}
	return all
}
