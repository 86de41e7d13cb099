package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
)

// FamilyNames are the names of metrics.Snapshot.Families, by index.
var FamilyNames []string

// familyOf is the index of a command's family, by command ID.
var familyOf []uint8

func init() {
	seen := map[string]uint8{}
	familyOf = make([]uint8, command.Count)
	add := func(id int, name string) {
		f, ok := seen[name]
		if !ok {
			f = uint8(len(FamilyNames))
			seen[name] = f
			FamilyNames = append(FamilyNames, name)
		}
		familyOf[id] = f
	}
	for _, c := range command.ByID {
		add(c.ID, c.Group)
	}
	add(command.LearnedID, "module")
}

func newCounters() metrics.Counters {
	return metrics.Counters{Calls: make([]uint64, command.Count), Errors: make([]uint64, command.Count)}
}

// Snapshot returns a copy of the worker's metrics.
func (w *Worker) Snapshot() metrics.Snapshot {
	s := metrics.Snapshot{
		Counters: w.stats.Clone(), Gauges: w.gauges(), Families: make([]metrics.Histogram, len(FamilyNames)),
		Layout: w.table.Name, Epoch: w.epoch, Covered: w.covered(),
	}
	for id, h := range w.histograms {
		if h != nil {
			s.Families[familyOf[id]].Add(h)
		}
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
		g.Watching += oneIf(s.txn != nil && s.txn.watch != nil)
	}
	return g
}

// covered reports whether every slot has an owner.
func (w *Worker) covered() bool {
	covered := 1.0
	if w.table.Slotted() {
		covered = 0
		for _, share := range w.table.Shares() {
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
