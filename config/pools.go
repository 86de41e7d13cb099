package config

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Pools are the configurations of a file's pools, in its order. Each is complete, and all have
// the same values of what belongs to the process. A file without the key pools has one pool
// without a name.
type Pools []*Config

// processSections are the top-level keys that belong to the process. With pools, all other keys
// belong into a pool.
var processSections = []string{"threads", "admin", "audit", "traces", "access_log", "watch", "log", "shutdown"}

// processMemory is the only key of its section that belongs to the process.
const processMemory = "limits.memory"

// ofProcess reports whether the key at path belongs to the process.
func ofProcess(path string) bool {
	return slices.Contains(processSections, sectionOf(path)) || path == processMemory
}

// LoadPools reads and checks the file at path, with pools or without. An error in the file is an
// *Error.
func LoadPools(path string) (Pools, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return ParsePools(path, b, os.LookupEnv)
}

// ParsePools decodes and checks the text of a file called name. env looks up environment
// variables.
func ParsePools(name string, text []byte, env func(string) (string, bool)) (Pools, error) {
	pools, err := decodePools(name, text, env)
	if err != nil {
		return nil, err
	}
	for _, c := range pools {
		if err := complete(c); err != nil {
			return nil, err
		}
	}
	return pools, pools.checkAddresses()
}

// Pool returns the name of the pool; empty if the file has no pools.
func (s *source) Pool() string { return s.pool }

// Named reports whether the file has the key pools.
func (p Pools) Named() bool { return p[0].pool != "" }

// Names returns the names of the pools.
func (p Pools) Names() []string {
	names := make([]string, len(p))
	for i, c := range p {
		names[i] = c.pool
	}
	return names
}

// Find returns the pool with that name, or nil.
func (p Pools) Find(name string) *Config {
	if i := slices.IndexFunc(p, func(c *Config) bool { return c.pool == name }); i >= 0 {
		return p[i]
	}
	return nil
}

// Choose returns the pool with that name. Without a name it returns the only pool.
func (p Pools) Choose(name string) (*Config, error) {
	c, file := p.Find(name), p[0].file
	switch {
	case c != nil:
		return c, nil
	case !p.Named():
		return nil, fmt.Errorf("%s has no pools; leave --pool out", file)
	case name == "" && len(p) == 1:
		return p[0], nil
	case name == "":
		return nil, fmt.Errorf("%s has several pools; name one with --pool: %s", file, strings.Join(p.Names(), ", "))
	}
	return nil, fmt.Errorf("%s has no pool %q; write --pool with one of %s", file, name, strings.Join(p.Names(), ", "))
}

// With returns the pools with c in the place of the pool of its name.
func (p Pools) With(c *Config) Pools {
	next := slices.Clone(p)
	next[slices.IndexFunc(next, func(of *Config) bool { return of.pool == c.pool })] = c
	return next
}

// decodePools is ParsePools without the checks, and without the files of passwords and users.
func decodePools(name string, text []byte, env func(string) (string, bool)) (Pools, error) {
	text, refs := mark(text)
	doc, err := document(name, text, refs)
	if err != nil {
		return nil, err
	}
	d := decoder{config: newConfig(name), env: env, refs: refs}
	pools := takePools(doc)
	if doc != nil {
		if err := d.document(doc); err != nil {
			return nil, err
		}
	}
	if pools == nil {
		setDependent(d.config)
		return Pools{d.config}, nil
	}
	for _, path := range slices.Sorted(maps.Keys(d.config.positions)) {
		if !ofProcess(path) && path != sectionOf(processMemory) {
			return nil, d.config.Errorf(path, "write it into each pool that it is for",
				"with pools, this key belongs into a pool")
		}
	}
	return d.pools(pools)
}

// newConfig returns a configuration of a file that has not been read yet.
func newConfig(file string) *Config {
	c := Default()
	c.Backend.Hold = notGiven
	c.file = file
	c.positions = map[string]position{}
	return &c
}

// setDependent sets what has the value of another key unless the file has one.
func setDependent(c *Config) {
	if c.Backend.Hold == notGiven {
		c.Backend.Hold = c.Backend.RequestTimeout
	}
}

// poolsKey is the top-level key of the pools.
const poolsKey = "pools"

// takePools removes the key pools from the document, and returns the key and its value; nil if
// there is none.
func takePools(doc *yaml.Node) []*yaml.Node {
	if doc == nil || doc.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(doc.Content); i += 2 {
		if doc.Content[i].Value == poolsKey {
			found := slices.Clone(doc.Content[i : i+2])
			doc.Content = slices.Delete(doc.Content, i, i+2)
			return found
		}
	}
	return nil
}

// poolName is what a pool can be called: the name is in metrics, logs and URLs.
var poolName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// pools decodes the pools. d has decoded the rest of the file.
func (d *decoder) pools(found []*yaml.Node) (pools Pools, err error) {
	all := found[1]
	if all.Kind == yaml.AliasNode {
		all = all.Alias
	}
	if all.Kind != yaml.MappingNode || len(all.Content) == 0 {
		return nil, d.errorf(found[0], poolsKey, "write pools: {NAME: {listen: ..., layout: ..., ...}, ...}",
			"no pools")
	}
	for i := 0; i < len(all.Content); i += 2 {
		key := all.Content[i]
		if !poolName.MatchString(key.Value) {
			return nil, d.errorf(key, poolsKey, "write up to 64 letters, digits, dots, underscores and hyphens",
				"%q is no name for a pool", key.Value)
		}
		if pools.Find(key.Value) != nil {
			return nil, d.errorf(key, poolsKey, "give each pool a name of its own", "%q appears twice", key.Value)
		}
		c, err := d.pool(key, all.Content[i+1])
		if err != nil {
			return nil, err
		}
		pools = append(pools, c)
	}
	return pools, nil
}

// pool decodes one pool, which has the process's values of the rest of the file.
func (d *decoder) pool(name, n *yaml.Node) (*Config, error) {
	c := *d.config
	c.pool = name.Value
	c.positions = map[string]position{"": {name.Line, name.Column}}
	of := decoder{config: &c, env: d.env, refs: d.refs}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if err := of.document(n); err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(c.positions)) {
		if ofProcess(path) {
			at := c.positions[path]
			return nil, &Error{
				File: c.file, Line: at.line, Column: at.column, Path: c.inPool(path),
				Problem: "this key belongs to the process", Remedy: "write it beside pools",
			}
		}
	}
	if !c.IsSet("listen") {
		return nil, c.Errorf("listen", "add listen: HOST:PORT", "a pool without an address for clients")
	}
	setDependent(&c)
	maps.Copy(c.positions, d.config.positions)
	c.positions[""] = position{name.Line, name.Column}
	return &c, nil
}

// inPool returns the path in the file of a key in the pool.
func (s *source) inPool(path string) string {
	switch {
	case s.pool == "":
		return path
	case path == "":
		return poolsKey + "." + s.pool
	}
	return join(poolsKey+"."+s.pool, path)
}

// shown returns the path in the file of a key of the configuration.
func (s *source) shown(path string) string {
	if ofProcess(path) {
		return path
	}
	return s.inPool(path)
}

// checkAddresses finds addresses that several pools listen on, and nodes that are pools.
func (p Pools) checkAddresses() error {
	for i, c := range p {
		for j, l := range c.Listen {
			for _, other := range p[:i] {
				if slices.ContainsFunc(other.Listen.Addrs(), func(own string) bool {
					return own == l.Addr || sameAddress(own, l.Addr) || sameAddress(l.Addr, own)
				}) {
					return c.Errorf(ListenPath(c, j), "write another port", "the pool %s listens on %q",
						other.pool, l.Addr)
				}
			}
		}
		for j, n := range c.Nodes {
			for _, other := range p {
				if other != c && n.Sentinel == nil && other.isOwn(n.Addr) {
					return c.Errorf(fmt.Sprintf("nodes[%d].addr", j), "write the address of the Redis server",
						"%q is where the pool %s listens", n.Addr, other.pool)
				}
			}
		}
	}
	return nil
}

// PoolChange is what a pool's part of the file has become.
type PoolChange struct {
	Name      string
	Old, Next *Config // nil: the pool was added, or removed
}

// Changes returns the pools of both, those of next first.
func (p Pools) Changes(next Pools) (all []PoolChange) {
	for _, c := range next {
		all = append(all, PoolChange{c.pool, p.Find(c.pool), c})
	}
	for _, c := range p {
		if next.Find(c.pool) == nil {
			all = append(all, PoolChange{c.pool, c, nil})
		}
	}
	return all
}
