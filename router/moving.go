package router

import (
	"slices"

	"github.com/keyway-proxy/keyway/slots"
)

// origin is where a moving table's keys were before.
type origin struct {
	older *Table
	ids   []NodeID // the moving table's nodes for those of older
	newer int      // how many nodes of the moving table are of the newer layout: the first ones
}

// Moving returns the table of a change of the layout that is under way: keys are placed as in
// newer, and those that older places on another node may still be there. Its nodes are
// those of newer, in the same order, and then the masters that only older has. A node is the
// same in both if it has the same address: a key that is somewhere else has to be moved,
// whatever the names.
func Moving(older, newer *Table) *Table {
	from := &origin{older: older, ids: make([]NodeID, len(older.Nodes)), newer: len(newer.Nodes)}
	nodes := slices.Clone(newer.Nodes)
	for i, n := range older.Nodes {
		id, ok := newer.sameNode(n)
		if !ok && n.Master {
			id = NodeID(len(nodes))
			nodes = append(nodes, Node{
				Name: n.Name, Addr: n.Addr, Aliases: n.Aliases, Master: true, Sentinel: n.Sentinel,
			})
		}
		from.ids[i] = id
	}
	t := newTable(newer.Name, newer.Layout, nodes)
	t.orphaned, t.from = newer.orphaned, from
	return t
}

// Sides returns tables of both layouts. The table must be moving.
func (t *Table) Sides() (older, newer *Table) {
	newer = newTable(t.Name, t.Layout, t.Nodes[:t.from.newer])
	newer.orphaned = t.orphaned
	return t.from.older, newer
}

// sameNode returns the node of the table with an address of n.
func (t *Table) sameNode(n Node) (NodeID, bool) {
	for _, addr := range append([]string{n.Addr}, n.Aliases...) {
		if id, ok := t.ByAddr(addr); ok && addr != "" {
			return id, true
		}
	}
	return None, false
}

// IsMoving reports whether Moving has made the table, so that keys may be where From says.
func (t *Table) IsMoving() bool { return t.from != nil }

// IsFormer reports whether a node is one of the older layout only. Nothing new goes there.
func (t *Table) IsFormer(id NodeID) bool { return t.from != nil && int(id) >= t.from.newer }

// FromCluster reports whether keys move from a Redis Cluster.
func (t *Table) FromCluster() bool { return t.from != nil && t.from.older.Clustered() }

// Unknown is what From returns for a key whose node nobody knows at the moment.
const Unknown NodeID = -2

// From returns the node on which the key was before the change, if that is another one than
// the node that owns it now, and None otherwise. The table must be moving. If the older layout is
// that of a cluster, in which no node owns the key's slot now, From returns Unknown: the key may be
// on a node that will own the slot again.
func (t *Table) From(key []byte) NodeID {
	_, _, from := t.PlaceMoving(key)
	return from
}

// PlaceMoving returns what Place and From return. If both layouts hash keys alike, it hashes the key
// only once.
func (t *Table) PlaceMoving(key []byte) (group int32, node, from NodeID) {
	group, node, was := t.placeInBoth(key)
	if was == None {
		if t.from.older.Clustered() {
			return group, node, Unknown
		}
		return group, node, None
	}
	if from = t.from.ids[was]; from == node {
		from = None
	}
	return group, node, from
}

// placeInBoth returns the key's place, and its node in the older layout.
func (t *Table) placeInBoth(key []byte) (group int32, node, was NodeID) {
	switch newer := t.Layout.(type) {
	case *slotLayout:
		if older, ok := t.from.older.Layout.(*slotLayout); ok {
			slot := slots.Of(key)
			return int32(slot), NodeID(newer.m.Owner(slot)), NodeID(older.m.Owner(slot))
		}
	case *hashLayout:
		if older, ok := t.from.older.Layout.(*hashLayout); ok && older.hash == newer.hash && older.tag == newer.tag {
			point := newer.Point(newer.tag.of(key))
			node = NodeID(newer.At(point))
			return int32(node), node, NodeID(older.At(point))
		}
	}
	group, node = t.Place(key)
	_, was = t.from.older.Place(key)
	return group, node, was
}

// Shares returns each node's share of the key space, in [0, 1], or nil if that is not known.
func (t *Table) Shares() []float64 {
	shares := t.Layout.Shares()
	if shares == nil || t.from == nil {
		return shares
	}
	return append(shares, make([]float64, len(t.Nodes)-len(shares))...)
}
