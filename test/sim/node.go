package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// node is a simulated node of a cluster. It has lists and strings, and checks slot ownership
// as Redis Cluster does (cluster.c, getNodeByQuery). It executes one command at a time.
type node struct {
	addr      string
	lists     map[string][]string
	strs      map[string]string
	scripts   map[string]string // by SHA-1
	versions  map[string]int    // by key: the number of changes
	owner     []int             // by slot group, in this node's view
	migrating map[int]int       // by slot group: the target node
	importing map[int]int       // by slot group: the source node
	self      int
	follows   int // the master of this replica; -1: this is a master
	world     *world

	up     bool
	frozen int64 // time until which the node does nothing
	busy   *busy // the script that it is executing
}

// groups is the number of slots of the simulated keys. There are few, so that many events
// concern each of them.
const groups = 8

// group is the simulated slot of a key.
func group(key []byte) int { return int(slots.Of(key)) * groups / slots.Count }

// process executes a connection's complete commands and sends their replies.
func (n *node) process(l *link) {
	for !n.isDeaf(l) && n.serveWait(l) && len(l.toNode) > 0 {
		k, st, err := l.parser.Next(l.toNode, &resp.DefaultLimits)
		if err != nil {
			n.world.failf("keyway sent bytes that a node refuses: %v: %.80q", err, l.toNode)
			return
		}
		if st == resp.More {
			return
		}
		if st == resp.Ready {
			args := make([]string, l.parser.Len())
			for i := range args {
				args[i] = string(l.parser.Arg(i))
			}
			reply := n.execute(l, args)
			n.world.logf("%s on link %d: %.60q -> %.60q", n, l.id, args, reply)
			l.toProxy = append(l.toProxy, reply...)
		}
		l.toNode = l.toNode[k:]
	}
}

func errorReply(format string, args ...any) []byte {
	return resp.AppendError(nil, fmt.Sprintf(format, args...))
}

func (n *node) execute(l *link, args []string) []byte {
	asking := l.asking
	l.asking = false
	if n.busy != nil {
		if reply := l.refuse(args[0]); reply != nil {
			return reply
		}
	}
	switch args[0] {
	case "PING":
		if len(args) > 1 {
			return resp.AppendBulkString(nil, args[1])
		}
		return resp.AppendSimple(nil, "PONG")
	case "ASKING":
		l.asking = true
		return resp.AppendOK(nil)
	case "SCRIPT": // EXISTS
		_, known := n.scripts[args[2]]
		return resp.AppendInt(resp.AppendArray(nil, 1), map[bool]int64{true: 1}[known])
	case "CLIENT":
		return n.clientCommand(l, args)
	case "FUNCTION": // LIST
		return resp.AppendArray(nil, 0)
	case "HELLO":
		b := resp.AppendBulkString(resp.AppendArray(nil, 4), "server")
		b = resp.AppendBulkString(resp.AppendBulkString(b, "redis"), "version")
		return resp.AppendBulkString(b, "7.0.15")
	}
	if reply := n.transact(l, args, asking); reply != nil {
		return reply
	}
	keys := args[1:2]
	switch args[0] {
	case "MGET", "EXISTS":
		keys = args[1:]
	case "EVAL", "EVALSHA":
		keys = args[3:4]
	}
	if reply := n.redirect(keys, asking); reply != nil {
		return reply
	}
	if n.world.chance(n.world.chaos.loading) && n.world.faults {
		return errorReply("LOADING Redis is loading the dataset in memory")
	}
	if args[0] == "BLPOP" {
		return n.pop(l, args[1], args[2])
	}
	return n.mayKeepBusy(l, args[0], n.run(args))
}

// run executes a command and returns its reply.
func (n *node) run(args []string) []byte {
	script := args[1]
	switch args[0] {
	case "EVAL":
		n.scripts[shaOf(script)] = script
	case "EVALSHA":
		var known bool
		if script, known = n.scripts[args[1]]; !known {
			return errorReply(noScript)
		}
	}
	n.world.executed++
	switch args[0] {
	case "RPUSH":
		return n.push(args[1], args[2])
	case "EXISTS":
		count := int64(0)
		for _, k := range args[1:] {
			if n.has(k) {
				count++
			}
		}
		return resp.AppendInt(nil, count)
	case "SET":
		n.versions[args[1]]++
		n.strs[args[1]] = args[2]
		return resp.AppendOK(nil)
	case "GET":
		return n.value(args[1], nil)
	case "MGET":
		b := resp.AppendArray(nil, len(args)-1)
		for _, k := range args[1:] {
			b = n.value(k, b)
		}
		return b
	case "EVAL", "EVALSHA":
		reply := n.push(args[3], args[4])
		if script == lies {
			return errorReply("%s", args[5])
		}
		return reply
	}
	n.world.failf("a node got %q", args)
	return errorReply("ERR unknown command")
}

func (n *node) push(key, elem string) []byte {
	var id int
	fmt.Sscanf(key[1:], "c%d:", &id)
	n.world.clients[id].executing(n, key, elem)
	n.versions[key]++
	n.lists[key] = append(n.lists[key], elem)
	return resp.AppendInt(nil, int64(len(n.lists[key])))
}

// bigPrefix is the prefix of keys whose values are sometimes large and sometimes small.
const bigPrefix = "big"

var (
	bigReply   = resp.AppendBulkString(nil, strings.Repeat("x", 1<<20))
	smallReply = resp.AppendBulkString(nil, "x")
)

func (n *node) value(key string, b []byte) []byte {
	if strings.HasPrefix(key, bigPrefix) {
		if n.world.rng.IntN(2) == 0 {
			return append(b, bigReply...)
		}
		return append(b, smallReply...)
	}
	if v, ok := n.strs[key]; ok {
		return resp.AppendBulkString(b, v)
	}
	return resp.AppendNull(b)
}

func (n *node) has(key string) bool {
	_, list := n.lists[key]
	_, str := n.strs[key]
	return list || str
}

// redirect returns the error for keys that the node does not serve now, or nil if it serves
// them.
func (n *node) redirect(keys []string, asking bool) []byte {
	if n.world.layouts != nil {
		return nil
	}
	g := group([]byte(keys[0]))
	slot := slots.Of([]byte(keys[0]))
	missing := 0
	for _, k := range keys {
		if !n.has(k) {
			missing++
		}
	}
	if to, yes := n.migrating[g]; yes && n.owner[g] == n.self {
		switch {
		case missing == len(keys):
			return errorReply("ASK %d %s", slot, n.world.nodes[to].addr)
		case missing > 0:
			return errorReply("TRYAGAIN Multiple keys request during rehashing of slot")
		}
		return nil
	}
	if n.owner[g] == n.self {
		return nil
	}
	if _, yes := n.importing[g]; yes && asking {
		if len(keys) > 1 && missing > 0 {
			return errorReply("TRYAGAIN Multiple keys request during rehashing of slot")
		}
		return nil
	}
	return errorReply("MOVED %d %s", slot, n.world.nodes[n.owner[g]].addr)
}

// table returns the map that a topology fetch from this node would return.
func (n *node) table() *slots.Map {
	nodes := make([]slots.Node, len(n.world.nodes))
	owned := make([][]slots.Range, len(nodes))
	for i, other := range n.world.nodes {
		nodes[i] = slots.Node{Addr: other.addr, Master: slices.Contains(n.owner, i)}
		if !nodes[i].Master && other.follows >= 0 && (!n.world.unseen || n.world.failing != nil) {
			nodes[i].Of, nodes[i].Replica = n.world.nodes[other.follows].addr, true
		}
	}
	for g, o := range n.owner {
		first, end := g*slots.Count/groups, (g+1)*slots.Count/groups
		owned[o] = append(owned[o], slots.Range{First: uint16(first), Last: uint16(end - 1)})
	}
	n.world.failed(nodes, owned)
	m, err := slots.NewMap(nodes, owned)
	if err != nil {
		panic(err)
	}
	return m
}

// keysOf returns the node's keys in a slot group, sorted.
func (n *node) keysOf(g int) []string {
	var keys []string
	for k := range n.lists {
		keys = append(keys, k)
	}
	for k := range n.strs {
		keys = append(keys, k)
	}
	keys = slices.DeleteFunc(keys, func(k string) bool { return group([]byte(k)) != g })
	slices.Sort(keys)
	return keys
}

func (n *node) String() string { return "n" + strconv.Itoa(n.self) }
