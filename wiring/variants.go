package wiring

import (
	"cmp"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/hashring"
)

// variants returns the ways to place keys that differ from the configuration by one change
// that people make, the likeliest first.
func variants(c *config.Config) (all []guard.Variant) {
	add := func(name string, change func(c *config.Config)) {
		v := *c
		change(&v)
		if t, err := table(&v, nil); err == nil && len(t.Nodes) > 0 {
			all = append(all, guard.Variant{Name: name, Table: t})
		}
	}
	for _, layout := range config.Layouts { // the file may have the sections of all
		if layout == config.LayoutSlots && len(c.Slots.Static) == 0 ||
			layout == config.LayoutRange && len(c.Range.Rules) == 0 && c.Range.Default == "" || layout == c.Layout {
			continue
		}
		add("layout: "+layout+" of this file", func(c *config.Config) { c.Layout = layout })
	}
	tags := []string{c.HashTag, "{}", ""}
	for i, tag := range tags {
		if slices.Contains(tags[:i], tag) {
			continue
		}
		with := ""
		if tag != c.HashTag {
			with = ` and hash_tag: "` + tag + `"`
			if c.Layout == config.LayoutRange {
				add("layout: range of this file"+with, func(c *config.Config) { c.HashTag = tag })
			}
		}
		for _, hash := range hashring.HashNames() {
			add("layout: ring with hash: "+hash+with, func(c *config.Config) {
				c.Layout, c.HashTag, c.Ring.Hash = config.LayoutRing, tag, hash
			})
			add("layout: modulo with hash: "+hash+with, func(c *config.Config) {
				c.Layout, c.HashTag, c.Modulo.Hash = config.LayoutModulo, tag, hash
			})
		}
	}
	if c.Layout == config.LayoutModulo {
		for i, n := range c.Nodes {
			add("this file without node "+n.Name, func(c *config.Config) {
				c.Nodes = slices.Delete(slices.Clone(c.Nodes), i, i+1)
			})
		}
		// Modulo takes the nodes in the order of their names. The node that is no more has the
		// name of the next one here, so it comes right before that.
		for i, n := range c.Nodes {
			add("this file with one more node, whose name comes before "+n.Name, func(c *config.Config) {
				c.Nodes = slices.Insert(slices.Clone(c.Nodes), i, config.Node{Name: n.Name, Weight: 1})
			})
		}
		last := slices.MaxFunc(c.Nodes, func(a, b config.Node) int {
			return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
		})
		add("this file with one more node, whose name comes after "+last.Name, func(c *config.Config) {
			c.Nodes = append(slices.Clone(c.Nodes), config.Node{Name: last.Name, Weight: 1})
		})
	}
	return all
}
