package engine

import (
	"bytes"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slowlog"
	"github.com/keyway-proxy/keyway/transaction"
)

// Call is one frame sent to one node for a request. It receives its own reply: the
// connection's FIFO points at it until the reply is complete.
type Call struct {
	Request  *Request
	Node     *Node
	Group    int32  // of its keys, -1 for none
	placedIn uint64 // the LayoutEpoch in which PlaceAgain found the group; 0: dispatch found it
	index    int32  // index among the request's calls
	Deadline int64  // when the first attempt must be answered
	Timeout  int64  // when the timeout of a blocking command ends; 0: none
	alone    alone  // receiver of the reply, in the exclusive lane

	lane       lane
	once       bool // it means something only on its connection, such as WATCH
	replica    bool // it reads from a replica, and is in the session's reading
	asking     bool // sent behind ASKING
	sentAsEval bool // an EVALSHA that was sent as EVAL
	caching    Caching
	asked      *askingReply       // receiver of the reply to ASKING
	read       freshness.Read     // from a replica
	Block      *transaction.Block // of an EXEC, which is sent as this block
	received   int                // bytes of a reply that comes in pieces
	resending
}

// resending is the state of a call that is sent again. frame and lastErr are valid only while it waits for
// that.
type resending struct {
	waitUntil int64  // when it gives up
	frame     []byte // a copy of its frame
	lastErr   []byte // the last error
	AttemptCounts
	reread     bool // sent again because it waited behind a large reply or a script
	Redirected bool // counted in the session's redirecting
	Waiting    bool // in the session's retry list
	// A later command of the client was answered while keyway checked this call's error.
	// Or, when the connection ended: this read might see a later write of its client.
	isOvertaken bool
}

// AttemptCounts count what has happened to a call so far.
type AttemptCounts struct {
	hops   uint8 // redirects followed
	tries  uint8 // times that it began to wait to be sent again
	losses uint8 // connections that ended after it was written
}

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
		frames, ends := c.Block.WithPrefix(c.first())
		conn.SendBlock(queued{c.Block}, execReply{c}, frames, ends, w.Now, deadline)
	case c.asking:
		conn.SendAsking(asksFirst(c), c, frame, w.Now, deadline)
	case c.caching != CachingDefault:
		first := c.first()
		ends := []int{len(first), len(first) + len(frame)}
		conn.SendBlock(nil, c, append(bytes.Clone(first), frame...), ends, w.Now, deadline)
	case how == owned:
		conn.SendOwned(c, frame, w.Now, deadline)
	default:
		conn.Send(c, frame, w.Now, deadline)
	}
	if runsScript(c) {
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
		frames, ends := c.Block.WithPrefix(c.first())
		t.Conn.SendBlock(queued{c.Block}, c.alone, frames, ends, w.Now, t.Deadline)
	case c.asking:
		t.Conn.SendAsking(asksFirst(c), c.alone, t.Frame, w.Now, t.Deadline)
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
func asksFirst(c *Call) *askingReply {
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

// queued receives the node's replies to a block, except that to EXEC.
type queued struct{ block *transaction.Block }

func (q queued) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if p.Kind == '-' && p.Whole() {
		q.block.Refused(p.Bytes)
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
		c.Settle(transaction.Aborted(p.Bytes, cause))
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

// Worker returns the call's worker, even if its client has left.
func (c *Call) Worker() *Worker { return c.Node.Worker }

// Reply receives a piece of the node's reply.
func (c *Call) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	r := c.Request
	s := r.Session
	if p.First && !p.Last && bigkeys.Announces(p.Bytes) {
		c.Worker().largeValues.begins(c, conn, frame)
	}
	if s == nil {
		if r.Merge == nil {
			r.showWitness(p.Bytes)
		}
		if p.Last {
			RecordAttempt(c, conn, p)
			r.Unfinished--
			c.Worker().freeIfDone(r)
		}
		return
	}
	w := s.Worker
	failed := p.Kind == '-'
	if c.replica && p.Whole() && w.Table.Clustered() && c.read.Doubtful(p.Bytes) && c.readAgain(frame, true) {
		return
	}
	if failed {
		if c.asked != nil && c.asked.refusal != nil && refusal.IsRedirect(p.Bytes) {
			p.Bytes = c.asked.refusal
		}
		if p.Whole() && c.onError(conn, frame, p.Bytes) {
			return
		}
	} else if c.sentAsEval {
		c.sentAsEval = false
		w.Scripts.Cache.Ran(c.Node.Ordinal, frame)
	}
	if r.Merge != nil {
		r.Merge.add(int(c.index), p.Bytes)
		s.Parked += len(p.Bytes)
		w.GrownBy += len(p.Bytes)
		s.bound()
	} else {
		r.showWitness(p.Bytes)
		r.deliver(p.Bytes)
		if !p.Last && r.Begun && s.Unsent.Size() > softOutput {
			w.slowReaders.pause(c, conn)
		}
	}
	w.watchTraffic(c, frame, p)
	if p.Last {
		if r.journey != nil || r.Unfinished == 1 && w.SlowLog.IsSlow(w.Now-r.start) {
			c.record(frame, conn.WrittenAt(), p)
		}
		if !c.replica {
			w.retries.failOvertaken(s, c, frame)
		}
		if c.tries > 0 {
			c.Node.Retries.Served(w.Now)
		}
		c.finish(failed)
	}
}

// ForwardsTo implements [pool.Forwarder]: where pass would write the next piece of the reply to the client's socket
// at once, the piece may go there without coming here. Nobody else may want to see it.
func (c *Call) ForwardsTo() any {
	r := c.Request
	s := r.Session
	if s == nil || !r.Begun || r.Mute || r.Merge != nil || r.journey != nil || r.shape != names.NoNames ||
		s.line.head != r || s.Unsent.Size() > 0 || s.Worker.WriteNow == nil || s.Has(Dead) {
		return nil
	}
	return s
}

// Forwarded implements [pool.Forwarder].
func (c *Call) Forwarded(n int) {
	s := c.Request.Session
	c.received += n
	s.Worker.Stats.BytesForwarded += uint64(n)
	s.sent(n)
	s.touch()
}

// Failed ends the call, or sends it again, when no reply or no more of it will arrive.
func (c *Call) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	r := c.Request
	w := c.Worker()
	if w.Table.Changes() {
		w.Ready.Refresh = true
	}
	if !f.Timeout {
		w.Scripts.Cache.Forget(c.Node.Ordinal) // a restarted node may lack the scripts
	}
	if r.Session == nil {
		if r.journey != nil {
			w.journeys.failed(c, frame, f)
		}
		r.Unfinished--
		w.freeIfDone(r)
		return
	}
	if r.Begun {
		// The client has the beginning of the reply, so keyway cannot send an error.
		// Closing the connection shows the client that the reply is incomplete.
		r.Session.Kill()
		c.finish(true)
		return
	}
	if c.replica {
		if c.Node.lag.Doubt(); c.readAgain(frame, false) {
			return
		}
	}
	c.forgetReceived()
	w.journeys.failed(c, frame, f)
	if c.outlives(conn, frame, f) {
		return
	}
	if f.Sent {
		ShowUnanswered(w, c, frame, 0)
		c.RecordIfSlow(frame, f.WrittenAt)
		if !c.replica {
			w.retries.failOvertaken(r.Session, c, frame) // the node may have executed it
		}
		c.Node.CountUnknown()
		if r.Merge != nil {
			r.Merge.unknown = true
		}
		c.Settle(resp.AppendError(w.Scratch[:0], outcomeUnknown(c.Node, f)))
		return
	}
	c.unreachable(frame, f.Reason)
}

// RecordIfSlow records the call's request if it has taken long and its client is still there. frame is what was
// sent to the node, or to one of the nodes, completely at the time written; 0: not known.
func (c *Call) RecordIfSlow(frame []byte, written int64) {
	if s := c.Request.Session; s != nil && s.Worker.SlowLog.IsSlow(s.Worker.Now-c.Request.start) {
		recordSlow(c, frame, written)
	}
}

// record records the call's request if it has taken long, and the call if the journey of its request is recorded. p is
// the last piece of the reply.
func (c *Call) record(frame []byte, written int64, p pool.Piece) {
	if c.Request.Unfinished == 1 {
		c.RecordIfSlow(frame, written)
	}
	if c.Request.journey != nil {
		c.Worker().journeys.tried(c, written, p)
	}
}

// recordSlow is RecordIfSlow for a request that has taken long.
func recordSlow(c *Call, frame []byte, written int64) {
	r, w := c.Request, c.Worker()
	if r.mayBlock {
		return
	}
	slow := slowlog.Slow{
		Command: r.Command, Frame: frame, Took: w.Now - r.start, At: w.Wall, Peer: r.Session.peer,
		Name: r.Session.About.Name, Node: c.Node.name,
	}
	if written != 0 {
		slow.Queued = max(written-r.start, 0)
	}
	w.SlowLog.Record(slow)
	if w.journeys.slow != 0 && w.SlowLog.Lists(r.Command, slow.Took) {
		w.journeys.follow(c, frame)
	}
}

// outcomeUnknown returns the error for a command that the node may have executed.
func outcomeUnknown(n *Node, f pool.Failure) string {
	if f.Timeout {
		return errtext.NoReplyYet(n.Label(), f.Reason)
	}
	return errtext.ConnectionEnded(n.Label(), f.Reason)
}

// Refuse ends a call that the node surely did not execute.
func (c *Call) Refuse(reason string) {
	w := c.Worker()
	w.Stats.NotExecuted++
	c.Node.failed.NotExecuted++
	if w.Table.Changes() {
		w.Ready.Refresh = true
	}
	c.Settle(resp.AppendError(w.Scratch[:0], errtext.NotExecuted(c.Node.Label(), reason)))
}

// SettleUnsent ends a call that was not executed, with an error that says so.
func SettleUnsent(c *Call, text string) {
	w := c.Worker()
	w.Stats.NotExecuted++
	c.SettleFor(resp.AppendError(w.Scratch[:0], text))
}

// Settle ends a call with a complete reply.
func (c *Call) Settle(reply []byte) {
	r := c.Request
	if s := r.Session; s != nil {
		if r.Merge != nil {
			m := r.Merge
			s.Parked -= len(m.Replies[c.index])
			m.Replies[c.index] = append(m.Replies[c.index][:0], reply...)
			s.Parked += len(reply)
		} else {
			r.showWitness(reply)
			r.deliver(reply)
		}
	}
	c.waitsNoMore()
	c.finish(len(reply) > 0 && reply[0] == '-')
}

// abandon ends a call whose client has left while the call waited to be sent again.
func abandon(c *Call) {
	c.waitsNoMore()
	c.Request.Unfinished--
}

// SettleFor is Settle for a call whose client may have left.
func (c *Call) SettleFor(reply []byte) {
	w := c.Worker()
	if r := c.Request; r.Session == nil {
		if r.Merge == nil {
			r.showWitness(reply)
		}
		r.Unfinished--
		w.freeIfDone(r)
		return
	}
	c.Settle(reply)
}

// SettleNull ends a call with a null: an EXEC as if a watched key had changed, a blocking
// command as if its time were up.
func (c *Call) SettleNull() {
	var null []byte
	if s := c.Request.Session; s != nil {
		null = s.Protocol().AppendNullArray(nil)
	}
	c.SettleFor(null)
}

var _ pool.Forwarder = (*Call)(nil)

// AskBlock sends several commands of the worker itself over a connection, in one write. frames has all
// of them. each gets the replies, one after the other, and then false if there are no more although
// some are due. A reply is valid until each returns.
func AskBlock(w *Worker, c *pool.Conn, frames []byte, replies int, deadline int64, each func(reply []byte, ok bool)) {
	ends := make([]int, replies) // the last request has all the bytes
	ends[replies-1] = len(frames)
	to := &blockProbe{each: each}
	c.SendBlock(to, to, frames, ends, w.Now, deadline)
}

// blockProbe receives the replies to AskBlock.
type blockProbe struct {
	part   []byte
	each   func(reply []byte, ok bool)
	isOver bool
}

func (b *blockProbe) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	whole := p.Bytes
	if !p.Whole() {
		b.part = append(b.part, p.Bytes...)
		whole = b.part
	}
	if p.Last && !b.isOver {
		b.each(whole, true)
		b.part = b.part[:0]
	}
}

func (b *blockProbe) Failed(*pool.Conn, []byte, pool.Failure) {
	if !b.isOver {
		b.isOver = true
		b.each(nil, false)
	}
}
