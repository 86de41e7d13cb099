package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// placementSections are the top-level keys that PlacementText writes.
var placementSections = []string{"layout", "hash_tag", "nodes", "slots", "ring", "range", "modulo"}

// PlacementText returns what decides where this configuration looks for keys, as a
// configuration of its own: the layout, and the nodes with their addresses. It has no user
// and no password. ParsePlacement reads it.
func (c *Config) PlacementText() []byte {
	nodes := make([]map[string]any, len(c.Nodes))
	for i, n := range c.Nodes {
		nodes[i] = map[string]any{"name": n.Name, "weight": n.Weight}
		if s := n.Sentinel; s != nil {
			nodes[i]["sentinel"] = map[string]any{"master": s.Master, "addrs": s.Addrs}
			continue
		}
		nodes[i]["addr"] = n.Addr
		if len(n.Replicas) > 0 {
			nodes[i]["replicas"] = n.Replicas
		}
	}
	file := map[string]any{"layout": c.Layout, "hash_tag": c.HashTag}
	if len(nodes) > 0 {
		file["nodes"] = nodes
	}
	switch c.Layout {
	case LayoutSlots:
		file["slots"] = c.Slots.placementText()
	case LayoutRing:
		file["ring"] = map[string]any{"hash": c.Ring.Hash}
	case LayoutModulo:
		file["modulo"] = map[string]any{"hash": c.Modulo.Hash}
	case LayoutRange:
		file["range"] = c.Range.placementText()
	}
	text, err := json.Marshal(file) // JSON is YAML too
	if err != nil {
		panic(fmt.Sprintf("config: %v", err)) // only texts and numbers
	}
	return text
}

func (s Slots) placementText() map[string]any {
	if len(s.Seeds) > 0 {
		text := map[string]any{"seeds": s.Seeds}
		if s.Cluster != "" {
			text["cluster"] = s.Cluster
		}
		return text
	}
	static := map[string]string{}
	for name, runs := range s.Static {
		static[name] = runs.String()
	}
	return map[string]any{"static": static}
}

func (r Range) placementText() map[string]any {
	rules := make([]map[string]string, len(r.Rules))
	for i, rule := range r.Rules {
		rules[i] = map[string]string{"node": rule.Node}
		for name, value := range map[string]*string{"prefix": rule.Prefix, "from": rule.From, "to": rule.To} {
			if value != nil {
				rules[i][name] = *value
			}
		}
	}
	text := map[string]any{"rules": rules}
	if r.Default != "" {
		text["default"] = r.Default
	}
	return text
}

// ParsePlacement decodes and checks a text of PlacementText. It reads no file and no
// environment variable, so the text may come from others. name says whose it is.
func ParsePlacement(name string, text []byte) (*Config, error) {
	pools, err := decodePools(name, text, func(name string) (string, bool) { return "${" + name + "}", true })
	c, err := only(pools, err)
	if err != nil {
		return nil, err
	}
	for _, path := range sortedKeys(c.positions) {
		section := sectionOf(path)
		if !slices.Contains(placementSections, section) {
			return nil, c.Errorf(path, "leave it out", "%s does not decide where keys live", section)
		}
	}
	if all := nodeTLSs(c); len(all) > 0 {
		return nil, c.Errorf(sortedKeys(all)[0], "leave it out", "tls does not decide where keys live")
	}
	for path := range logins(c) { // a command above all must not come from others
		if key := loginKey(c, path); key != "" {
			return nil, c.Errorf(path+"."+key, "leave it out", "%s does not decide where keys live", key)
		}
	}
	c.Listen = Listeners{{Addr: "127.0.0.1:0"}} // the default could be a node's address
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// Next returns the configuration that placement.next names, or nil if there is none. An
// error in either file is an *Error.
func (c *Config) Next() (*Config, error) {
	if c.Placement.Next == "" {
		return nil, nil
	}
	next, err := Load(c.NextFile())
	if err != nil {
		return nil, c.Errorf("placement.next", "correct that file, or leave next out", "%v", err)
	}
	return next, nil
}

// NextFile returns the path of the file that placement.next names; empty if there is none.
func (c *Config) NextFile() string {
	if c.Placement.Next == "" {
		return ""
	}
	return c.beside(c.Placement.Next)
}

// InEpoch returns the configuration with the placement that the nodes' registers say is in
// force since an epoch. That of the file stays if both place all keys alike. Otherwise nodes
// keep the addresses that the file has for their names. Errors are those of a file with that
// placement.
func (c *Config) InEpoch(epoch int64, inForce *Config) (*Config, error) {
	next := *c
	next.epoch, next.replaced, next.older, next.planned = epoch, nil, nil, nil
	if inForce.PlacementHash() == c.PlacementHash() {
		return &next, nil
	}
	next.replaced = c
	next.Layout, next.HashTag, next.layouts = inForce.Layout, inForce.HashTag, inForce.layouts
	next.Nodes = slices.Clone(inForce.Nodes)
	next.UseAccounts(c)
	for i, n := range next.Nodes {
		if j := c.Node(n.Name); j >= 0 {
			next.Nodes[i] = c.Nodes[j]
			next.Nodes[i].Weight = n.Weight
		} else if j := nodeNamed(c.left, n.Name); j >= 0 {
			next.Nodes[i].Login, next.Nodes[i].TLS = c.left[j].Login, c.left[j].TLS
		}
	}
	next.positions = map[string]position{}
	for path, at := range c.positions {
		if !slices.Contains(placementSections, sectionOf(path)) {
			next.positions[path] = at
		}
	}
	return &next, next.check()
}

// InChange is InEpoch while keys move from where an older placement has them, as planned says. nil: that
// is not known.
func InChange(c *Config, epoch int64, older, newer *Config, planned *Planned) (*Config, error) {
	before, err := c.InEpoch(epoch, older)
	if err != nil {
		return nil, err
	}
	next, err := c.InEpoch(epoch, newer)
	if err != nil {
		return nil, err
	}
	next.older, next.planned = before, planned
	return next, nil
}

// Planned is what the plan of a change says of how keys move.
type Planned struct {
	Switch
	Incarnations map[string]string // of the nodes that keys leave; see register.Options
}

// PlanOf returns what the plan says of the change that is under way; nil: that is not known.
func PlanOf(c *Config) *Planned { return c.planned }

// Incarnations returns what the plan says of the nodes that keys leave, by their addresses; nil: nothing.
func Incarnations(c *Config) map[string]string {
	if c.planned == nil {
		return nil
	}
	return c.planned.Incarnations
}

// Moves returns how keys move while the layout changes: as the file says, and where it says nothing, as
// the plan of the change does, which comes from the file of the new layout.
func Moves(c *Config) Switch {
	s := c.Switch
	if c.planned == nil {
		return s
	}
	if !c.IsSet("switch.batch") {
		s.Batch = c.planned.Batch
	}
	if !c.IsSet("switch.durable") {
		s.Durable = c.planned.Durable
	}
	if !c.IsSet("switch.big.over") && !c.IsSet("switch.big.how") {
		s.Big = c.planned.Big
	}
	return s
}

// Wishing returns the configuration that goes on serving by the placement of current, although the file c
// has another one. It knows how to log in to the nodes that only current has.
func Wishing(c, current *Config) (*Config, error) {
	file := *c
	file.left = current.left
	for _, n := range current.Nodes {
		if c.Node(n.Name) < 0 && nodeNamed(file.left, n.Name) < 0 {
			file.left = append(slices.Clip(file.left), n)
		}
	}
	return file.InEpoch(current.epoch, current)
}

func nodeNamed(nodes []Node, name string) int {
	return slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name })
}

// Older returns the configuration with the placement from which keys are moving, or nil if none are.
func Older(c *Config) *Config { return c.older }

// InSameState reports whether both are of one epoch, in which keys are moving by both or by neither.
func InSameState(a, b *Config) bool {
	return a.epoch == b.epoch && (a.older == nil) == (b.older == nil)
}

// Epoch returns the epoch of the placement; 0: no register has any.
func (c *Config) Epoch() int64 { return c.epoch }

// Replaced returns the configuration of the file alone if another placement than the file's is
// in force, otherwise nil.
func (c *Config) Replaced() *Config { return c.replaced }

// File returns the configuration as the file has it.
func File(c *Config) *Config { return cmp.Or(c.replaced, c) }

// sectionOf returns the top-level key of a path.
func sectionOf(path string) string {
	if i := strings.IndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return path
}

// UseAccounts makes the configuration use the users, passwords, TLS and timeouts of another one
// for the nodes and for sentinels. Nodes are the same if they have the same name.
func (c *Config) UseAccounts(of *Config) {
	c.Backend = of.Backend
	for i := range c.Nodes {
		if j := of.Node(c.Nodes[i].Name); j >= 0 {
			c.Nodes[i].Login, c.Nodes[i].TLS = of.Nodes[j].Login, of.Nodes[j].TLS
		}
		s := c.Nodes[i].Sentinel
		if s == nil {
			continue
		}
		for _, n := range of.Nodes {
			known := func(addr string) bool { return slices.Contains(s.Addrs, addr) }
			if n.Sentinel != nil && slices.ContainsFunc(n.Sentinel.Addrs, known) {
				s.Login, s.TLS = n.Sentinel.Login, n.Sentinel.TLS
			}
		}
	}
}
