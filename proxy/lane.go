package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// lane is the kind of connection that a call uses. It belongs to the call, so a retry
// uses the same kind as the first attempt. A blocking command thus never reaches a
// connection that other clients share.
type lane uint8

const (
	// sharedLane is the node's connection that its clients share.
	sharedLane lane = iota
	// trackedLane is the client's own connection to the node. The node tracks the keys
	// that are read over it.
	trackedLane
	// exclusiveLane is a connection for this call alone until its reply (BLPOP, WATCH,
	// WAIT, large requests).
	exclusiveLane
)

// lane returns the lane of the session's calls. Commands that need a connection of
// their own use exclusiveLane instead.
func (s *Session) lane() lane {
	if s.has(tracks) && s.ownConns.active() {
		return trackedLane
	}
	return sharedLane
}

// ownConns are a client's own connections, one to each node.
type ownConns interface {
	// active reports whether the client's calls use these connections.
	active() bool
	// conn returns the connection to a node, and makes it if necessary.
	conn(n *node) *pool.Conn
	// caching returns what CLIENT CACHING says about the command that is being dispatched.
	caching() caching
	// dispatched is called after each of the client's commands.
	dispatched(s *Session)
	// forgetAll tells the client that all that it has cached is out of date.
	forgetAll()
}

// forgetCached tells a client that caches that all of that is out of date.
func (s *Session) forgetCached() {
	if s.has(tracks) {
		s.ownConns.forgetAll()
	}
}

// cached returns what CLIENT CACHING says about the command that is being dispatched.
func (s *Session) cached() caching {
	if !s.has(tracks) {
		return cachingDefault
	}
	return s.ownConns.caching()
}

// alone is the receiver of a call in the exclusive lane. It knows the call's connection.
type alone interface {
	pool.Receiver
	// take returns the connection and the frame for the call's next attempt at n.
	take(w *Worker, n *node, frame []byte) trip
	// finished is called when the call has ended, unless its client has left.
	finished()
}

// trip is one attempt of a call in the exclusive lane.
type trip struct {
	conn     *pool.Conn
	frame    []byte
	deadline int64
	refusal  string // not empty: why the node cannot be reached
}

// goAlone puts the call in the exclusive lane.
func (c *call) goAlone(a alone) { c.lane, c.alone = exclusiveLane, a }

// goAloneOnce is goAlone for a call that no other connection can take over.
func (c *call) goAloneOnce(a alone) {
	c.goAlone(a)
	c.once = true
}

// manner is how a call's frame is written.
type manner uint8

const (
	plain        manner = iota
	behindAsking        // with ASKING in front
	owned               // the connection takes over the frame's buffer
)

// send makes the first attempt of a call.
func (c *call) send(n *node, frame []byte) {
	c.sendAs(n, frame, plain)
}

func (c *call) sendAs(n *node, frame []byte, how manner) {
	c.begin()
	if n.waiting > 0 && c.req.cmd.Unproven() && n.w.retries.delay(c, n, frame) {
		return
	}
	c.start(n, frame, how)
}

// begin counts a call as in flight and sets its deadline and lane. It precedes the first
// attempt, or the wait for it.
func (c *call) begin() {
	s := c.req.sess
	c.deadline = s.w.deadline()
	s.inflight++
	if c.lane != exclusiveLane {
		c.lane, c.caching = s.lane(), s.cached()
	}
}

// start makes an attempt of the call: it sends the frame to n over the connection of the
// call's lane. If n cannot be reached, the call ends, waits, or goes to another node (see
// unreachable). frame may lie in another connection's buffer.
func (c *call) start(n *node, frame []byte, how manner) {
	w := n.w
	c.node, c.asking, c.asked = n, how == behindAsking, nil
	if c.lane == sharedLane && (len(frame) >= largeFrame || c.block != nil && len(c.block.frames) >= largeFrame) {
		w.largeValues.sendAlone(c, n, 0)
	}
	if c.lane == exclusiveLane {
		c.startAlone(n, frame, how)
		return
	}
	s := c.req.sess
	if !c.req.cmd.Has(readOnly) {
		s.wrote.Add(n.ordinal)
	}
	conn, deadline := n.conn(s), c.replyBy()
	if why := conn.ConnectError(); why != "" {
		c.unreachable(frame, why)
		return
	}
	if c.replica { // leave time to ask the master
		deadline = min(deadline, w.now+int64(w.o.Backend.RequestTimeout)/2)
	}
	if c.asking && c.caching != cachingDefault {
		c.caching = cachingDefault // only one of ASKING and CLIENT CACHING can precede a command
		s.ownConns.forgetAll()
	}
	switch {
	case c.block != nil:
		frames, ends := c.block.withPrefix(c.first())
		conn.SendBlock(queued{c.block}, execReply{c}, frames, ends, w.now, deadline)
	case c.asking:
		conn.SendAsking(c.asksFirst(), c, frame, w.now, deadline)
	case c.caching != cachingDefault:
		first := c.first()
		ends := []int{len(first), len(first) + len(frame)}
		conn.SendBlock(nil, c, append(bytes.Clone(first), frame...), ends, w.now, deadline)
	case how == owned:
		conn.SendOwned(c, frame, w.now, deadline)
	default:
		conn.Send(c, frame, w.now, deadline)
	}
	if c.runsScript() {
		conn.SentScript(w.now)
	}
}

// replyBy returns the deadline for the reply to a call that is sent now. A call that was
// put off, or that has spent its time behind a slow request, gets a full request timeout.
func (c *call) replyBy() int64 {
	w := c.worker()
	if c.tries > 0 || c.deadline <= w.now {
		return w.deadline()
	}
	return c.deadline
}

// startAlone is start for the exclusive lane.
func (c *call) startAlone(n *node, frame []byte, how manner) {
	w := n.w
	t := c.alone.take(w, n, frame)
	switch {
	case t.refusal != "":
		c.unreachable(frame, t.refusal)
	case c.block != nil:
		frames, ends := c.block.withPrefix(c.first())
		t.conn.SendBlock(queued{c.block}, c.alone, frames, ends, w.now, t.deadline)
	case c.asking:
		t.conn.SendAsking(c.asksFirst(), c.alone, t.frame, w.now, t.deadline)
	case how == owned:
		t.conn.SendOwned(c.alone, t.frame, w.now, t.deadline)
	default:
		t.conn.Send(c.alone, t.frame, w.now, t.deadline)
	}
}

// asksFirst returns a new receiver for the reply to the ASKING in front of the call.
func (c *call) asksFirst() *askingReply {
	c.asked = new(askingReply)
	return c.asked
}

// askingReply receives the reply to the ASKING in front of a call. A node that refuses
// ASKING answers the call with a redirect. That redirect is meaningless, so the refusal
// replaces it.
type askingReply struct{ refusal []byte }

func (a *askingReply) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if p.Kind == '-' && p.Whole() {
		a.refusal = bytes.Clone(p.Bytes)
	}
}

func (*askingReply) Failed(*pool.Conn, []byte, pool.Failure) {}

// first returns the command that precedes the call's frame: ASKING, CLIENT CACHING, or
// nothing.
func (c *call) first() []byte {
	if c.asking {
		return []byte(pool.Asking)
	}
	return cachingFrames[c.caching]
}

// caching is the argument of the last CLIENT CACHING; it applies to the next command.
type caching uint8

const (
	cachingDefault caching = iota
	cachingYes
	cachingNo
)

var cachingFrames = [...][]byte{
	cachingYes: resp.AppendCommand(nil, "CLIENT", "CACHING", "YES"),
	cachingNo:  resp.AppendCommand(nil, "CLIENT", "CACHING", "NO"),
}
