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
	// hashesAlike reports that both layouts place a key by the same hash of it.
	hashesAlike bool
	unowned     NodeID // what From returns for a key without a node in older
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
	if from.unowned = None; older.Clustered() {
		from.unowned = Unknown
	}
	a, isHashed := older.Layout.(*hashLayout)
	b, areHashed := newer.Layout.(*hashLayout)
	from.hashesAlike = isHashed && areHashed && a.hash == b.hash && a.tag == b.tag
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
	var was NodeID
	newer, older := t.Layout, t.from.older.Layout
	newSlots, _ := newer.(*slotLayout)
	oldSlots, _ := older.(*slotLayout)
	newHash, _ := newer.(*hashLayout)
	oldHash, _ := older.(*hashLayout)
	switch {
	case newSlots != nil && oldSlots != nil:
		slot := slots.Of(key)
		group, node, was = int32(slot), NodeID(newSlots.m.Owner(slot)), NodeID(oldSlots.m.Owner(slot))
	case newSlots != nil && oldHash != nil:
		var slot uint16
		slot, was = oldHash.placeAndSlot(key)
		group, node = int32(slot), NodeID(newSlots.m.Owner(slot))
	case newHash != nil && oldSlots != nil:
		var slot uint16
		slot, node = newHash.placeAndSlot(key)
		group, was = int32(node), NodeID(oldSlots.m.Owner(slot))
	case newHash != nil && t.from.hashesAlike:
		point := newHash.Point(newHash.tag.of(key))
		node = NodeID(newHash.At(point))
		group, was = int32(node), NodeID(oldHash.At(point))
	default:
		group, node = t.Place(key)
		_, was = older.Place(key)
	}
	if was == None {
		return group, node, t.from.unowned
	}
	if from = t.from.ids[was]; from == node {
		from = None
	}
	return group, node, from
}

// Shares returns each node's share of the key space, in [0, 1], or nil if that is not known.
func (t *Table) Shares() []float64 {
	shares := t.Layout.Shares()
	if shares == nil || t.from == nil {
		return shares
	}
	return append(shares, make([]float64, len(t.Nodes)-len(shares))...)
}
