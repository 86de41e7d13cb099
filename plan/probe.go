package plan

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
)

// Way is how keys can move from one node to another, and back.
type Way struct {
	From string `json:"from"`
	To   string `json:"to"`
	Can  string `json:"can"`  // "yes", "no" or "unknown"
	Back string `json:"back"` // the same for keys on To that go back to From
}

// The values of Way.
const (
	yes     = "yes"
	no      = "no"
	unknown = "unknown" // the nodes do not allow plan to try
)

const (
	probeLife = 10 * time.Second
	// probeValue is a short string as DUMP of Redis 3.2 writes it, which every later
	// server can restore.
	probeValue = "\x00\x01x\x06\x00\xb4\x6d\xee\xdf\x48\xbd\x74\x43"
)

// probe is what was learned by creating a small key on a node.
type probe struct {
	dump    string   // the key as the node dumps it; empty if that was not possible
	missing []string // rights that the user lacks, as ACL SETUSER takes them
	absent  []string // commands that the node does not know
	refused error    // the node does not accept the key, for another reason
	fixed   error    // the node is full, and its limit cannot be raised for the moment
}

// probeName returns a name for a key that the node may have.
func (n *node) probeName() string {
	name, t, id := fmt.Sprintf("%sprobe:%016x", ownPrefix, rand.Uint64()), n.side.Table, n.older
	if !n.source() {
		id = n.newer
	}
	if !t.Clustered() {
		return name
	}
	for i := range 1 << 20 {
		tagged := fmt.Sprintf("%s:{%d}", name, i)
		if _, owner := t.Place([]byte(tagged)); owner == id {
			return tagged
		}
	}
	return name // the node has no slots
}

// askProbe tries each command that moving keys needs, on a key of its own.
func (n *node) askProbe(ctx context.Context) error {
	name := n.probeName()
	object := "idletime"
	if strings.Contains(n.info["maxmemory_policy"], "lfu") {
		object = "freq"
	}
	var restore *redis.Cmd
	var dump *redis.StringCmd
	tried := map[string]*redis.Cmd{}
	var order []string
	err := n.pipeline(ctx, "trying the commands that move keys", func(p redis.Pipeliner) {
		try := func(right string, args ...any) *redis.Cmd {
			order = append(order, right)
			tried[right] = p.Do(ctx, args...)
			return tried[right]
		}
		restore = try("restore", "RESTORE", name, probeLife.Milliseconds(), probeValue)
		dump = p.Dump(ctx, name)
		try("exists", "EXISTS", name)
		try("pexpiretime", "PEXPIRETIME", name)
		try("object|"+object, "OBJECT", object, name)
		try("time", "TIME")
		try("watch", "WATCH", name)
		try("unwatch", "UNWATCH")
		try("multi", "MULTI")
		try("exec", "EXEC")
		p.Do(ctx, "DISCARD") // in case EXEC was refused
		try("wait", "WAIT", 0, 1)
		try("scan", "SCAN", 0, "COUNT", 1)
		try("randomkey", "RANDOMKEY")
		try("memory|usage", "MEMORY", "USAGE", name)
		try("renamenx", "RENAMENX", name, name+":2")
		try("unlink", "UNLINK", name, name+":2")
		try("client|setname", "CLIENT", "SETNAME", connName)
		try("client|list", "CLIENT", "LIST", "ID", "0")
	})
	if err != nil {
		return err
	}
	pr := &n.probe
	for _, right := range order {
		pr.note(right, tried[right].Err())
	}
	pr.note("dump", dump.Err())
	if pr.dump, err = dump.Result(); errors.Is(err, redis.Nil) {
		pr.dump = ""
	}
	if err := restore.Err(); err != nil && !isNotAllowed(err) && !isUnknown(err) {
		pr.refused = err
		if strings.HasPrefix(err.Error(), "OOM ") { // to enter an epoch, it needs a little memory
			pr.fixed = n.conn.ConfigSet(ctx, "maxmemory", n.info["maxmemory"]).Err() // which changes nothing
		}
	}
	slices.Sort(pr.missing)
	pr.missing = slices.Compact(pr.missing)
	return nil
}

func isUnknown(err error) bool { return strings.Contains(err.Error(), "unknown command") }

// isNotAllowed reports whether the user lacks a right. EXEC says EXECABORT first.
func isNotAllowed(err error) bool { return strings.Contains(err.Error(), "NOPERM") }

// note adds what the reply to a command says about rights.
func (p *probe) note(right string, err error) {
	switch {
	case err == nil:
	case isUnknown(err) && right != "pexpiretime": // before Redis 7.0, PTTL does
		p.absent = append(p.absent, right)
	case isNotAllowed(err) && strings.Contains(err.Error(), " key"):
		p.missing = append(p.missing, "~*")
	case isNotAllowed(err):
		p.missing = append(p.missing, "+"+right)
	}
}

// rights reports commands that keyway may not use, and those that a node does not know.
func (p *planner) rights() {
	for _, n := range p.nodes {
		if len(n.probe.missing) > 0 {
			list := strings.Join(n.probe.missing, " ")
			p.problem("rights", fmt.Sprintf("on the node: ACL SETUSER %s %s", n.user(), list),
				"user %s lacks %s on node %s", n.user(), list, n.name)
		}
		if len(n.probe.absent) > 0 {
			p.problem("commands", "allow them; keys cannot move without them",
				"node %s (%s) does not know %s", n.name, n.version(), strings.Join(n.probe.absent, ", "))
		}
		switch {
		case n.probe.refused == nil:
		case p.receives(n):
			p.problem("memory", "mend that first: keys cannot move to it, and it serves no writes",
				"node %s refuses new keys: %v", n.name, n.probe.refused)
		case n.probe.fixed != nil:
			limit := max(n.number("maxmemory"), n.number("used_memory")) + register.Room
			const remedy = "CONFIG SET maxmemory %d, run the command again, and then CONFIG SET maxmemory %s"
			p.problem("memory", fmt.Sprintf(remedy, limit, n.info["maxmemory"]),
				"node %s is full, and its memory cannot be raised for the moment in which it enters the epoch: %v",
				n.name, n.probe.fixed)
		default: // such a node is a reason to change the layout
			p.note("node %s refuses new keys, and none move to it: %v", n.name, n.probe.refused)
		}
	}
}

// receives reports whether keys may move to a node.
func (p *planner) receives(n *node) bool {
	return n.newer != router.None && slices.ContainsFunc(p.report.Pairs, func(pair Pair) bool {
		return pair.To == n.newName(p)
	})
}

// try tries for each pair of nodes whether one can restore what the other dumps.
func (p *planner) try(ctx context.Context) {
	type trial struct{ dump, to string }
	tried := map[trial]string{}
	can := func(from, to *node) string {
		t := trial{from.probe.dump, to.addr}
		if tried[t] == "" {
			tried[t] = to.restores(ctx, from.probe.dump)
		}
		return tried[t]
	}
	var forth, back grouped
	for _, pair := range p.report.Pairs {
		from, to := p.named(pair.From, true), p.named(pair.To, false)
		if from == nil || to == nil || from.err != nil || to.err != nil {
			continue
		}
		w := Way{From: from.name, To: to.newName(p), Can: can(from, to), Back: can(to, from)}
		p.report.Ways = append(p.report.Ways, w)
		if w.Can == no {
			forth.add(w.To+" ("+to.version()+")", w.From+" ("+from.version()+")")
		}
		if w.Back == no {
			back.add(w.To+" ("+to.version()+")", w.From+" ("+from.version()+")")
		}
	}
	for to, from := range forth.all() {
		p.problem("versions", "upgrade that node to at least the others' version",
			"node %s cannot restore values of %s", to, from)
	}
	for to, from := range back.all() {
		p.problem(checkWayBack, "there is no way back; if that is all right, write --accept "+checkWayBack,
			"values of node %s cannot be restored on %s", to, from)
	}
}

// grouped lists nodes by another node.
type grouped struct {
	order []string
	by    map[string][]string
}

func (g *grouped) add(key, value string) {
	if g.by == nil {
		g.by = map[string][]string{}
	}
	if g.by[key] == nil {
		g.order = append(g.order, key)
	}
	g.by[key] = append(g.by[key], value)
}

func (g *grouped) all() iter.Seq2[string, string] {
	return func(yield func(key, values string) bool) {
		for _, key := range g.order {
			if !yield(key, strings.Join(g.by[key], ", ")) {
				return
			}
		}
	}
}

// named returns the node of that name in the old or the new layout.
func (p *planner) named(name string, older bool) *node {
	for _, n := range p.nodes {
		if older && n.source() && n.name == name || !older && n.newer != router.None && n.newName(p) == name {
			return n
		}
	}
	return nil
}

// newName returns the node's name in the new layout.
func (n *node) newName(p *planner) string { return p.newer.Table.Nodes[n.newer].Name }

// restores reports whether the node accepts a dumped value.
func (n *node) restores(ctx context.Context, dump string) string {
	if dump == "" {
		return unknown
	}
	name := n.probeName()
	var restore *redis.Cmd
	err := n.pipeline(ctx, "restoring a value", func(p redis.Pipeliner) {
		restore = p.Do(ctx, "RESTORE", name, probeLife.Milliseconds(), dump)
		p.Unlink(ctx, name)
	})
	switch {
	case err != nil:
		return unknown
	case restore.Err() == nil:
		return yes
	case strings.Contains(restore.Err().Error(), "payload"):
		return no
	}
	return unknown
}
