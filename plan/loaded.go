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
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
)

// loaded is what a node needs to have loaded, besides keys, to serve them as others did.
type loaded struct {
	libraries map[string]string // code of functions by name; nil: the node does not say
	modules   map[string]string
}

// askLoaded asks for the libraries of functions.
func (n *node) askLoaded(ctx context.Context) error {
	list, err := n.conn.FunctionList(ctx, redis.FunctionListQuery{WithCode: true}).Result()
	if err != nil && !control.IsReply(err) {
		return fmt.Errorf("asking for FUNCTION LIST: %w", err)
	}
	if err != nil {
		return nil // before Redis 7.0, or without the right: functions are not compared
	}
	n.loaded.libraries = map[string]string{}
	for _, l := range list {
		if !register.IsRecord([]byte(l.Name)) {
			n.loaded.libraries[l.Name] = l.Code
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
		n.loaded.modules = map[string]string{}
	}
	n.loaded.modules[name] = ""
}

// equipment reports libraries and modules that nodes of the new layout lack.
func (p *planner) equipment() {
	libraries, modules := map[string]string{}, map[string]string{}
	from, differ := map[string]*node{}, map[string]*node{}
	for _, n := range p.nodes {
		if !n.source() {
			continue
		}
		maps.Copy(modules, n.loaded.modules)
		for name, code := range n.loaded.libraries {
			if was, known := libraries[name]; known && was != code {
				differ[name] = n
			}
			libraries[name], from[name] = code, n
		}
	}
	for _, n := range p.nodes {
		if n.newer == router.None || n.err != nil {
			continue
		}
		if lacks := missing(libraries, n.loaded.libraries); n.loaded.libraries != nil && len(lacks) > 0 {
			p.note("node %s lacks libraries of functions, and gets them: %s", n.name, strings.Join(lacks, ", "))
			for _, name := range lacks {
				if differ[name] != nil {
					p.problem("functions", "load the right one on all nodes; "+redisCLI(from[name].addr)+
						" FUNCTION LIST WITHCODE shows it",
						"node %s lacks library %s, which is not the same on all nodes", n.name, name)
				}
			}
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
func missing(needs, has map[string]string) (names []string) {
	for name := range needs {
		if _, ok := has[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
