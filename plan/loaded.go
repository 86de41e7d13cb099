package plan

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
)

// loaded is what a node needs to have loaded, besides keys, to serve them as others did.
type loaded struct {
	libraries map[string]bool // of functions; nil: the node does not say
	modules   map[string]bool
}

// askLoaded asks for the libraries of functions.
func (n *node) askLoaded(ctx context.Context) error {
	list, err := n.conn.FunctionList(ctx, redis.FunctionListQuery{}).Result()
	if err != nil && !control.IsReply(err) {
		return fmt.Errorf("asking for FUNCTION LIST: %w", err)
	}
	if err != nil {
		return nil // before Redis 7.0, or without the right: functions are not compared
	}
	n.loaded.libraries = map[string]bool{}
	for _, l := range list {
		if !strings.HasPrefix(l.Name, "keyway_") {
			n.loaded.libraries[l.Name] = true
		}
	}
	return nil
}

// addModule adds a module from a line of INFO.
func (n *node) addModule(line string) {
	_, name, found := strings.Cut(line, "module:name=")
	if !found {
		return
	}
	if name, _, _ = strings.Cut(name, ","); name == "lua" {
		return // Valkey's engine of scripts, which has no types
	}
	if n.loaded.modules == nil {
		n.loaded.modules = map[string]bool{}
	}
	n.loaded.modules[name] = true
}

// equipment reports libraries and modules that nodes of the new layout lack.
func (p *planner) equipment() {
	libraries, modules, from := map[string]bool{}, map[string]bool{}, map[string]*node{}
	for _, n := range p.nodes {
		if n.source() {
			maps.Copy(libraries, n.loaded.libraries)
			maps.Copy(modules, n.loaded.modules)
			for name := range n.loaded.libraries {
				from[name] = n
			}
		}
	}
	for _, n := range p.nodes {
		if n.newer == router.None || n.err != nil {
			continue
		}
		if lacks := missing(libraries, n.loaded.libraries); n.loaded.libraries != nil && len(lacks) > 0 {
			p.problem("functions", fmt.Sprintf("load them there; %s FUNCTION LIST WITHCODE shows them",
				redisCLI(from[lacks[0]].addr)),
				"node %s lacks libraries of functions: %s", n.name, strings.Join(lacks, ", "))
		}
		if lacks := missing(modules, n.loaded.modules); len(lacks) > 0 {
			p.note("node %s lacks modules: %s. It does not accept keys of their types",
				n.name, strings.Join(lacks, ", "))
		}
	}
}

// redisCLI returns the command that connects to an address.
func redisCLI(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "redis-cli -s " + addr
	}
	return "redis-cli -h " + host + " -p " + port
}

// missing returns what has lacks of needs, sorted.
func missing(needs, has map[string]bool) (names []string) {
	for name := range needs {
		if !has[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
