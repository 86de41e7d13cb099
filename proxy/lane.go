package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/pool"
)

// lane says over which kind of connection a call goes. It belongs to the call, so
// that a retry takes the same kind as the first attempt: a blocking command cannot
// reach a connection that others share.
type lane uint8

const (
	sharedLane    lane = iota // the node's connection that its clients share
	trackedLane               // the client's own connection to the node, on which the node tracks what it reads
	exclusiveLane             // a connection that is this call's alone until its reply (BLPOP, WATCH, WAIT, what is large)
)

// lane is the lane of what the session sends, unless the command needs one of its own.
func (s *Session) lane() lane {
	if s.has(tracks) && s.tracking.active() {
		return trackedLane
	}
	return sharedLane
}

// alone receives the reply to a call in the exclusive lane and knows its connection.
type alone interface {
	pool.Receiver
	// take returns how the call goes to n this time.
	take(w *Worker, n *node, frame []byte) trip
	// finished is called when the call has been answered.
	finished()
}

// trip is one attempt of a call in the exclusive lane.
type trip struct {
	conn     *pool.Conn
	frame    []byte
	deadline int64
	refusal  string // not empty: why the node cannot be reached
}

// goAlone puts a call in the exclusive lane.
func (c *call) goAlone(a alone) { c.lane, c.alone = exclusiveLane, a }

// manner is how a call's frame is written.
type manner uint8

const (
	plain        manner = iota
	behindAsking        // with ASKING in front
	owned               // the frame's buffer is given away
)

// send starts a call for the first time.
func (w *Worker) send(s *Session, c *call, n *node, frame []byte) {
	w.sendAs(s, c, n, frame, plain)
}

func (w *Worker) sendAs(s *Session, c *call, n *node, frame []byte, how manner) {
	w.begin(s, c)
	if n.waiting > 0 && c.req.cmd.Unproven() && w.hold(c, n, frame) {
		return
	}
	w.start(c, n, frame, how)
}

// begin counts a call that is about to be sent, or to wait for that.
func (w *Worker) begin(s *Session, c *call) {
	c.deadline = w.deadline()
	s.inflight++
	if c.lane != exclusiveLane {
		c.lane, c.caching = s.lane(), s.cached()
	}
}

// start sends a call's frame to n over the connection of its lane, the first time
// and each time after, or ends the call if n cannot be reached. frame may lie in
// another connection's buffer.
func (w *Worker) start(c *call, n *node, frame []byte, how manner) {
	c.node, c.asking, c.asked = n, how == behindAsking, nil
	if c.lane == sharedLane && (len(frame) >= largeFrame || c.txn != nil && len(c.txn.block) >= largeFrame) {
		w.goLarge(c, n, 0)
	}
	if c.lane == exclusiveLane {
		w.startAlone(c, n, frame, how)
		return
	}
	s := c.req.sess
	if !c.req.cmd.Has(readOnly) {
		s.wrote.add(n.ordinal)
	}
	conn, deadline := n.conn(s), w.replyBy(c)
	if why := conn.Refusing(); why != "" {
		w.unreachable(c, frame, why)
		return
	}
	if c.replica { // there must be time left to ask the master
		deadline = min(deadline, w.now+int64(w.o.Backend.RequestTimeout)/2)
	}
	if c.asking && c.caching != cachingDefault {
		c.caching = cachingDefault // one of both goes before a command
		s.tracking.forgetAll()
	}
	switch {
	case c.txn != nil:
		block, ends := c.txn.behind(c.first())
		conn.SendBlock(queued{c.txn}, execReply{c}, block, ends, w.now, deadline)
	case c.asking:
		conn.SendAsking(c.asksFirst(), c, frame, w.now, deadline)
	case c.caching != cachingDefault:
		first := c.first()
		conn.SendBlock(nil, c, append(bytes.Clone(first), frame...), []int{len(first), len(first) + len(frame)}, w.now, deadline)
	case how == owned:
		conn.SendOwned(c, frame, w.now, deadline)
	default:
		conn.Send(c, frame, w.now, deadline)
	}
	if c.runsScript() {
		conn.SentScript(w.now)
	}
}

// replyBy is when a call that is sent now must be answered: one that has waited to be
// sent, or behind what takes long, has as much time as any.
func (w *Worker) replyBy(c *call) int64 {
	if c.tries > 0 || c.deadline <= w.now {
		return w.deadline()
	}
	return c.deadline
}

// startAlone is start in the exclusive lane.
func (w *Worker) startAlone(c *call, n *node, frame []byte, how manner) {
	t := c.alone.take(w, n, frame)
	switch {
	case t.refusal != "":
		w.unreachable(c, frame, t.refusal)
	case c.txn != nil:
		block, ends := c.txn.behind(c.first())
		t.conn.SendBlock(queued{c.txn}, c.alone, block, ends, w.now, t.deadline)
	case c.asking:
		t.conn.SendAsking(c.asksFirst(), c.alone, t.frame, w.now, t.deadline)
	case how == owned:
		t.conn.SendOwned(c.alone, t.frame, w.now, t.deadline)
	default:
		t.conn.Send(c.alone, t.frame, w.now, t.deadline)
	}
}

// asksFirst returns the receiver of the reply to the ASKING in front of the call.
func (c *call) asksFirst() *askingReply {
	c.asked = new(askingReply)
	return c.asked
}

// askingReply receives the reply to the ASKING in front of a call. If the node refuses
// that, it answers the call with a redirect that means nothing.
type askingReply struct{ refusal []byte }

func (a *askingReply) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if p.Kind == '-' && p.Whole() {
		a.refusal = bytes.Clone(p.Bytes)
	}
}

func (*askingReply) Failed(*pool.Conn, []byte, pool.Failure) {}

// first is what goes in front of a call, if anything does.
func (c *call) first() []byte {
	if c.asking {
		return []byte(pool.Asking)
	}
	return cachingFrames[c.caching]
}
