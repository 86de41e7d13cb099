package sim

import (
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/sim/model"
)

// A master may die. After a while its replica becomes the master, with all of its data:
// there is no replica lag in the simulation, so nothing may be lost. When the old master is
// back, it is a replica of the new one.
//
//	n0 dies         its replica n3 is elected        n0 is back
//	|<-- its slots have no owner, or a dead one -->| as replica of n3

// failover is a failover that has not finished.
type failover struct {
	from, to int
	at       int64
}

// failOver starts a failover of a random node, if it is a master with a replica and without
// moving slots.
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

// replicaOf returns a running replica of a master that owns slots, or -1.
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

// die stops a node and closes its connections.
func (w *world) die(n *node) {
	n.up, n.busy = false, nil
	n.redis.Restart()
	for _, l := range w.links {
		if l.open && l.node == n {
			w.cutLink(l, "the node closed the connection")
		}
	}
}

// elect finishes the current failover when it is due, or at once.
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
				n.owner[g] = f.to // the other nodes learn it now, or later by gossip
			}
		}
	}
	to.redis.SetData(from.redis.Data())
	from.redis.SetData(model.NewData())
	to.follows, from.follows = -1, f.to
}

// failed removes a dead master and its slots from a fetched table at random, as in a cluster
// that has agreed that the master has failed.
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
