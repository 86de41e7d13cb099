package sim

import (
	"time"

	"github.com/keyway-proxy/keyway/slots"
)

// A master may die for good; its replica takes its place after a while, with all that
// the master had: replication is never behind here, so nothing may be lost. When the
// old master is back it follows the new one.
//
//	n0 dies       n3, who follows it, is elected       n0 is back
//	|<--- its slots have no owner, or a dead one --->| it follows n3

// failover is one that is under way.
type failover struct {
	from, to int
	at       int64
}

// failOver begins a failover of a master that has a replica, and whose slots do not
// move at the moment.
func (w *world) failOver() {
	from := w.nodes[w.rng.IntN(len(w.nodes))]
	to := w.replicaOf(from.self)
	if to < 0 || !from.up || len(from.migrating)+len(from.importing) > 0 || w.failing != nil {
		return
	}
	w.logf("%s dies, n%d is to take its place", from, to)
	w.die(from)
	w.failing = &failover{from: from.self, to: to, at: w.now + w.rng.Int64N(int64(300*time.Millisecond))}
}

// replicaOf is a node that runs and follows another, -1 if there is none.
func (w *world) replicaOf(master int) int {
	owns := false
	for g := range groups {
		owns = owns || w.owner(g) == master
	}
	for i, n := range w.nodes {
		if owns && n.up && n.follows == master {
			return i
		}
	}
	return -1
}

// die ends a node and its connections.
func (w *world) die(n *node) {
	n.up, n.scripts, n.busy = false, map[string]string{}, nil
	for _, l := range w.links {
		if l.open && l.node == n {
			l.open = false
			l.conn.Fail(w.now, "the node closed the connection")
		}
	}
}

// elect ends the failover that is under way, once it is time.
func (w *world) elect(atOnce bool) {
	f := w.failing
	if f == nil || w.now < f.at && !atOnce {
		return
	}
	w.failing = nil
	from, to := w.nodes[f.from], w.nodes[f.to]
	w.logf("%s has taken the place of %s", to, from)
	for g := range groups {
		if from.owner[g] != f.from {
			continue
		}
		for _, n := range []*node{from, to} {
			n.owner[g] = f.to
		}
		for _, n := range w.nodes {
			if n.owner[g] == f.from && (w.calm || w.rng.IntN(2) == 0) {
				n.owner[g] = f.to // the others hear of it, or later by gossip
			}
		}
	}
	to.lists, to.strs, to.versions = from.lists, from.strs, from.versions
	from.lists, from.strs, from.versions = map[string][]string{}, map[string]string{}, map[string]int{}
	to.follows, from.follows = -1, f.to
}

// failed marks the slots of a master that is down as nobody's, in a table that a fetch
// ends with, as the cluster does when it has agreed that it has failed.
func (w *world) failed(nodes []slots.Node, owned [][]slots.Range) {
	if w.failing == nil || w.rng.IntN(2) == 0 {
		return
	}
	i := w.failing.from
	nodes[i].Master, owned[i] = false, nil
	for j := range nodes {
		if nodes[j].Of == nodes[i].Addr {
			nodes[j].Of = ""
		}
	}
}
