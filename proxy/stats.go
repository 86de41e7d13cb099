package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
)

// Snapshot returns a copy of the worker's metrics.
func (w *Worker) Snapshot() metrics.Snapshot {
	s := metrics.Snapshot{
		Counters: w.stats.Clone(), Gauges: w.gauges(), Families: w.stats.Families(command.FamilyOf),
		Layout: w.table.Name, Epoch: w.epoch, Covered: w.covered(),
	}
	for i, n := range w.nodes {
		s.Nodes = append(s.Nodes, n.snapshot(w.table.Nodes[i].Master))
	}
	return s
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (w *Worker) gauges() metrics.Gauges {
	g := metrics.Gauges{Clients: len(w.sessions)}
	for _, s := range w.sessions {
		g.OutputBytes += s.out.Size() + s.parked
		g.Blocked += oneIf(s.waits())
		g.Subscribed += oneIf(s.has(subscribed))
		g.Tracking += oneIf(s.has(tracks))
		g.Watching += oneIf(s.block != nil && s.block.watches)
	}
	return g
}

// covered reports whether every slot has an owner.
func (rt *routing) covered() bool {
	covered := 1.0
	if rt.table.Slotted() {
		covered = 0
		for _, share := range rt.table.Shares() {
			covered += share
		}
	}
	return covered > 0.99999
}

func (n *node) snapshot(master bool) metrics.Node {
	s := metrics.Node{Name: n.name, Addr: n.addr, Master: master, Up: n.isUp(), Behind: n.lag.Lag(n.w.now),
		Exclusive: n.exclusive, Moved: n.moved, Ask: n.asked, Retried: n.retried}
	if state := n.conns[0].State(); state != pool.Ready {
		s.State = state.String()
	}
	for _, f := range n.w.features {
		s.Exclusive += len(f.conns(n))
	}
	for _, c := range n.conns {
		if r := c.Reason(); r != "" {
			s.Reason = r
		}
		s.InFlight += c.InFlight()
		s.HeldBytes += c.InFlightBytes()
		s.AddConnection(&c.Stats)
	}
	for _, c := range n.retired.conns {
		s.InFlight += c.InFlight()
		s.HeldBytes += c.InFlightBytes()
	}
	return s
}
