package slots

import "fmt"

// Unowned marks a slot that no node serves.
const Unowned = -1

// Node is one server of a cluster.
type Node struct {
	ID      string   // the cluster's own name for the node, if known
	Addr    string   // host:port to connect to
	Aliases []string // other host:port forms by which redirects may name it
	Master  bool
	Replica bool   // reports itself as a replica
	Of      string // the address of a replica's master
}

// Range is a run of slots, both ends included.
type Range struct{ First, Last uint16 }

// Map holds the owner of each slot. It may be read from any goroutine, because only the
// sole holder of a Clone changes one.
type Map struct {
	nodes []Node
	owner [Count]int16
}

// NewMap returns a map of nodes. owned[i] are the slots of nodes[i].
func NewMap(nodes []Node, owned [][]Range) (*Map, error) {
	m := &Map{nodes: nodes}
	for s := range m.owner {
		m.owner[s] = Unowned
	}
	for i, ranges := range owned {
		for _, r := range ranges {
			if r.Last >= Count || r.First > r.Last {
				return nil, fmt.Errorf("slot range %d-%d is not within 0-%d", r.First, r.Last, Count-1)
			}
			for s := int(r.First); s <= int(r.Last); s++ {
				if j := m.owner[s]; j != Unowned && int(j) != i {
					return nil, fmt.Errorf("slot %d is given to both %s and %s", s, nodes[j].Addr, nodes[i].Addr)
				}
				m.owner[s] = int16(i)
			}
		}
	}
	return m, nil
}

// Nodes returns the cluster's servers, with replicas. The caller must not change them.
func (m *Map) Nodes() []Node { return m.nodes }

// Owner returns the index in Nodes of the owner of slot, or Unowned.
func (m *Map) Owner(slot uint16) int { return int(m.owner[slot]) }

// Covered returns the number of slots that have an owner.
func (m *Map) Covered() int {
	n := 0
	for _, o := range m.owner {
		if o != Unowned {
			n++
		}
	}
	return n
}

// Same reports whether both maps have the same nodes and owners.
func (m *Map) Same(o *Map) bool {
	if o == nil || len(m.nodes) != len(o.nodes) || m.owner != o.owner {
		return false
	}
	for i := range m.nodes {
		if a, b := &m.nodes[i], &o.nodes[i]; a.Addr != b.Addr || a.Master != b.Master || a.Of != b.Of {
			return false
		}
	}
	return true
}

// Clone returns a copy of the map.
func (m *Map) Clone() *Map {
	c := *m
	return &c
}

// Move makes node the owner of slot. Only the sole holder of a map may call it.
func (m *Map) Move(slot uint16, node int) { m.owner[slot] = int16(node) }
