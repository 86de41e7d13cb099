package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PlacementHash returns a short hash of all that decides where keys go: the layout with its
// hash, hash tag, slots or ranges, and the nodes' names and weights where they count.
// Addresses are not part of it. Configurations with the same hash place all keys alike,
// and so do all that follow a cluster of the same name, or one without a name.
func (c *Config) PlacementHash() string {
	sum := sha256.Sum256([]byte(strings.Join(c.placement(), "\n")))
	return hex.EncodeToString(sum[:6])
}

// placement returns what PlacementHash covers. The order of nodes and rules does not count
// in any layout.
func (c *Config) placement() []string {
	var parts []string
	switch {
	case c.Clustered() && c.Slots.Cluster != "":
		parts = append(parts, fmt.Sprintf("cluster %q", c.Slots.Cluster))
	case c.Clustered(): // as before clusters could have names: registers have this hash
	case c.Layout == LayoutSlots:
		for name, runs := range c.Slots.Static {
			var owned []int
			for _, run := range runs {
				for slot := int(run.First); slot <= int(run.Last); slot++ {
					owned = append(owned, slot)
				}
			}
			slices.Sort(owned)
			parts = append(parts, fmt.Sprintf("%q %v", name, owned))
		}
	case c.Layout == LayoutRange:
		for _, r := range c.Range.Rules {
			parts = append(parts, r.placement())
		}
		parts = append(parts, fmt.Sprintf("default %q tag %q", c.Range.Default, c.HashTag))
	default:
		hash := c.Ring.Hash
		if c.Layout == LayoutModulo {
			hash = c.Modulo.Hash
		}
		for _, n := range c.Nodes {
			parts = append(parts, fmt.Sprintf("%q %d", n.Name, n.Weight))
		}
		parts = append(parts, fmt.Sprintf("hash %q tag %q", hash, c.HashTag))
	}
	slices.Sort(parts)
	return append([]string{c.Layout}, parts...)
}

// placement returns the rule's text, in which equal numbers look alike.
func (r Rule) placement() string {
	if r.Prefix == nil {
		text := fmt.Sprintf("text %q", *r.From)
		if r.To != nil {
			text += fmt.Sprintf(" to %q", *r.To)
		}
		return text + fmt.Sprintf(" on %q", r.Node)
	}
	from, _ := strconv.ParseInt(*r.From, 10, 64) // checked when the file was read
	to, _ := strconv.ParseInt(*r.To, 10, 64)
	return fmt.Sprintf("numbers %q %d to %d on %q", *r.Prefix, from, to, r.Node)
}
