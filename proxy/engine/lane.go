package engine

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
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
	if s.Has(Tracks) && s.OwnConns.Active() {
		return trackedLane
	}
	return sharedLane
}

// ownConns are a client's own connections, one to each node.
type ownConns interface {
	// Active reports whether the client's calls use these connections.
	Active() bool
	// Conn returns the connection to a node, and makes it if necessary.
	Conn(n *Node) *pool.Conn
	// Caching returns what CLIENT CACHING says about the command that is being dispatched.
	Caching() Caching
	// Caches reports whether the client may cache a key that the command being dispatched reads,
	// until it hears of a change.
	Caches(key []byte) bool
	// AfterCommand is called after each of the client's commands.
	AfterCommand(s *Session)
	// ForgetAll tells the client that all that it has cached is out of date.
	ForgetAll()
}

// ForgetCached tells a client that caches that all of that is out of date.
func (s *Session) ForgetCached() {
	if s.Has(Tracks) {
		s.OwnConns.ForgetAll()
	}
}

// cached returns what CLIENT CACHING says about the command that is being dispatched.
func (s *Session) cached() Caching {
	if !s.Has(Tracks) {
		return CachingDefault
	}
	return s.OwnConns.Caching()
}

// alone is the receiver of a call in the exclusive lane. It knows the call's connection.
type alone interface {
	pool.Receiver
	// Take returns the connection and the frame for the call's next attempt at n.
	Take(w *Worker, n *Node, frame []byte) Attempt
	// OnEnd is called when the call has ended, unless its client has left.
	OnEnd()
}

// Attempt is one attempt of a call in the exclusive lane.
type Attempt struct {
	Conn     *pool.Conn
	Frame    []byte
	Deadline int64
	Refusal  string // not empty: why the node cannot be reached
}

// GoAlone puts the call in the exclusive lane.
func (c *Call) GoAlone(a alone) { c.lane, c.alone = exclusiveLane, a }

// GoAloneOnce is GoAlone for a call that no other connection can take over.
func (c *Call) GoAloneOnce(a alone) {
	c.GoAlone(a)
	c.once = true
}

// manner is how a call's frame is written.
type manner uint8

const (
	plain        manner = iota
	behindAsking        // with ASKING in front
	owned               // the connection takes over the frame's buffer
)

// SendTo makes the first attempt of a call.
func (c *Call) SendTo(n *Node, frame []byte) {
	c.sendAs(n, frame, plain)
}

func (c *Call) sendAs(n *Node, frame []byte, how manner) {
	c.begin()
	if n.Retries.Waiting() > 0 && c.Request.Command.Unproven() && n.Worker.retries.delay(c, n, frame) {
		return
	}
	c.start(n, frame, how)
}

// begin counts a call as in flight and sets its deadline and lane. It precedes the first
// attempt, or the wait for it.
func (c *Call) begin() {
	s := c.Request.Session
	c.Deadline = s.Worker.Deadline()
	s.Inflight++
	if c.lane != exclusiveLane {
		c.lane, c.caching = s.lane(), s.cached()
	}
}

// start makes an attempt of the call: it sends the frame to n over the connection of the
// call's lane. If n cannot be reached, the call ends, waits, or goes to another node (see
// unreachable). frame may lie in another connection's buffer.
func (c *Call) start(n *Node, frame []byte, how manner) {
	w := n.Worker
	c.Node, c.asking, c.asked = n, how == behindAsking, nil
	if c.lane == sharedLane && (len(frame) >= largeFrame || c.Block != nil && len(c.Block.Frames) >= largeFrame) {
		w.largeValues.sendAlone(c, n, 0)
	}
	if c.lane == exclusiveLane {
		c.startAlone(n, frame, how)
		return
	}
	s := c.Request.Session
	if !c.Request.Command.Has(readOnly) {
		s.WroteTo.Add(n.Ordinal)
	}
	conn, deadline := n.Conn(s), c.replyBy()
	if conn.User != s.Login.Account() {
		c.Refuse(otherUser)
		return
	}
	if why := conn.ConnectError(); why != "" {
		c.unreachable(frame, why)
		return
	}
	if c.replica { // leave time to ask the master
		deadline = min(deadline, w.Now+int64(w.Options.Backend.RequestTimeout)/2)
	}
	if c.asking && c.caching != CachingDefault {
		c.caching = CachingDefault // only one of ASKING and CLIENT CACHING can precede a command
		s.OwnConns.ForgetAll()
	}
	switch {
	case c.Block != nil:
		frames, ends := c.Block.withPrefix(c.first())
		conn.SendBlock(queued{c.Block}, execReply{c}, frames, ends, w.Now, deadline)
	case c.asking:
		conn.SendAsking(c.asksFirst(), c, frame, w.Now, deadline)
	case c.caching != CachingDefault:
		first := c.first()
		ends := []int{len(first), len(first) + len(frame)}
		conn.SendBlock(nil, c, append(bytes.Clone(first), frame...), ends, w.Now, deadline)
	case how == owned:
		conn.SendOwned(c, frame, w.Now, deadline)
	default:
		conn.Send(c, frame, w.Now, deadline)
	}
	if c.runsScript() {
		conn.SentScript(w.Now)
	}
}

// replyBy returns the deadline for the reply to a call that is sent now. A call that was
// put off, or that has spent its time behind a slow request, gets a full request timeout.
func (c *Call) replyBy() int64 {
	w := c.Worker()
	if c.tries > 0 || c.Deadline <= w.Now {
		return w.Deadline()
	}
	return c.Deadline
}

// startAlone is start for the exclusive lane.
func (c *Call) startAlone(n *Node, frame []byte, how manner) {
	w := n.Worker
	t := c.alone.Take(w, n, frame)
	switch {
	case t.Refusal != "":
		c.unreachable(frame, t.Refusal)
	case !mayUse(c, t.Conn):
		n.Release(t.Conn, false)
		c.Refuse(otherUser)
	case c.Block != nil:
		frames, ends := c.Block.withPrefix(c.first())
		t.Conn.SendBlock(queued{c.Block}, c.alone, frames, ends, w.Now, t.Deadline)
	case c.asking:
		t.Conn.SendAsking(c.asksFirst(), c.alone, t.Frame, w.Now, t.Deadline)
	case how == owned:
		t.Conn.SendOwned(c.alone, t.Frame, w.Now, t.Deadline)
	default:
		t.Conn.Send(c.alone, t.Frame, w.Now, t.Deadline)
	}
}

// otherUser is the reason for a refusal that never happens, as long as connections are chosen by fits.
const otherUser = "keyway has chosen a connection of another user"

// mayUse reports whether a call in the exclusive lane may use the connection: that is of the
// client's user, or it is keyway's own, and keyway has asked whether the user may run the command.
func mayUse(c *Call, conn *pool.Conn) bool {
	return conn.User == c.Request.Session.Login.Account() ||
		conn.User == nil && c.Block == nil && c.Request.Command.Handling == command.Local
}

// asksFirst returns a new receiver for the reply to the ASKING in front of the call.
func (c *Call) asksFirst() *askingReply {
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
func (c *Call) first() []byte {
	if c.asking {
		return []byte(pool.Asking)
	}
	return cachingFrames[c.caching]
}

// Caching is the argument of the last CLIENT CACHING; it applies to the next command.
type Caching uint8

const (
	CachingDefault Caching = iota // there was none
	CachingYes                    // CLIENT CACHING YES
	CachingNo                     // CLIENT CACHING NO
)

var cachingFrames = [...][]byte{
	CachingYes: resp.AppendCommand(nil, "CLIENT", "CACHING", "YES"),
	CachingNo:  resp.AppendCommand(nil, "CLIENT", "CACHING", "NO"),
}

// Block is a transaction as its node gets it: everything from MULTI to EXEC, in one write.
type Block struct {
	Frames    []byte   // MULTI, the commands and finally EXEC
	Ends      []int    // where each of these ends in Frames
	Queued    int      // number of queued commands
	Writes    bool     // a command other than FCALL may write
	Functions []string // called by FCALL; only a pause makes keyway ask whether they write
	Scripts   bool     // a command is a script, a function or a module's command
	Watches   bool     // keys are watched over a connection of the client's own
	bad       []byte   // the first error of the node while it queued the block
}

// mayWrite reports whether a command of the transaction may write.
func (b *Block) mayWrite() bool { return b.Writes || len(b.Functions) > 0 }

// Add appends a command to the block.
func (b *Block) Add(frame []byte) {
	b.Frames = append(b.Frames, frame...)
	b.Ends = append(b.Ends, len(b.Frames))
}

// withPrefix returns the block with the command first in front: ASKING or CLIENT CACHING,
// which apply to the whole block, or nothing.
func (b *Block) withPrefix(first []byte) (frames []byte, ends []int) {
	if len(first) == 0 {
		return b.Frames, b.Ends
	}
	frames = append(append(frames, first...), b.Frames...)
	ends = append(ends, len(first))
	for _, e := range b.Ends {
		ends = append(ends, e+len(first))
	}
	return frames, ends
}

// queued receives the node's replies to a block, except that to EXEC.
type queued struct{ block *Block }

func (q queued) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if p.Kind == '-' && q.block.bad == nil && p.Whole() {
		q.block.bad = bytes.Clone(p.Bytes)
	}
}

func (queued) Failed(*pool.Conn, []byte, pool.Failure) {}

// execReply receives the reply to the EXEC of a block on a shared connection.
type execReply struct{ *Call }

func (e execReply) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := e.Call
	if p.Kind != '-' || !p.Whole() || c.Request.Session == nil {
		c.Reply(conn, frame, p)
		return
	}
	cause := c.Block.Cause(p.Bytes)
	switch {
	case c.onError(conn, frame, cause):
	case refusal.CannotServe(cause):
		c.Settle(cause) // the client learns more than from EXECABORT: a later attempt may succeed
	default:
		c.Settle(Aborted(p.Bytes, cause))
	}
}

// Ends implements [pool.Ender]: a node whose rules forbid EXEC leaves the connection inside MULTI, where
// it would queue the commands of others. keyway has asked for the right before, but it may just have been taken away.
func (e execReply) Ends(reply []byte) string {
	if refusal.IsNoPermission(reply) {
		return "the node permits no EXEC to the user of this connection"
	}
	return ""
}

// errDiscarded begins the reply to an EXEC that the node refused (multi.c, execCommandAbort).
const errDiscarded = "EXECABORT Transaction discarded because of: "

// Aborted returns the client's reply to an EXEC that the node refused. If the node refused
// a command of the block, cause is its error. The client has got QUEUED for that command,
// so EXEC's reply repeats the error, as Redis does when it refuses EXEC itself (multi.c,
// execCommandAbort).
func Aborted(reply, cause []byte) []byte {
	if bytes.Equal(reply, cause) {
		return reply
	}
	return append([]byte("-"+errDiscarded), cause[1:]...)
}

// Cause returns the error that made the node discard the block. If EXEC's reply is just
// EXECABORT, this is the node's first error while it queued the block.
func (b *Block) Cause(reply []byte) []byte {
	cause := reply
	if bytes.HasPrefix(reply, []byte("-EXECABORT ")) && b.bad != nil {
		cause = b.bad
	}
	b.bad = nil // the block may be sent again
	return cause
}
