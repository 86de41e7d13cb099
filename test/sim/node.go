package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/sim/model"
)

// node is a simulated node of a cluster. It checks slot ownership as Redis Cluster does
// (cluster.c, getNodeByQuery), and is broken in many ways. The rest of it is a model.Node.
type node struct {
	addr      string
	redis     *model.Node
	owner     []int       // by slot group, in this node's view
	migrating map[int]int // by slot group: the target node
	importing map[int]int // by slot group: the source node
	self      int
	follows   int // the master of this replica; -1: this is a master
	world     *world

	up     bool
	frozen int64 // time until which the node does nothing
	busy   *busy // the script that it is executing
}

// epoch is the time at which the virtual clock begins, in nanoseconds since 1970.
const epoch = int64(1_700_000_000_000_000_000)

func (w *world) newNode(i int, owner []int) *node {
	n := &node{
		addr: fmt.Sprintf("10.0.0.%d:6379", i+1), self: i, follows: i - 3, world: w, up: true,
		owner: slices.Clone(owner), migrating: map[int]int{}, importing: map[int]int{},
		redis: model.New(func() int64 { return epoch + w.now }),
	}
	n.redis.ID = uint64(i + 1)
	n.redis.Scripts = map[string]model.Script{pushes: pushElement, lies: pushAndLie}
	n.redis.Hooks = model.Hooks{
		Redirect: n.redirect, Refuse: n.isLoading, Executing: n.executing, Popped: w.popped,
		Unknown: func(args []string) { w.failf("a node got %q", args) },
	}
	return n
}

// groups is the number of slots of the simulated keys. There are few, so that many events
// concern each of them.
const groups = 8

// group is the simulated slot of a key.
func group(key []byte) int { return int(slots.Of(key)) * groups / slots.Count }

// process executes a connection's complete commands and sends their replies.
func (n *node) process(l *link) {
	for !n.isDeaf(l) && !l.peer.Waits() && !l.peer.Closed() && len(l.toNode) > 0 {
		k, st, err := l.parser.Next(l.toNode, &resp.DefaultLimits)
		if err != nil {
			n.world.failf("keyway sent bytes that a node refuses: %v: %.80q", err, l.toNode)
			return
		}
		if st == resp.More {
			return
		}
		l.toNode = l.toNode[k:]
		if st != resp.Ready {
			continue
		}
		args := make([]string, l.parser.Len())
		for i := range args {
			args[i] = string(l.parser.Arg(i))
		}
		reply := n.execute(l, args)
		n.world.logf("%s on link %d: %.60q -> %.60q", n, l.id, args, reply)
		l.toProxy = append(l.toProxy, reply...)
	}
}

func errorReply(format string, args ...any) []byte {
	return resp.AppendError(nil, fmt.Sprintf(format, args...))
}

// execute returns the reply to a command, or nil if it comes later.
func (n *node) execute(l *link, args []string) []byte {
	if n.busy != nil {
		if reply := l.refuse(args[0]); reply != nil {
			return reply
		}
	}
	before := n.world.executed
	reply := l.peer.Do(args)
	if n.world.executed == before {
		return reply
	}
	return n.mayKeepBusy(l, args[0], reply)
}

// isLoading refuses commands at random.
func (n *node) isLoading(*model.Conn, []string) []byte {
	if n.world.faults && n.world.chance(n.world.chaos.loading) {
		return errorReply("LOADING Redis is loading the dataset in memory")
	}
	return nil
}

// bigPrefix is the prefix of keys whose values are sometimes large and sometimes small.
const bigPrefix = "big"

var bigValues = [2]string{strings.Repeat("x", 1<<20), "x"}

// executing sees each command immediately before it is executed.
func (n *node) executing(_ *model.Conn, args, keys []string) {
	n.world.executed++
	switch {
	case args[0] == "RPUSH":
		var id int
		fmt.Sscanf(keys[0][1:], "c%d:", &id)
		n.world.clients[id].executing(n, keys[0], args[2])
	case strings.HasPrefix(keys[0], bigPrefix):
		n.redis.Data().Plant(keys[0], bigValues[n.world.rng.IntN(2)])
	}
}

func pushElement(call func(...string) []byte, keys, args []string) []byte {
	return call("RPUSH", keys[0], args[0])
}

func pushAndLie(call func(...string) []byte, keys, args []string) []byte {
	call("RPUSH", keys[0], args[0])
	return errorReply("%s", args[1])
}

// redirect returns the error for keys that the node does not serve now, or nil if it serves
// them.
func (n *node) redirect(keys []string, asking bool) []byte {
	if n.world.layouts != nil || n.world.change != nil {
		return nil
	}
	g := group([]byte(keys[0]))
	slot := slots.Of([]byte(keys[0]))
	missing := 0
	for _, k := range keys {
		if !n.redis.Data().Has(k) {
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
	return slices.DeleteFunc(n.redis.Data().Keys(), func(k string) bool { return group([]byte(k)) != g })
}

// runs reports whether the node executes commands now.
func (n *node) runs() bool { return n.up && n.world.now >= n.frozen }

func (n *node) String() string { return "n" + strconv.Itoa(n.self) }
