package config

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Load reads and checks the file at path, which must not have pools. An error in the file is an
// *Error.
func Load(path string) (*Config, error) {
	pools, err := LoadPools(path)
	return only(pools, err)
}

// Parse decodes and checks the text of a file called name, which must not have pools. env looks
// up environment variables.
func Parse(name string, text []byte, env func(string) (string, bool)) (*Config, error) {
	pools, err := ParsePools(name, text, env)
	return only(pools, err)
}

// only returns the configuration of a file without pools.
func only(pools Pools, err error) (*Config, error) {
	if err != nil {
		return nil, err
	}
	if c := pools[0]; c.pool != "" {
		return nil, c.Errorf("", "write the keys of one pool into a file of its own", "this file must not have pools")
	}
	return pools[0], nil
}

// complete reads the files of passwords and users of a configuration, and checks it.
func complete(c *Config) error {
	if err := c.readPasswords(); err != nil {
		return err
	}
	if err := readUsers(c); err != nil {
		return err
	}
	if err := readTokens(c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	return readNodeTLS(c)
}

// notGiven marks a duration whose default depends on another key, until the file has
// been read.
const notGiven = time.Duration(math.MinInt64)

// document returns the only YAML document of the text, or nil if the text is empty.
func document(name string, text []byte, refs references) (*yaml.Node, error) {
	in := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := in.Decode(&doc)
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, syntaxError(name, text, refs, err)
	}
	switch err := in.Decode(&second); {
	case err == nil:
		return nil, &Error{
			File: name, Line: second.Line, Column: second.Column,
			Problem: "a second document begins here", Remedy: "keep one document: remove the --- between them",
		}
	case err != io.EOF:
		return nil, syntaxError(name, text, refs, err)
	}
	refs.keys(&doc)
	return doc.Content[0], nil
}

// check finds the errors that the file alone shows, section by section.
func (c *Config) check() error {
	for _, check := range []func() error{
		c.checkListen, c.checkReady, c.checkPlacement, c.checkNumbers, c.checkNodes, c.checkLayout, c.checkReads,
		c.checkSlots, c.checkRange, c.checkCluster, c.checkLog, c.checkLocks, c.checkAuth,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkListen() error {
	if len(c.Listen) == 0 {
		return c.Errorf("listen", "write listen: 127.0.0.1:6380", "no address to listen on")
	}
	for i, l := range c.Listen {
		if err := checkListener(c, ListenPath(c, i), l); err != nil {
			return err
		}
		if same := c.Listen[:i].Find(l.Addr); same != nil && !(l.isPlain() && same.isPlain()) {
			return c.Errorf(ListenPath(c, i), "keep one of them, or write another port", "%q is already listed", l.Addr)
		}
	}
	if err := checkFollowing(c); err != nil {
		return err
	}
	return checkAdmin(c)
}

// isPlain reports whether nothing but the address matters.
func (l Listener) isPlain() bool { return l.TLS == nil && l.Proxy == nil }

// IsBeyondLoopback reports whether clients of other machines may connect to the listener.
func (l Listener) IsBeyondLoopback() bool {
	host, _, err := net.SplitHostPort(l.Addr)
	return err == nil && !strings.HasPrefix(l.Addr, "unix://") && (l.Proxy != nil || !isLoopback(host))
}

// ProvesClients reports whether the listener serves only clients with a valid certificate.
func (l Listener) ProvesClients() bool {
	return l.TLS != nil && l.TLS.ClientCA != "" && l.TLS.ClientAuth != ClientOptional
}

// Activated is what a listener begins with whose socket systemd has opened. The socket's name
// follows.
const Activated = "systemd:"

// checkListener checks one address for clients.
func checkListener(c *Config, path string, l Listener) error {
	if l.TLS != nil {
		if err := checkTLS(c, path, l); err != nil {
			return err
		}
	}
	if l.Proxy != nil && len(l.Proxy.From) == 0 {
		return c.Errorf(path+".proxy_protocol", "add from: [ADDRESS], the addresses of the balancers",
			"nobody may send the PROXY protocol")
	}
	if name, ok := strings.CutPrefix(l.Addr, Activated); ok {
		if name == "" {
			return c.Errorf(path, "write systemd:NAME with the FileDescriptorName of the .socket unit", "no name")
		}
		return nil
	}
	file, ok := strings.CutPrefix(l.Addr, "unix://")
	if !ok {
		return c.checkAddr(path, l.Addr, "127.0.0.1:6380")
	}
	if l.Proxy != nil {
		return c.Errorf(path, "write an address of 127.0.0.1 for a balancer of this machine",
			"the PROXY protocol over a socket file")
	}
	if !strings.HasPrefix(file, "/") {
		return c.Errorf(path, "write unix:///run/keyway.sock", "%q is not an absolute path", l.Addr)
	}
	return nil
}

// isOwn reports whether keyway itself listens on addr. It does not resolve names.
func (c *Config) isOwn(addr string) bool {
	same := func(own string) bool { return sameAddress(own, addr) }
	return same(c.Admin.Listen) || slices.ContainsFunc(c.Listen.Addrs(), same)
}

func sameAddress(own, addr string) bool {
	ownHost, ownPort, err1 := net.SplitHostPort(own)
	host, port, err2 := net.SplitHostPort(addr)
	if err1 != nil || err2 != nil || ownPort != port || port == "0" {
		return false
	}
	return ownHost == host || isLoopback(host) && isLoopback(ownHost) || isWildcard(ownHost) && isLocal(host)
}

// isLocal reports whether host is an address of this machine.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	addrs, err := net.InterfaceAddrs()
	return isLoopback(host) || err == nil && ip != nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func (c *Config) checkReady() error {
	if c.Ready != ReadyAny && c.Ready != ReadyAll {
		return c.Errorf("ready", "write any or all", "unknown ready %q", c.Ready)
	}
	return nil
}

func (c *Config) checkPlacement() error {
	if m := c.Placement.Misplaced; !slices.Contains(Misplaced, m) {
		return c.Errorf("placement.misplaced", "write refuse, allow or off", "unknown value %q", m)
	}
	if d := c.Switch.Durable; d != DurableAuto && d != DurableStrict && d != DurableOff {
		return c.Errorf("switch.durable", "write auto, strict or off", "unknown value %q", d)
	}
	if h := c.Switch.Big.How; h != BigLast && h != BigNow && h != BigRefuse {
		return c.Errorf("switch.big.how", "write last, now or refuse", "unknown value %q", h)
	}
	if i := strings.IndexFunc(c.Instance, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return c.Errorf("instance", "write letters, digits and signs, such as kw-1, without spaces",
			"%q would not be a valid name of a client", c.Instance)
	}
	return nil
}

func (c *Config) checkLog() error {
	if field, value, remedy := c.Log.Invalid(); field != "" {
		return c.Errorf("log."+field, remedy, "unknown %s %q", field, value)
	}
	return nil
}

// Invalid returns the field of l whose value is unknown, the value, and what to do. All are
// empty if l is valid.
func (l Log) Invalid() (field, value, remedy string) {
	switch {
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level):
		return "level", l.Level, "write debug, info, warn or error"
	case l.Format != "text" && l.Format != "json":
		return "format", l.Format, "write text or json"
	}
	return "", "", ""
}

func (c *Config) checkAddr(path, addr, example string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return c.Errorf(path, "write HOST:PORT, such as "+example+" or [::1]:6380", "%q is not an address", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return c.Errorf(path, "write a port from 0 to 65535, such as "+example, "%q has no valid port", addr)
	}
	if strings.ContainsAny(host, " \t/") {
		return c.Errorf(path, "write HOST:PORT, such as "+example, "%q has no valid host", addr)
	}
	return nil
}

func (c *Config) checkCluster() error {
	if !c.Cluster.Emulate {
		return nil
	}
	if c.Cluster.Announce == "" {
		return c.Errorf("cluster.emulate", "add announce: HOST:PORT, the address at which clients find this keyway",
			"no address for clients")
	}
	if err := c.checkAddr("cluster.announce", c.Cluster.Announce, "10.0.0.1:6380"); err != nil {
		return err
	}
	for i, p := range c.Cluster.Peers {
		path := fmt.Sprintf("cluster.peers[%d]", i)
		if err := c.checkAddr(path, p, "10.0.0.2:6380"); err != nil {
			return err
		}
		if p == c.Cluster.Announce || slices.Contains(c.Cluster.Peers[:i], p) {
			return c.Errorf(path, "list each other keyway once", "%q is already listed", p)
		}
	}
	if c.Layout != LayoutSlots && c.HashTag != "{}" {
		// A cluster's client sends together what shares a tag in braces.
		return c.Errorf("hash_tag", `write "{}", or leave cluster.emulate out`,
			"%q, but the clients of an emulated cluster need keys with the same {tag} to live together", c.HashTag)
	}
	return nil
}

func (c *Config) checkNodes() error {
	names, addrs := map[string]int{}, map[string]int{}
	for i, n := range c.Nodes {
		path := fmt.Sprintf("nodes[%d]", i)
		if err := c.checkPlace(path, n); err != nil {
			return err
		}
		for at, addr := range n.servers(path) {
			if n.Sentinel == nil && c.isOwn(addr) {
				return c.Errorf(at, "write the address of the Redis server", "%q is where keyway itself listens", addr)
			}
		}
		if n.Name == "" {
			return c.Errorf(path, "add a name: it decides, with the weight, where keys land in a ring",
				"a node without a name")
		}
		if j, ok := names[n.Name]; ok {
			return c.Errorf(path+".name", "give each node a name of its own", "%q is also the name of nodes[%d]",
				n.Name, j)
		}
		names[n.Name] = i
		for at, addr := range n.servers(path) {
			if j, ok := addrs[addr]; ok {
				return c.Errorf(at, "give each node an address of its own", "%q is also the address of nodes[%d]",
					addr, j)
			}
			addrs[addr] = i
		}
		if n.Weight < 1 || n.Weight > 1000000 {
			return c.Errorf(path+".weight", "write a whole number from 1 to 1000000", "weight %d", n.Weight)
		}
	}
	if len(c.Nodes) > 1024 {
		return c.Errorf("nodes", "list at most 1024 nodes", "%d nodes", len(c.Nodes))
	}
	return nil
}

// checkPlace checks the node's address, or its sentinels.
func (c *Config) checkPlace(path string, n Node) error {
	if s := n.Sentinel; s != nil {
		path += ".sentinel"
		switch {
		case n.Addr != "" || len(n.Replicas) > 0:
			return c.Errorf(path, "leave addr and replicas out: the sentinels report them",
				"a node with both sentinels and an address")
		case s.Master == "":
			return c.Errorf(path, "add master: NAME, as in the sentinels' \"sentinel monitor NAME ...\"",
				"sentinels without the name of a master")
		case len(s.Addrs) == 0:
			return c.Errorf(path, "add addrs: [127.0.0.1:26379, ...]", "no address of a sentinel")
		}
		for i, addr := range s.Addrs {
			if err := c.checkAddr(fmt.Sprintf("%s.addrs[%d]", path, i), addr, "127.0.0.1:26379"); err != nil {
				return err
			}
		}
		return nil
	}
	if n.Addr == "" {
		return c.Errorf(path, "add addr: HOST:PORT, or sentinel: {master: NAME, addrs: [HOST:PORT, ...]}",
			"a node without an address")
	}
	for at, addr := range n.servers(path) {
		if err := c.checkAddr(at, addr, "127.0.0.1:7101"); err != nil {
			return err
		}
	}
	return nil
}

// servers yields the node's addresses, each with its path in the file. A sentinel may
// monitor several masters, so the master's name is part of its address.
func (n Node) servers(path string) iter.Seq2[string, string] {
	return func(yield func(path, addr string) bool) {
		if s := n.Sentinel; s != nil {
			for i, addr := range s.Addrs {
				if !yield(fmt.Sprintf("%s.sentinel.addrs[%d]", path, i), s.Master+" at "+addr) {
					return
				}
			}
			return
		}
		if !yield(path+".addr", n.Addr) {
			return
		}
		for i, addr := range n.Replicas {
			if !yield(fmt.Sprintf("%s.replicas[%d]", path, i), addr) {
				return
			}
		}
	}
}

func (c *Config) checkReads() error {
	if !slices.Contains(Reads, c.Reads) {
		return c.Errorf("reads", "write "+strings.Join(Reads, ", "), "unknown reads %q", c.Reads)
	}
	return checkZones(c)
}

func (c *Config) checkLayout() error {
	if !slices.Contains(Layouts, c.Layout) {
		return c.Errorf("layout", "write slots, ring, range or modulo", "unknown layout %q", c.Layout)
	}
	if c.HashTag != "" && (len(c.HashTag) != 2) {
		return c.Errorf("hash_tag", `write two characters, such as "{}", or "" for none`, "%q", c.HashTag)
	}
	needsNodes := c.Layout != LayoutSlots || len(c.Slots.Static) > 0
	if needsNodes && len(c.Nodes) == 0 {
		return c.Errorf("layout", "list the servers: nodes: [{name: a, addr: 127.0.0.1:7101}]",
			"layout %s without nodes", c.Layout)
	}
	return nil
}

func (c *Config) checkSlots() error {
	s := &c.Slots
	if len(s.Seeds) > 0 && len(s.Static) > 0 {
		return c.Errorf("slots.static", "keep seeds (a Redis Cluster that keyway follows) or static (a fixed table)",
			"both seeds and static")
	}
	if s.Cluster != "" && len(s.Seeds) == 0 {
		return c.Errorf("slots.cluster", "add slots.seeds, or leave it out", "the name of a cluster without its seeds")
	}
	if c.Layout == LayoutSlots && len(s.Seeds) == 0 && len(s.Static) == 0 {
		return c.Errorf("slots", "write slots: {seeds: [127.0.0.1:7001]} or slots: {static: {a: 0-16383}}",
			"layout slots needs a cluster's seeds or a static table")
	}
	for i, seed := range s.Seeds {
		path := fmt.Sprintf("slots.seeds[%d]", i)
		if err := c.checkAddr(path, seed, "127.0.0.1:7001"); err != nil {
			return err
		}
		if c.isOwn(seed) {
			return c.Errorf(path, "write the address of a node of the cluster", "%q is where keyway itself listens",
				seed)
		}
	}
	if len(s.Static) == 0 {
		return nil
	}
	const slotCount = 16384
	var owner [slotCount]string
	for _, name := range sortedKeys(s.Static) {
		path := "slots.static." + name
		if c.Node(name) < 0 {
			return c.Errorf(path, c.nodeRemedy(), "no node is called %q", name)
		}
		for _, r := range s.Static[name] {
			for slot := int(r.First); slot <= int(r.Last); slot++ {
				if o := owner[slot]; o != "" {
					return c.Errorf(path, "give each slot to one node", "slot %d already belongs to %s", slot, o)
				}
				owner[slot] = name
			}
		}
	}
	for slot, o := range owner {
		if o != "" {
			continue
		}
		last := slot
		for last+1 < slotCount && owner[last+1] == "" {
			last++
		}
		return c.Errorf("slots.static", fmt.Sprintf("add %d-%d to one of the nodes", slot, last),
			"no node has the slots %d-%d", slot, last)
	}
	return nil
}

func (c *Config) checkRange() error {
	for i, r := range c.Range.Rules {
		path := fmt.Sprintf("range.rules[%d]", i)
		if r.Node == "" {
			return c.Errorf(path, "add node: NAME", "a rule without a node")
		}
		if c.Node(r.Node) < 0 {
			return c.Errorf(path+".node", c.nodeRemedy(), "no node is called %q", r.Node)
		}
		if r.From == nil {
			return c.Errorf(path, "add from", "a rule without its lower end")
		}
		if r.Prefix == nil {
			if r.To != nil && *r.To <= *r.From {
				return c.Errorf(path+".to", "write from before to, in byte order", "%q does not come after %q",
					*r.To, *r.From)
			}
			continue
		}
		if r.To == nil {
			return c.Errorf(path, "add to", "a rule without its upper end")
		}
		from, err := c.ruleNumber(path+".from", *r.From)
		if err != nil {
			return err
		}
		to, err := c.ruleNumber(path+".to", *r.To)
		if err != nil {
			return err
		}
		if to < from {
			return c.Errorf(path+".to", "write from: LOWER, to: HIGHER; both ends belong to the rule",
				"%d is less than %d", to, from)
		}
	}
	if d := c.Range.Default; d != "" && c.Node(d) < 0 {
		return c.Errorf("range.default", c.nodeRemedy(), "no node is called %q", d)
	}
	if c.Layout == LayoutRange && len(c.Range.Rules) == 0 && c.Range.Default == "" {
		rule := "{prefix: \"user:\", from: 1, to: 1000, node: " + c.Nodes[0].Name + "}"
		return c.Errorf("range", "write at least one rule, such as "+rule+", or a default",
			"layout range without rules")
	}
	return nil
}

func (c *Config) ruleNumber(path, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, c.Errorf(path, "with a prefix, write whole numbers from 0; without one, from and to are text",
			"%q is not a number", s)
	}
	return n, nil
}

// Clustered reports whether keyway follows a Redis Cluster.
func (c *Config) Clustered() bool { return c.Layout == LayoutSlots && len(c.Slots.Seeds) > 0 }

// File returns the name of the file.
func (c *Config) File() string { return c.file }

// IsSet reports whether the file has a value for path.
func (c *Config) IsSet(path string) bool {
	_, ok := c.positions[path]
	return ok
}

// Node returns the index in Nodes of the node with that name, or -1.
func (c *Config) Node(name string) int {
	return slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Name == name })
}

func (c *Config) nodeRemedy() string {
	if len(c.Nodes) == 0 {
		return "list it under nodes"
	}
	names := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		names[i] = n.Name
	}
	return "write one of " + strings.Join(names, ", ")
}
