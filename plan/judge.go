package plan

import (
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// Memory is what a node needs that keys move to.
type Memory struct {
	Node   string `json:"node"`
	In     int64  `json:"in"`   // bytes of the keys that come
	Out    int64  `json:"out"`  // bytes of the keys that leave
	Used   int64  `json:"used"` // now
	Max    int64  `json:"max"`  // maxmemory; 0: none
	System int64  `json:"system"`
	Policy string `json:"policy"`
	Fits   bool   `json:"fits"`
}

// destinations compares the memory of the nodes with what moves to them.
func (p *planner) destinations() {
	for id, n := range p.byNew {
		name := p.newer.Table.Nodes[id].Name
		m := Memory{
			Node: name, Used: n.number("used_memory"), Max: n.number("maxmemory"),
			System: n.number("total_system_memory"), Policy: n.info["maxmemory_policy"],
		}
		for _, pair := range p.report.Pairs {
			if pair.To == name {
				m.In += pair.Bytes
			}
			if n.source() && pair.From == n.name {
				m.Out += pair.Bytes
			}
		}
		if n.err != nil || m.In == 0 {
			continue
		}
		limit, what := m.Max, "maxmemory"
		if limit == 0 {
			limit, what = m.System, "the machine's memory"
		}
		m.Fits = limit == 0 || m.Used+m.In-m.Out <= limit
		switch {
		case !m.Fits:
			p.problem("memory", fmt.Sprintf("give it at least %s, or fewer keys", Bytes(m.Used+m.In-m.Out)),
				"node %s needs %s for new keys, and uses %s of %s (%s); %s", name, Bytes(m.In), Bytes(m.Used),
				Bytes(limit), what, consequence(m))
		case m.Used+m.In > limit && limit > 0:
			p.note("node %s has too little memory for all new keys until others have left it: "+
				"it needs %s, uses %s of %s (%s), and %s leave it",
				name, Bytes(m.In), Bytes(m.Used), Bytes(limit), what, Bytes(m.Out))
		}
		p.report.Memory = append(p.report.Memory, m)
	}
	slices.SortFunc(p.report.Memory, func(a, b Memory) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
}

// consequence returns what happens when the node is full.
func consequence(m Memory) string {
	if m.Max > 0 && m.Policy != "noeviction" {
		return "it would evict keys (" + m.Policy + ")"
	}
	return "it would refuse writes"
}

// judge adds the remaining problems, and the estimate.
func (p *planner) judge() {
	r := p.report
	for _, n := range p.nodes {
		p.judgeKeys(n)
	}
	lost := int64(0)
	for _, pair := range r.Pairs {
		if pair.To == "" {
			lost += max(pair.Keys, 1)
		}
	}
	if lost > 0 {
		p.problem("keys", "add a rule, a default or an owner of the slots for them",
			"the new layout has no node for some keys")
	}
	if n := unowned(p.older.Table); n > 0 {
		p.problem("keys", "give them an owner first: redis-cli --cluster check",
			"%d slots of the old layout have no owner, so their keys are not counted", n)
	}
	if len(r.Big) > 0 && p.o.RefuseBig {
		first := r.Big[0]
		p.problem("big", "split or delete such keys, or write switch: {big: {how: last}}",
			"some keys take more than %s, so both of their nodes would stop while they move, such as %s on node %s "+
				"(%s)",
			Bytes(p.o.BigOver), errtext.Key(first.Key), first.Node, Bytes(first.Bytes))
	}
	r.Estimate = p.estimate()
}

// unowned returns how many slots of a cluster have no owner.
func unowned(t *router.Table) (n int) {
	for slot := range slots.Count {
		if t.Clustered() && t.SlotOwner(int32(slot)) == router.None {
			n++
		}
	}
	return n
}

func (p *planner) judgeKeys(n *node) {
	f := &n.found
	if f.misplaced > 0 {
		p.problem("misplaced", "is the first file the one that keyway runs with?",
			"%d of %d keys that were looked at on node %s lie elsewhere than the old layout says, such as %s; "+
				"clients do not find them today", f.misplaced, f.seen, n.name, errtext.Key(f.example))
	}
	keys := int64(0)
	for _, db := range n.dbs {
		keys += db.Keys
		if db.Number > 0 && n.source() && p.newer.Table.Slotted() {
			p.problem("databases", "move or delete them first: with slots, clients reach database 0 only",
				"node %s has %d keys in database %d", n.name, db.Keys, db.Number)
		}
	}
	if f.occupied {
		p.problem("misplaced", "empty it, or name another node: keys that move there never replace others",
			"node %s is not in the old layout, and has %d keys", n.name, keys)
	}
}

// estimate returns the time until the last node has sent its keys: all send at once.
func (p *planner) estimate() Estimate {
	e := Estimate{KeysPerSec: keysPerSecond, BytesPerSec: bytesPerSecond}
	sum := map[string]*Pair{}
	for _, pair := range p.report.Pairs {
		if sum[pair.From] == nil {
			sum[pair.From] = &Pair{}
		}
		sum[pair.From].Keys += pair.Keys
		sum[pair.From].Bytes += pair.Bytes
	}
	for _, s := range sum {
		e.Seconds = max(e.Seconds, (s.Keys+keysPerSecond-1)/keysPerSecond, (s.Bytes+bytesPerSecond-1)/bytesPerSecond)
	}
	return e
}

// Bytes returns a number of bytes for people, such as 1.5 GB.
func Bytes(n int64) string {
	units := []string{"bytes", "KB", "MB", "GB", "TB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}
