package router

import (
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// NodeID is an index into Table.Nodes.
type NodeID int32

// None is the NodeID of a key without an owner.
const None NodeID = -1

// Node is a Redis server that keys can live on.
type Node struct {
	Name    string
	Addr    string   // host:port
	Aliases []string // other host:port forms by which redirects may name it
	Master  bool     // may own keys; a replica does not
	// Sentinel reports that sentinels gave the address. The server there may have become
	// a replica since.
	Sentinel bool
	// Replicas are this node's replicas.
	Replicas []NodeID
	Of       string // the name of the node whose replica it is, if WithReplicas has added it
}

// Layout places keys on nodes.
type Layout interface {
	// Place returns the group of key, and the node that owns it or None. Keys of one group
	// always live on one node: a group is a hash slot, or a node.
	Place(key []byte) (group int32, node NodeID)
	// Explain returns the reason for key's place, for people.
	Explain(key []byte) Explanation
	// Shares returns each node's share of the keyspace, in [0, 1].
	Shares() []float64
}

// Explanation is the reason for a key's place. Key and Tag are as of resp.Text.
type Explanation struct {
	Key  string  `json:"key"`
	Tag  string  `json:"hash_tag,omitempty"` // the text that was hashed, if not the whole key
	Slot *uint16 `json:"slot,omitempty"`
	Hash *uint32 `json:"hash,omitempty"`
	Rule string  `json:"rule,omitempty"`
	Node string  `json:"node,omitempty"`
	Addr string  `json:"addr,omitempty"`
	// From is the node that the key may still be on, while the layout changes.
	From string `json:"moves_from,omitempty"`
}

// Table is one snapshot of layout and nodes.
type Table struct {
	Layout
	Name     string // slots, ring, range or modulo
	Nodes    []Node // except in a cluster, replicas come after all nodes that own keys by the layout
	byAddr   map[string]NodeID
	orphaned bool
	from     *origin // of a moving table; see Moving
}

func newTable(name string, layout Layout, nodes []Node) *Table {
	t := &Table{Layout: layout, Name: name, Nodes: nodes, byAddr: make(map[string]NodeID, len(nodes))}
	for i, n := range nodes {
		for _, a := range n.Aliases {
			t.byAddr[a] = NodeID(i)
		}
	}
	for i, n := range nodes {
		t.byAddr[n.Addr] = NodeID(i)
	}
	return t
}

// Clustered reports whether the nodes are a Redis Cluster. Its nodes may answer with
// redirects, and the keys of one command must be in one slot.
func (t *Table) Clustered() bool {
	s, ok := t.Layout.(*slotLayout)
	return ok && s.cluster
}

// Orphaned reports whether a replica's master has failed, so that slots without an
// owner may soon have one again.
func (t *Table) Orphaned() bool { return t.orphaned }

// Changes reports whether nodes or owners may change by themselves: in a Redis Cluster,
// and if sentinels monitor nodes.
func (t *Table) Changes() bool {
	return t.Clustered() || slices.ContainsFunc(t.Nodes, func(n Node) bool { return n.Sentinel })
}

// Slotted reports whether keys are placed by hash slot.
func (t *Table) Slotted() bool {
	_, ok := t.Layout.(*slotLayout)
	return ok
}

// ByAddr returns the node with the address or alias addr.
func (t *Table) ByAddr(addr string) (NodeID, bool) {
	id, ok := t.byAddr[addr]
	return id, ok
}

// Owners returns the nodes that may own keys.
func (t *Table) Owners() (ids []NodeID) {
	for i, n := range t.Nodes {
		if n.Master {
			ids = append(ids, NodeID(i))
		}
	}
	return ids
}

// SlotOwner returns the owner of slot; the table must be Slotted.
func (t *Table) SlotOwner(slot int32) NodeID {
	return NodeID(t.Layout.(*slotLayout).m.Owner(uint16(slot)))
}

// WithReplicas returns a table that also has the replicas of each node. replicas[i] are the
// addresses of the replicas of Nodes[i].
func (t *Table) WithReplicas(replicas [][]string) *Table {
	nodes := append([]Node(nil), t.Nodes...)
	for i, addrs := range replicas {
		for _, addr := range addrs {
			if _, known := t.byAddr[addr]; !known {
				nodes[i].Replicas = append(nodes[i].Replicas, NodeID(len(nodes)))
				nodes = append(nodes, Node{Name: addr, Addr: addr, Of: t.Nodes[i].Name})
			}
		}
	}
	with := newTable(t.Name, t.Layout, nodes)
	with.from = t.from
	return with
}

// Private returns a copy of the table, whose holder may call Move. The table must be
// Slotted.
func (t *Table) Private() *Table {
	s := t.Layout.(*slotLayout)
	c := *t
	c.Nodes = slices.Clone(t.Nodes)
	c.Layout = &slotLayout{m: s.m.Clone(), cluster: s.cluster, nodes: c.Nodes}
	return &c
}

// Move makes node the owner of slot in a Private table. It reports whether node was a
// replica, and is thereby promoted.
func (t *Table) Move(slot int32, node NodeID) (promoted bool) {
	t.Layout.(*slotLayout).m.Move(uint16(slot), int(node))
	promoted = !t.Nodes[node].Master
	t.Nodes[node].Master = true
	return promoted
}

// ExplainKey returns the reason for key's place, and its node.
func (t *Table) ExplainKey(key []byte) Explanation {
	e := t.Explain(key)
	e.Key, e.Tag = resp.Text(key), resp.Text([]byte(e.Tag))
	if _, n := t.Place(key); n != None {
		e.Node, e.Addr = t.Nodes[n].Name, t.Nodes[n].Addr
	}
	if t.IsMoving() {
		if from := t.From(key); from >= 0 {
			e.From = t.Nodes[from].Name
		}
	}
	return e
}

type slotLayout struct {
	m       *slots.Map
	nodes   []Node
	cluster bool
}

// NewSlots returns the table of a Redis Cluster with that slot map.
func NewSlots(m *slots.Map) *Table {
	nodes := make([]Node, len(m.Nodes()))
	for i, n := range m.Nodes() {
		nodes[i] = Node{Name: n.Addr, Addr: n.Addr, Aliases: n.Aliases, Master: n.Master}
	}
	t := newTable("slots", &slotLayout{m: m, nodes: nodes, cluster: true}, nodes)
	for i, n := range m.Nodes() {
		if master, known := t.ByAddr(n.Of); known && !n.Master {
			nodes[master].Replicas = append(nodes[master].Replicas, NodeID(i))
		} else if n.Replica {
			t.orphaned = true
		}
	}
	return t
}

// NewStaticSlots returns a table of standalone nodes. owned[i] are the slots of nodes[i].
func NewStaticSlots(nodes []Node, owned [][]slots.Range) (*Table, error) {
	sn := make([]slots.Node, len(nodes))
	for i, n := range nodes {
		sn[i] = slots.Node{Addr: n.Addr, Master: true}
	}
	m, err := slots.NewMap(sn, owned)
	if err != nil {
		return nil, err
	}
	return newTable("slots", &slotLayout{m: m, nodes: nodes}, nodes), nil
}

func (s *slotLayout) Place(key []byte) (int32, NodeID) {
	slot := slots.Of(key)
	return int32(slot), NodeID(s.m.Owner(slot))
}

func (s *slotLayout) Explain(key []byte) Explanation {
	slot := slots.Of(key)
	return Explanation{Tag: tagOf(key, "{}"), Slot: &slot}
}

func (s *slotLayout) Shares() []float64 {
	shares := make([]float64, len(s.nodes))
	for slot := range slots.Count {
		if o := s.m.Owner(uint16(slot)); o != slots.Unowned {
			shares[o] += 1.0 / slots.Count
		}
	}
	return shares
}

// hashTag is the configured pair of delimiters. The zero value means that there are none.
type hashTag struct {
	opening, closing byte
	on               bool
}

func newHashTag(s string) (hashTag, error) {
	switch len(s) {
	case 0:
		return hashTag{}, nil
	case 2:
		return hashTag{s[0], s[1], true}, nil
	}
	return hashTag{}, fmt.Errorf("hash_tag %q: write two characters, such as \"{}\", or \"\" for none", s)
}

// of returns the text in key that the layout hashes.
func (h hashTag) of(key []byte) []byte {
	if !h.on {
		return key
	}
	return slots.Tag(key, h.opening, h.closing)
}

// tagOf returns the hash tag of key, empty if the whole key is hashed.
func tagOf(key []byte, delimiters string) string {
	h, _ := newHashTag(delimiters)
	if tag := h.of(key); len(tag) != len(key) {
		return string(tag)
	}
	return ""
}
