package admin

import (
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

// Layout is which node has which keys.
type Layout struct {
	Type    string `json:"type"`    // slots, ring, modulo or range
	Cluster bool   `json:"cluster"` // the nodes are a Redis Cluster
	Epoch   int64  `json:"epoch"`   // of the layout; 0: the nodes have no register
	// Places is how many slots there are, points of the ring, or remainders of the modulo; 0 for a range.
	Places uint64       `json:"places"`
	Nodes  []LayoutNode `json:"nodes"`
	Spans  []LayoutSpan `json:"spans"` // all places, in order; empty for a range
	Rules  []LayoutRule `json:"rules"` // of a range
	// Default is the node of the keys that no rule of a range matches; empty: they have none.
	Default string `json:"default,omitempty"`
	// Migrating are the slots that a cluster moves, as far as its nodes have said within the last seconds: keyway asks
	// them while somebody looks.
	Migrating []topology.Migration `json:"migrating"`
	// From is the layout before, while it changes.
	From *Layout `json:"from,omitempty"`
}

// LayoutNode is a node that has keys.
type LayoutNode struct {
	Name     string   `json:"name"`
	Addr     string   `json:"addr"`
	Share    *float64 `json:"share,omitempty"`  // of all places; nil: not known
	Former   bool     `json:"former,omitempty"` // only the layout before has it
	Replicas []string `json:"replicas"`         // their addresses
}

// LayoutSpan is a run of places of one node.
type LayoutSpan struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Node  string `json:"node,omitempty"` // empty: no node has them
	// From is the node on which keys of these places may still be, while the layout changes.
	From string `json:"moves_from,omitempty"`
}

// LayoutRule is a rule of a range.
type LayoutRule struct {
	Rule    string `json:"rule"` // as /route names it
	Node    string `json:"node"`
	Numeric bool   `json:"numeric"`
	Prefix  string `json:"prefix,omitempty"`
	From    *int64 `json:"from,omitempty"` // the numbers after the prefix
	To      *int64 `json:"to,omitempty"`
	// Texts from the one to before the other; empty: there is no bound.
	Text   string `json:"text_from,omitempty"`
	TextTo string `json:"text_before,omitempty"`
}

// LayoutOf describes a table. While the layout changes, From has the one before.
func LayoutOf(t *router.Table, epoch int64) *Layout {
	l := &Layout{
		Type: t.Name, Cluster: t.Clustered(), Epoch: epoch,
		Nodes: []LayoutNode{}, Spans: []LayoutSpan{}, Rules: []LayoutRule{},
		Migrating: []topology.Migration{},
	}
	name := func(id router.NodeID) string {
		if id < 0 || int(id) >= len(t.Nodes) {
			return ""
		}
		return t.Nodes[id].Name
	}
	shares := t.Shares()
	for _, id := range t.Owners() {
		n := LayoutNode{Name: name(id), Addr: t.Nodes[id].Addr, Former: t.IsFormer(id), Replicas: []string{}}
		if int(id) < len(shares) {
			n.Share = &shares[id]
		}
		for _, replica := range t.Nodes[id].Replicas {
			n.Replicas = append(n.Replicas, t.Nodes[replica].Addr)
		}
		l.Nodes = append(l.Nodes, n)
	}
	spans, places := t.Spans()
	l.Places = places
	for _, s := range spans {
		l.Spans = append(l.Spans, LayoutSpan{First: s.First, Last: s.Last, Node: name(s.Node), From: name(s.From)})
	}
	rulers, fallback := t.Rulers()
	l.Default = name(fallback)
	for _, of := range rulers {
		for _, r := range of.Rules {
			l.Rules = append(l.Rules, ruleOf(r, name(r.Node)))
		}
	}
	if t.IsMoving() {
		older, _ := t.Sides()
		l.From = LayoutOf(older, 0)
	}
	return l
}

// ruleOf describes a rule of a range.
func ruleOf(r router.Rule, node string) LayoutRule {
	text := func(s string) string { return resp.Text([]byte(s)) }
	of := LayoutRule{Rule: r.String(), Node: node, Numeric: r.Numeric, Prefix: text(r.Prefix)}
	if r.Numeric {
		of.From, of.To = &r.From, &r.To
	} else {
		of.Text, of.TextTo = text(r.Text), text(r.TextTo)
	}
	return of
}
