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
func variants(c *config.Config) []guard.Variant {
	vs := variantList{of: c, known: []string{c.PlacementHash()}}
	for _, layout := range config.Layouts { // the file may have the sections of all
		if layout == config.LayoutSlots && len(c.Slots.Static) == 0 ||
			layout == config.LayoutRange && len(c.Range.Rules) == 0 && c.Range.Default == "" || layout == c.Layout {
			continue
		}
		rule := layout
		switch layout {
		case config.LayoutRing:
			rule = ruleOf(layout, c.Ring.Hash)
		case config.LayoutModulo:
			rule = ruleOf(layout, c.Modulo.Hash)
		}
		vs.add("layout: "+layout+" of this file", rule, func(c *config.Config) { c.Layout = layout })
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
				vs.add("layout: range of this file"+with, with, func(c *config.Config) { c.HashTag = tag })
			}
		}
		vs.addHashes(tag, with)
	}
	if c.Layout == config.LayoutModulo {
		vs.addNodes()
	}
	return vs.all
}

// variantList collects variants.
type variantList struct {
	of    *config.Config
	known []string // the placements of the file and of all
	all   []guard.Variant
}

// add adds a variant, unless it places keys as the file or an earlier one does.
func (l *variantList) add(name, rule string, change func(c *config.Config)) {
	v := *l.of
	change(&v)
	if hash := v.PlacementHash(); !slices.Contains(l.known, hash) {
		l.known = append(l.known, hash)
		l.addTable(name, rule, &v)
	}
}

// addTable adds a variant that is a configuration, if that places keys at all.
func (l *variantList) addTable(name, rule string, v *config.Config) {
	if t, err := table(v, nil); err == nil && len(t.Nodes) > 0 {
		l.all = append(l.all, guard.Variant{Name: name, Rule: rule, Table: t})
	}
}

// ruleOf returns the rule of variants that only differ in the tag.
func ruleOf(layout, hash string) string { return layout + " with " + hash }

// addHashes adds the layouts with a hash, and with a tag.
func (l *variantList) addHashes(tag, with string) {
	for _, hash := range hashring.HashNames() {
		l.add("layout: ring with hash: "+hash+with, ruleOf(config.LayoutRing, hash), func(c *config.Config) {
			c.Layout, c.HashTag, c.Ring.Hash = config.LayoutRing, tag, hash
		})
		l.add("layout: modulo with hash: "+hash+with, ruleOf(config.LayoutModulo, hash), func(c *config.Config) {
			c.Layout, c.HashTag, c.Modulo.Hash = config.LayoutModulo, tag, hash
		})
	}
}

// addNodes adds the layout modulo of the file with a node less or more.
func (l *variantList) addNodes() {
	c := l.of
	// Placements do not tell apart which of two nodes of the same name is the new one.
	add := func(name string, change func(c *config.Config)) {
		v := *c
		change(&v)
		l.addTable(name, name, &v)
	}
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
