package nutcracker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/keyway-proxy/keyway/hashring"
)

// The values of distribution.
const (
	ketama = "ketama"
	modula = "modula"
	random = "random"
)

// Pool is a pool of twemproxy's file.
type Pool struct {
	Name    string
	Servers []Server

	listen     string // HOST:PORT or the path of a socket file
	permission string // of the socket file; empty: none is given
	values     map[string]string
	unknown    []string // keys that no twemproxy 0.5 knows
}

// Server is a server of a pool.
type Server struct {
	Name   string // by which ketama places keys; the default is the address
	Addr   string // HOST:PORT, or the path of a socket file
	Weight int
}

// numbers and switches are the keys of twemproxy 0.5 whose values are whole numbers, or true or false.
var (
	numbers = []string{
		"timeout", "backlog", "client_connections", "redis_db", "server_connections", "server_retry_timeout",
		"server_failure_limit",
	}
	switches = []string{"redis", "preconnect", "auto_eject_hosts", "tcpkeepalive"}
	texts    = []string{"hash", "hash_tag", "distribution", "redis_auth"}
)

// defaults are twemproxy's values of keys that decide where keys lie.
var defaults = map[string]string{"hash": "fnv1a_64", "distribution": ketama}

// value returns the pool's value of a key, or twemproxy's default; empty: there is none.
func (p *Pool) value(key string) string {
	if v, ok := p.values[key]; ok {
		return v
	}
	return defaults[key]
}

// Parse reads twemproxy's configuration. name is that of the file, for errors.
func Parse(name string, text []byte) ([]*Pool, error) {
	in := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := in.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: this is not valid YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: no pool; twemproxy's file has the names of pools, and below each its keys", name)
	}
	r := reader{file: name}
	var pools []*Pool
	top := doc.Content[0].Content
	for i := 0; i < len(top); i += 2 {
		p, err := r.pool(top[i], top[i+1])
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(pools, func(other *Pool) bool { return other.Name == p.Name }) {
			return nil, r.errorf(top[i], "two pools are called %q", p.Name)
		}
		pools = append(pools, p)
	}
	return pools, nil
}

// reader reads one file.
type reader struct{ file string }

func (r reader) errorf(at *yaml.Node, problem string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", r.file, at.Line, fmt.Sprintf(problem, args...))
}

func (r reader) pool(name, n *yaml.Node) (*Pool, error) {
	p := &Pool{Name: name.Value, values: map[string]string{}}
	if n.Kind != yaml.MappingNode {
		return nil, r.errorf(name, "%q is no pool: it needs listen, servers and other keys", p.Name)
	}
	for i := 0; i < len(n.Content); i += 2 {
		if err := r.key(p, n.Content[i], n.Content[i+1]); err != nil {
			return nil, err
		}
	}
	switch {
	case p.listen == "":
		return nil, r.errorf(name, "pool %q has no listen", p.Name)
	case len(p.Servers) == 0:
		return nil, r.errorf(name, "pool %q has no servers", p.Name)
	}
	return p, nil
}

// key reads a key of a pool.
func (r reader) key(p *Pool, name, n *yaml.Node) error {
	key := name.Value
	switch {
	case key == "servers":
		return r.servers(p, n)
	case key != "listen" && !slices.Contains(slices.Concat(numbers, switches, texts), key):
		p.unknown = append(p.unknown, key)
		return nil
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
		return r.errorf(n, "pool %q: %s needs a value", p.Name, key)
	}
	if _, twice := p.values[key]; twice {
		return r.errorf(n, "pool %q: %s appears twice", p.Name, key)
	}
	p.values[key] = n.Value
	if problem := p.check(key, n.Value); problem != "" {
		return r.errorf(n, "pool %q: %s: %q is %s", p.Name, key, n.Value, problem)
	}
	return nil
}

// check returns what twemproxy would find wrong with a value; empty: nothing. It sets listen.
func (p *Pool) check(key, value string) string {
	switch {
	case key == "listen" && strings.HasPrefix(value, "/"):
		p.listen, p.permission, _ = strings.Cut(value, " ")
	case key == "listen":
		if p.listen = value; !hasPort(value) {
			return "no HOST:PORT and no path of a socket file"
		}
	case key == "hash" && !slices.Contains(hashring.HashNames(), value):
		return "no hash of twemproxy"
	case key == "distribution" && !slices.Contains([]string{ketama, modula, random}, value):
		return "no distribution of twemproxy"
	case key == "hash_tag" && len(value) != 2:
		return "not of two characters"
	case slices.Contains(numbers, key) && !isNumber(value):
		return "no whole number"
	case slices.Contains(switches, key) && value != "true" && value != "false":
		return "neither true nor false"
	}
	return ""
}

func isNumber(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && n >= 0
}

// hasPort reports whether s ends with a colon and a port.
func hasPort(s string) bool {
	i := strings.LastIndexByte(s, ':')
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	return i > 0 && err == nil && port > 0
}

func (r reader) servers(p *Pool, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return r.errorf(n, "pool %q: servers needs a list", p.Name)
	}
	for _, line := range n.Content {
		s, ok := parseServer(line.Value)
		if !ok {
			return r.errorf(line, "pool %q: %q is no server: twemproxy writes HOST:PORT:WEIGHT [NAME]",
				p.Name, line.Value)
		}
		p.Servers = append(p.Servers, s)
	}
	return nil
}

// memcachedPort is left out of the names that twemproxy gives servers, as libmemcached does.
const memcachedPort = "11211"

// parseServer reads HOST:PORT:WEIGHT [NAME] or /PATH:WEIGHT [NAME].
func parseServer(text string) (s Server, ok bool) {
	address, name, named := cutLast(text, " ")
	addr, weight, ok := cutLast(address, ":")
	s = Server{Name: name, Addr: addr}
	var err error
	s.Weight, err = strconv.Atoi(weight)
	if !ok || err != nil || s.Weight < 1 || !s.onSocketFile() && !hasPort(addr) {
		return s, false
	}
	if !named {
		s.Name = addr
		if host, port, _ := cutLast(addr, ":"); port == memcachedPort {
			s.Name = host
		}
	}
	return s, true
}

func (s Server) onSocketFile() bool { return strings.HasPrefix(s.Addr, "/") }

// cutLast cuts s at the last separator. Without any, before is s.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
