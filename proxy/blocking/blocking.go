package blocking

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// A command that may block gets an exclusive connection until its reply, so that no
// other client waits behind it. The client's timeout applies, not keyway's request
// timeout. When the client leaves, keyway ends the wait at the node, so that the node
// does not pop an element for a client that is gone.

// blocking receives the reply to a command that may block, on an exclusive connection.
type blocking struct {
	call   *engine.Call
	conn   *pool.Conn // nil while the command waits to be sent
	sentAt int64      // time of the last attempt
	pos    int        // position of the timeout among the arguments
	unit   time.Duration
	nodeID int64 // conn's client ID at the node, for CLIENT UNBLOCK; 0: not known yet
	ended  bool  // the node was asked to end the wait, so no other client may reuse the connection
	leaves bool  // its keys have another owner: the wait here must end
	moves  bool  // the node was asked to end the wait, so that the client waits at the new owner
	asNull bool  // with ended: the client gets the reply of a timeout instead of the error
	hangUp bool  // with ended: the client is closed instead, since it has no timeout
	asking bool  // the node has not answered CLIENT UNBLOCK yet
}

// blockings contains the blocking command that each client is in.
var blockings = engine.NewPerClient[blocking]()

// blockedClients are the clients that are inside a blocking command.
type blockedClients struct {
	engine.Inactive
	w           *engine.Worker
	layoutEpoch uint64 // the worker's, when Layout last looked
	move        bool   // some have to move, and their nodes are not asked yet
}

func (of *blockedClients) Leave(s *engine.Session) {
	if b := blockings.Get(s); b != nil {
		b.leave(of.w, s)
	}
}

// EachKey implements the engine's blocked.
func (of *blockedClients) EachKey(do func(key []byte)) {
	var keys []int
	for _, s := range of.w.Sessions {
		b := blockings.Get(s)
		if b == nil || b.conn == nil {
			continue
		}
		p := of.w.Inputs.GetParser()
		if _, st, err := p.Next(b.conn.FrameFor(b), &of.w.Inputs.Limits); err == nil && st == resp.Ready {
			keys = b.call.Request.Command.Keys(p, keys[:0])
			for _, k := range keys {
				do(p.Arg(k))
			}
		}
		of.w.Inputs.PutParser(p)
	}
}

// Release implements the engine's blocked.
func (of *blockedClients) Release(s *engine.Session) {
	b := blockings.Get(s)
	switch {
	case b == nil || b.asking:
	case b.call.Timeout != 0:
		b.unblock(of.w, s, false)
	case b.call.Waiting:
		s.Retry = slices.DeleteFunc(s.Retry, func(o *engine.Call) bool { return o == b.call })
		b.endUnanswered() // it was not sent
	default:
		b.hangUp = b.unblock(of.w, s, false)
	}
}

// endUnanswered closes the client without a reply to its command, which has had no effect.
func (b *blocking) endUnanswered() {
	s := b.call.Request.Session
	s.Set(engine.Released)
	s.CloseAfter()
	b.call.Request.Mute = true
	b.call.SettleNull()
}

// Layout finds the clients that wait at a node which another layout has replaced as the owner
// of their keys.
func (of *blockedClients) Layout(bool) {
	if of.layoutEpoch == of.w.LayoutEpoch {
		return
	}
	of.layoutEpoch = of.w.LayoutEpoch
	for _, s := range of.w.Sessions {
		if b := blockings.Get(s); b != nil && b.conn != nil && of.w.IsDisplaced(b.call, b.conn.FrameFor(b)) {
			b.leaves, of.move = true, true
		}
	}
	of.Tick()
}

// BeginAnew implements the engine's blocked.
func (of *blockedClients) BeginAnew() {
	for _, s := range of.w.Sessions {
		if b := blockings.Get(s); b != nil && b.conn != nil {
			b.leaves, of.move = true, true
		}
	}
	of.Tick()
}

// Tick ends the waits at former owners. Their clients then wait at the new ones.
func (of *blockedClients) Tick() {
	if !of.move {
		return
	}
	of.move = false
	for _, s := range of.w.Sessions {
		b := blockings.Get(s)
		if b == nil || !b.leaves || b.ended || b.moves {
			continue
		}
		if conn := b.call.Node.ReadyConn(s); conn != nil && b.nodeID != 0 {
			b.moves = true
			b.askToUnblock(of.w, conn)
		} else {
			of.move = true
		}
	}
}

// Due returns the next tick while a client has to move.
func (of *blockedClients) Due() int64 {
	if of.move {
		return of.w.Now + engine.Tick
	}
	return math.MaxInt64
}

// sendBlocking sends a command that may block.
func sendBlocking(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	pos, unit := cmd.Timeout(a)
	if pos == 0 {
		return engine.SendByKey(w, s, cmd, a)
	}
	group, id, crossing := w.Place(cmd, a)
	if crossing != "" {
		return s.AnswerError(cmd, crossing)
	}
	var n *engine.Node
	switch {
	case id != router.None:
		n = w.Nodes[id]
	case len(w.Keys) == 0: // malformed: let a node produce the error
		if n, _ = w.AnyMaster(s); n == nil {
			return s.AnswerError(cmd, errtext.NoMasters)
		}
	default:
		if text := w.UnownedError(cmd, a); text != "" {
			return s.AnswerError(cmd, text)
		}
	}
	if s.Inflight > 0 {
		s.Set(engine.Draining) // the client's earlier commands use other connections and must finish first
		return false
	}
	if n != nil && !n.HasRoom() {
		return s.AnswerError(cmd, engine.TooManyExclusive)
	}
	engine.TryNext(w, s, cmd, a)
	r := s.NewRequest(cmd)
	r.MayBlock()
	b := &blocking{call: &r.Call, pos: pos, unit: unit}
	b.call.Group = group
	b.call.GoAlone(b)
	if pos > 0 {
		if t, err := strconv.ParseFloat(string(a.Arg(pos)), 64); err == nil && t > 0 && t < math.MaxInt32 {
			b.call.Timeout = w.Now + int64(t*float64(unit))
		}
	}
	s.Set(engine.Draining | engine.Blocked)
	blockings.Set(s, b)
	if n == nil {
		engine.AwaitOwner(w, s, b.call, a.Frame())
	} else {
		b.call.SendTo(n, a.Frame())
	}
	return true
}

// Take gets an exclusive connection to n. If the command is sent again, its timeout is
// reduced to the remaining time.
func (b *blocking) Take(w *engine.Worker, n *engine.Node, frame []byte) engine.Attempt {
	c := b.call
	s := c.Request.Session
	if why := n.Conn(s).ConnectError(); why != "" {
		return engine.Attempt{Refusal: why}
	}
	if c.Redirected {
		frame = b.remaining(w, frame)
	}
	conn := n.TakeExclusive(engine.ExclusiveConn{Session: s})
	b.conn, b.nodeID, b.sentAt = conn, 0, w.Now
	b.leaves, b.moves = false, false // the node was asked about another connection
	s.WroteTo.Add(n.Ordinal)
	deadline := int64(0)
	if c.Timeout > 0 {
		deadline = c.Timeout + int64(w.Options.Backend.RequestTimeout)
	}
	w.Ask(conn, w.Deadline(), func(reply []byte, _ bool) {
		if b.conn == conn {
			b.nodeID = clientID(conn, reply)
		}
	}, "CLIENT", "ID")
	return engine.Attempt{Conn: conn, Frame: frame, Deadline: deadline}
}

// clientID returns a connection's client id at its node after the node's reply to CLIENT ID. The rules of the
// connection's user may not allow to ask. And a node that is busy with a script answers BUSY, but executes the next
// command if the script ends in between. Then an earlier answer counts.
func clientID(conn *pool.Conn, reply []byte) int64 {
	if id, ok := resp.Int(reply); ok {
		conn.ClientID = id
	}
	return conn.ClientID
}

// OnEnd marks the session as no longer blocked by b.
func (b *blocking) OnEnd() {
	if s := b.call.Request.Session; s != nil && blockings.Get(s) == b {
		blockings.Set(s, nil)
	}
}

func (b *blocking) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := b.call
	w := c.Worker()
	if p.First && c.Request.Session == nil {
		recordUndelivered(w, c.Node, c.Request.Command, p.Bytes)
	}
	freed := b.ended && string(p.Bytes) == unblocked
	if b.moves && !b.ended && string(p.Bytes) == unblocked && b.moveOn(w, frame) {
		return
	}
	switch {
	case freed:
		b.drainAfterUnblock(w)
	case p.Last:
		c.Node.Release(b.conn, !b.ended && !b.moves) // the node may still end the next wait over it
		b.conn = nil
	}
	if freed {
		engine.RecordAttempt(c, conn, p)
	}
	switch {
	case freed && b.hangUp && c.Request.Session != nil:
		b.endUnanswered()
	case freed && b.asNull:
		c.SettleNull()
	case freed:
		c.SettleFor(p.Bytes)
	default:
		b.renew(w)
		c.Reply(conn, frame, p)
	}
}

// moveOn sends the command to the present owner of its keys, after its wait at the former
// owner has ended. If the keys have no common owner, the client gets the error for that. It
// returns false if the client has left.
func (b *blocking) moveOn(w *engine.Worker, frame []byte) bool {
	if b.call.Request.Session == nil {
		return false
	}
	b.drainAfterUnblock(w)
	b.conn, b.leaves, b.moves = nil, false, false
	// However short this wait was: what counts is the time since keyway has had to send the command.
	b.call.Deadline, b.call.AttemptCounts = w.Deadline(), engine.AttemptCounts{}
	b.call.SendOn(frame)
	return true
}

// renew resets the deadline and the attempts of a command that has waited at its node
// for the request timeout or longer. If it is sent again, it counts as a new command.
func (b *blocking) renew(w *engine.Worker) {
	if c := b.call; w.Now-b.sentAt >= int64(w.Options.Backend.RequestTimeout) {
		c.Deadline, c.AttemptCounts = w.Deadline(), engine.AttemptCounts{}
	}
}

// recordUndelivered counts and logs a reply whose client has left, unless it is an error
// or a null. b is the first piece of the reply.
func recordUndelivered(w *engine.Worker, n *engine.Node, cmd *command.Command, b []byte) {
	if b[0] == '-' || resp.IsNull(b) {
		return
	}
	w.Stats.Undelivered++
	w.Ready.Notes = append(w.Ready.Notes, "node "+n.Label()+" answered "+cmd.Upper()+
		" of a client that waits no more; what it popped is lost")
}

// drainAfterUnblock sends a PING behind the command to learn whether it still executed.
// A command that CLIENT PAUSE delays stays delayed after the node has ended its wait, and
// may execute later. Its reply then comes before the reply to PING.
func (b *blocking) drainAfterUnblock(w *engine.Worker) {
	n, conn, cmd := b.call.Node, b.conn, b.call.Request.Command
	w.Ask(conn, w.Now+leftTime, func(reply []byte, ok bool) {
		switch {
		case !ok:
			n.CountUnknown()
		case string(reply) != "+PONG\r\n":
			recordUndelivered(w, n, cmd, reply)
		}
		n.Release(conn, false)
	}, "PING")
}

func (b *blocking) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	b.call.Node.Release(b.conn, false)
	b.conn = nil
	if b.call.Request.Session == nil && f.Sent {
		b.call.Node.CountUnknown() // the node may still pop an element
	}
	b.renew(b.call.Worker())
	b.call.Failed(conn, frame, f)
}

// remaining returns the command with its timeout reduced to the remaining time.
func (b *blocking) remaining(w *engine.Worker, frame []byte) []byte {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || b.call.Timeout == 0 {
		return append([]byte(nil), frame...)
	}
	left := max(b.call.Timeout-w.Now, int64(time.Millisecond))
	out := resp.AppendArray(nil, p.Len())
	for i := range p.Len() {
		switch {
		case i != b.pos:
			out = resp.AppendBulk(out, p.Arg(i))
		case b.unit == time.Second:
			out = resp.AppendBulkString(out, strconv.FormatFloat(time.Duration(left).Seconds(), 'f', 3, 64))
		default:
			out = resp.AppendBulkString(out, strconv.FormatInt(left/int64(time.Millisecond), 10))
		}
	}
	return out
}

// unblock ends the wait of a blocked client, as CLIENT UNBLOCK does: with an error, or as
// if the client's timeout had passed. It asks the node to end the wait, so that the node
// does not pop an element for nobody. It returns false if the client belongs to another
// worker, is not blocked, or its node cannot be asked.
func unblock(w *engine.Worker, id uint64, withError bool) bool {
	for _, s := range w.Sessions {
		if s.ID() != id {
			continue
		}
		if b := blockings.Get(s); b != nil {
			return b.unblock(w, s, withError)
		}
		return unblockWait(w, s, withError)
	}
	return false
}

// unblock asks the node to end the wait. It returns false if the node cannot be asked.
// A call that waits to be sent ends at once.
//
// It always sends CLIENT UNBLOCK with ERROR. With TIMEOUT, Redis before 7.2 aborts if the
// command is not blocked but delayed by a pause (blocked.c, replyToBlockedClientTimedOut).
// Every manual failover begins with such a pause.
func (b *blocking) unblock(w *engine.Worker, s *engine.Session, withError bool) bool {
	c := b.call
	if c.Waiting {
		s.Retry = slices.DeleteFunc(s.Retry, func(o *engine.Call) bool { return o == c })
		if withError {
			c.Settle([]byte(unblocked))
		} else {
			c.SettleNull()
		}
		return true
	}
	conn := c.Node.ReadyConn(s)
	if b.nodeID == 0 || conn == nil {
		return false
	}
	b.ended, b.asNull = true, !withError
	b.askToUnblock(w, conn)
	return true
}

func (b *blocking) askToUnblock(w *engine.Worker, conn *pool.Conn) {
	b.asking = true
	w.Ask(conn, w.Deadline(), func([]byte, bool) { b.asking = false },
		"CLIENT", "UNBLOCK", strconv.FormatInt(b.nodeID, 10), "ERROR")
}

// unblocked is the reply to a command whose wait CLIENT UNBLOCK has ended with ERROR
// (networking.c, clientCommand).
const unblocked = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"

// leftTime is how long keyway waits for a node to end the wait of a client that has
// left. After that keyway closes the connection.
const leftTime = int64(100 * time.Millisecond)

// leave ends the wait of a client that has left. It asks the node first, so that keyway
// learns whether the node has popped an element in that moment.
func (b *blocking) leave(w *engine.Worker, s *engine.Session) {
	if b.conn == nil {
		return // the command waits to be sent
	}
	if !b.unblock(w, s, false) {
		b.conn.Close(w.Now, "its client has left")
		return
	}
	for i := range b.call.Node.InUse {
		if use := &b.call.Node.InUse[i]; use.Conn == b.conn {
			use.Until = w.Now + leftTime
		}
	}
}

// clientUnblock answers CLIENT UNBLOCK id [TIMEOUT|ERROR].
func clientUnblock(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	id, ok := resp.ParseInt(a.Arg(2))
	withError := false
	switch {
	case a.Len() > 4:
		return s.AnswerError(cmd, errtext.SubSyntax("CLIENT", a.Arg(1)))
	case a.Len() == 4 && command.EqualFold(a.Arg(3), "error"):
		withError = true
	case a.Len() == 4 && !command.EqualFold(a.Arg(3), "timeout"):
		return s.AnswerError(cmd, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR") // networking.c
	}
	if !ok {
		return s.AnswerError(cmd, errtext.NotInteger)
	}
	return w.Siblings.AskAll(s, cmd, func(o *engine.Worker) any {
		if unblock(o, uint64(id), withError) {
			return 1
		}
		return 0
	}, func(counts []any) []byte { return resp.AppendInt(nil, int64(engine.SumCounts(counts))) })
}
