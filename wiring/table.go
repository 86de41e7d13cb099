package wiring

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/hashring"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/topology"
)

// table returns the routing table of a configuration. shards are the sentinels' reports,
// by the index in c.Nodes; a master that they have not reported yet has no address. For
// a cluster that keyway follows, the table is empty, because only the cluster knows its
// slots: see router.NewSlots. Errors are *config.Error.
func table(c *config.Config, shards []topology.Shard) (*router.Table, error) {
	nodes := make([]router.Node, len(c.Nodes))
	replicas := make([][]string, len(c.Nodes))
	for i, n := range c.Nodes {
		at := topology.Shard{Master: n.Addr, Replicas: n.Replicas}
		if n.Sentinel != nil && i < len(shards) {
			at = shards[i]
		}
		nodes[i] = router.Node{Name: n.Name, Addr: at.Master, Master: true, Sentinel: n.Sentinel != nil}
		replicas[i] = at.Replicas
	}
	t, err := layout(c, nodes)
	if err != nil {
		return nil, err
	}
	return t.WithReplicas(replicas), nil
}

func layout(c *config.Config, nodes []router.Node) (*router.Table, error) {
	weights := make([]int, len(nodes))
	for i, n := range c.Nodes {
		weights[i] = n.Weight
	}
	switch c.Layout {
	case config.LayoutRing:
		t, err := router.NewRing(nodes, router.Hashed{Hash: c.Ring.Hash, HashTag: c.HashTag, Weights: weights})
		return t, hashError(c, "ring", err)
	case config.LayoutModulo:
		t, err := router.NewModulo(nodes, router.Hashed{Hash: c.Modulo.Hash, HashTag: c.HashTag, Weights: weights})
		return t, hashError(c, "modulo", err)
	case config.LayoutRange:
		return rangeTable(c, nodes)
	}
	if len(c.Slots.Static) == 0 {
		m, err := slots.NewMap(nil, nil)
		return router.NewSlots(m), err
	}
	owned := make([][]slots.Range, len(nodes))
	for name, ranges := range c.Slots.Static {
		for _, r := range ranges {
			owned[c.Node(name)] = append(owned[c.Node(name)], slots.Range{First: r.First, Last: r.Last})
		}
	}
	t, err := router.NewStaticSlots(nodes, owned)
	if err != nil {
		return nil, c.Errorf("slots.static", "give each slot to one node", "%v", err)
	}
	return t, nil
}

func hashError(c *config.Config, section string, err error) error {
	var unknown *router.UnknownHashError
	if errors.As(err, &unknown) {
		return c.Errorf(section+".hash", "write one of "+strings.Join(hashring.HashNames(), ", "),
			"unknown hash %q", unknown.Hash)
	}
	if err != nil {
		return c.Errorf(section, "", "%v", err)
	}
	return nil
}

func rangeTable(c *config.Config, nodes []router.Node) (*router.Table, error) {
	rules := make([]router.Rule, len(c.Range.Rules))
	for i, r := range c.Range.Rules {
		rule := router.Rule{Node: router.NodeID(c.Node(r.Node))}
		if r.Prefix != nil {
			rule.Numeric, rule.Prefix = true, *r.Prefix
			rule.From, _ = strconv.ParseInt(*r.From, 10, 64) // package config has checked both
			rule.To, _ = strconv.ParseInt(*r.To, 10, 64)
		} else {
			rule.Text = *r.From
			if r.To != nil {
				rule.TextTo = *r.To
			}
		}
		rules[i] = rule
	}
	fallback := router.None
	if c.Range.Default != "" {
		fallback = router.NodeID(c.Node(c.Range.Default))
	}
	t, err := router.NewRange(nodes, rules, fallback, c.HashTag)
	var overlap *router.OverlapError
	if errors.As(err, &overlap) {
		return nil, c.Errorf(fmt.Sprintf("range.rules[%d]", overlap.B), "let each key belong to one rule",
			"overlaps with range.rules[%d] (%s and %s)", overlap.A, rules[overlap.A], rules[overlap.B])
	}
	var gap *router.GapError
	if errors.As(err, &gap) {
		return nil, c.Errorf(fmt.Sprintf("range.rules[%d]", gap.B),
			"close the gap, or add default: NAME for what no rule holds",
			"no rule holds %s, the keys between range.rules[%d] and this one", gap.Missing, gap.A)
	}
	if err != nil {
		return nil, c.Errorf("range", "", "%v", err)
	}
	return t, nil
}
