package plan

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/keyway-proxy/keyway/router"
)

// maxReplicaLag is how many seconds may have passed since a replica in step said how far it is, as it does each second.
const maxReplicaLag = 2

// Replicas returns the problems of a change whose keys must be at replicas before they count as moved
// (Options.Strict). It asks the nodes for nothing else, so it can be called while keys move. A node that cannot
// be asked is no problem of these.
func Replicas(ctx context.Context, older, newer Side) []Problem {
	p := &planner{
		older: older, newer: newer, o: Options{Strict: true}, same: router.SameNodes(older.Table, newer.Table),
		report: &Report{Space: router.Compare(older.Table, newer.Table)},
	}
	if !p.report.Space.Moves {
		return nil
	}
	p.list()
	defer p.close()
	var asked sync.WaitGroup
	for _, n := range p.nodes {
		asked.Go(func() { n.err = n.connect(ctx) })
	}
	asked.Wait()
	p.replicas()
	return p.report.Problems
}

// replicas adds the nodes that have no replica in step, if there must be one.
func (p *planner) replicas() {
	if !p.o.Strict {
		return
	}
	takesPart := p.takesPart()
	for _, n := range p.nodes {
		if n.err == nil && takesPart(n) && !n.hasReplicaInStep() {
			p.problem("replicas", "give it one, or write switch: {durable: auto}",
				"node %s has no replica in step, so with switch.durable strict no key would move from it or to it",
				n.name)
		}
	}
}

// takesPart returns a function that reports whether a node sends or receives keys. If a comparison cannot say
// that of keys that are written later, all nodes do.
func (p *planner) takesPart() func(n *node) bool {
	s := p.report.Space
	if s.Basis == router.Untagged || s.Basis == router.Unmeasured && len(s.Rules) == 0 ||
		p.older.HashTag != p.newer.HashTag {
		return func(*node) bool { return true }
	}
	sends, receives := map[string]bool{}, map[string]bool{}
	for _, m := range s.Pairs {
		sends[m.From], receives[m.To] = true, true
	}
	for _, r := range s.Rules {
		sends[r.From], receives[r.To] = true, true
	}
	return func(n *node) bool {
		return n.source() && sends[n.name] || n.newer != router.None && receives[n.newName(p)]
	}
}

func (n *node) hasReplicaInStep() bool {
	for i := range n.number("connected_slaves") {
		fields := n.info[fmt.Sprint("slave", i)]
		_, lag, _ := strings.Cut(fields, ",lag=")
		seconds, err := strconv.Atoi(lag)
		if strings.Contains(fields, "state=online") && err == nil && seconds >= 0 && seconds <= maxReplicaLag {
			return true
		}
	}
	return false
}
