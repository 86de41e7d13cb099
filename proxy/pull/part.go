package pull

import (
	"math"
	"slices"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part brings keys to their nodes while the layout changes.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature { return []engine.Feature{&puller{w: w}} },
}

// puller is a worker's view of a change of the layout: which keys have left their former nodes,
// and who waits for the others.
type puller struct {
	engine.Inactive
	w      *engine.Worker
	epoch  uint64 // the worker's LayoutEpoch in which the rest holds
	gone   gone
	swept  gone // hash tags, none of whose keys is at its former node any more
	pairs  map[route]*pair
	order  []*pair   // the same, in the order in which they were opened
	due    []*pair   // those that are pumped when the turn ends
	queue  []*waiter // clients, in the order in which they give up
	fresh  []*waiter // those of them that have begun to wait in this turn
	seen   showing   // scratch
	calls  []*waiter // calls; those of one client in the order of its commands
	ready  []*waiter // those that need not wait any more
	over   int       // at least as many of queue are over
	unmet  int       // keys that waiters have given up since the last sweep
	keys   []int     // scratch
	wanted []wanted  // scratch

	heldUntil int64 // all commands wait until this time; 0: they do not
	heldIn    int64 // the epoch of the nodes in which that began

	// What the last commands that were looked at need besides.
	sorts   []*sorting
	refusal string
	brought *engine.Call // is being sent, since all that it needs has come; nil: none
	// isBringing keeps waiters from being resumed; the next tick resumes them.
	isBringing bool
}

// Layout begins to bring keys, or ends that. In a new epoch of the layout nothing is known about
// any key, and the keys that are on their way may have to go elsewhere.
func (p *puller) Layout(bool) {
	w := p.w
	isNew := p.epoch != w.LayoutEpoch
	if isNew {
		p.epoch, p.gone, p.swept = w.LayoutEpoch, gone{}, gone{}
	}
	if p.heldIn != w.Options.Backend.Epoch {
		p.heldUntil = 0
	}
	if w.Arrivals = nil; w.Table.IsMoving() || p.heldUntil != 0 {
		w.Arrivals = p
	}
	for _, pr := range slices.Clone(p.order) {
		if isNew || !w.Table.IsMoving() || !p.isKnown(pr.from) || !p.isKnown(pr.to) {
			p.drop(pr)
		} else {
			pr.reroute()
			pr.forgetTags()
		}
	}
	if w.Table.FromCluster() {
		p.swept = gone{} // slots may have moved while a pass went over the nodes
	}
	p.lookAgain()
}

func (p *puller) isKnown(n *engine.Node) bool { return slices.Contains(p.w.Nodes, n) }

// drop ends the moves between two nodes. What waits for their keys is looked at anew.
func (p *puller) drop(pr *pair) {
	delete(p.pairs, pr.route)
	p.order = slices.DeleteFunc(p.order, func(o *pair) bool { return o == pr })
	pr.close()
	for _, wt := range append(pr.waited.all(), pr.batch...) {
		for _, who := range wt.waiters {
			p.setReady(who, "")
		}
	}
	pr.forgetTags()
}

// CloseNode ends the moves from and to a node.
func (p *puller) CloseNode(n *engine.Node, _ string) {
	for _, pr := range slices.Clone(p.order) {
		if pr.from == n || pr.to == n {
			p.drop(pr)
		}
	}
	p.release()
}

// Conns returns the connections to a node over which keys move.
func (p *puller) Conns(n *engine.Node) (conns []*pool.Conn) {
	for _, pr := range p.order {
		if pr.from == n {
			conns = append(conns, pr.source)
		}
		if pr.to == n {
			conns = append(conns, pr.destination)
		}
	}
	return conns
}

// Shut closes the connections.
func (p *puller) Shut() {
	for _, pr := range p.order {
		pr.close()
	}
}

// Leave forgets a client that has left.
func (p *puller) Leave(s *engine.Session) {
	if who := waiters.Get(s); who != nil && !who.isOver {
		p.end(who)
	}
}

// EndTurn begins to move what is wanted since the last turn, all at once.
func (p *puller) EndTurn() {
	for i, who := range p.fresh {
		if !who.isOver && !who.isHeld {
			p.readOrFetch(who)
			p.lookAhead(who.s)
		}
		p.fresh[i] = nil
	}
	p.fresh = p.fresh[:0]
	for i, pr := range p.due {
		pr.isDue = false
		pr.pump()
		p.due[i] = nil
	}
	p.due = p.due[:0]
	p.release()
}

// Tick goes on with moves that had to pause, and ends waits that have become too long.
func (p *puller) Tick() {
	p.holds()
	for _, pr := range slices.Clone(p.order) {
		pr.source.Tick(p.w.Now)
		pr.destination.Tick(p.w.Now)
		pr.pump()
	}
	for len(p.queue) > 0 && (p.queue[0].isOver || p.queue[0].until <= p.w.Now) {
		who := p.queue[0]
		p.queue[0], p.queue = nil, p.queue[1:]
		if !who.isOver {
			p.setReady(who, who.lateText())
		}
		p.over--
	}
	for _, who := range p.calls {
		if who.until <= p.w.Now && !who.isOver {
			p.setReady(who, who.lateText())
		}
	}
	p.sweep()
	p.release()
}

// Due returns the next tick while something is under way.
func (p *puller) Due() int64 {
	if len(p.queue)+len(p.calls) > 0 {
		return p.w.Now + engine.Tick
	}
	for _, pr := range p.order {
		if pr.isBusy() {
			return p.w.Now + engine.Tick
		}
	}
	return math.MaxInt64
}
