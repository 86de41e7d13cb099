package proxy

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// A command that may block gets an exclusive connection until its reply, so that no
// other client waits behind it. The client's timeout applies, not keyway's request
// timeout. When the client leaves, keyway ends the wait at the node, so that the node
// does not pop an element for a client that is gone.

// blocking receives the reply to a command that may block, on an exclusive connection.
type blocking struct {
	call   *call
	conn   *pool.Conn // nil while the command waits to be sent
	sentAt int64      // time of the last attempt
	pos    int        // position of the timeout among the arguments
	unit   time.Duration
	nodeID int64 // conn's client ID at the node, for CLIENT UNBLOCK; 0: not known yet
	ended  bool  // the node was asked to end the wait, so no other client may reuse the connection
	asNull bool  // with ended: the client gets the reply of a timeout instead of the error
}

// blockings contains the blocking command that each client is in.
var blockings = newPerClient[blocking]()

// blockedClients are the clients that are inside a blocking command.
type blockedClients struct {
	inactive
	w *Worker
}

func (of blockedClients) leave(s *Session) {
	if b := blockings.of(s); b != nil {
		b.leave(of.w, s)
	}
}

// sendBlocking sends a command that may block.
func sendBlocking(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	pos, unit := cmd.Timeout(a)
	if pos == 0 {
		return byKey(w, s, cmd, a)
	}
	group, id, crossing := w.place(cmd, a)
	if crossing != "" {
		return s.answerError(cmd, crossing)
	}
	var n *node
	switch {
	case id != router.None:
		n = w.nodes[id]
	case len(w.keys) == 0: // malformed: let a node produce the error
		if n, _ = w.anyMaster(s); n == nil {
			return s.answerError(cmd, errtext.NoMasters)
		}
	default:
		if text := w.unownedError(cmd, a); text != "" {
			return s.answerError(cmd, text)
		}
	}
	if s.inflight > 0 {
		s.set(draining) // the client's earlier commands use other connections and must finish first
		return false
	}
	if n != nil && !n.hasRoom() {
		return s.answerError(cmd, errTooManyHeld)
	}
	r := s.newRequest(cmd)
	b := &blocking{call: &r.call, pos: pos, unit: unit}
	b.call.group = group
	b.call.goAlone(b)
	if pos > 0 {
		if t, err := strconv.ParseFloat(string(a.Arg(pos)), 64); err == nil && t > 0 && t < math.MaxInt32 {
			b.call.timeout = w.now + int64(t*float64(unit))
		}
	}
	s.set(draining | blocked)
	blockings.set(s, b)
	if n == nil {
		await(w, s, b.call, a.Frame())
	} else {
		b.call.send(n, a.Frame())
	}
	return true
}

// take gets an exclusive connection to n. If the command is sent again, its timeout is
// reduced to the remaining time.
func (b *blocking) take(w *Worker, n *node, frame []byte) trip {
	c := b.call
	s := c.req.sess
	if why := n.conn(s).ConnectError(); why != "" {
		return trip{refusal: why}
	}
	if c.redirected {
		frame = b.remaining(w, frame)
	}
	conn := n.takeExclusive(inUse{sess: s})
	b.conn, b.nodeID, b.sentAt = conn, 0, w.now
	s.wrote.Add(n.ordinal)
	deadline := int64(0)
	if c.timeout > 0 {
		deadline = c.timeout + int64(w.o.Backend.RequestTimeout)
	}
	w.ask(conn, w.deadline(), func(reply []byte, _ bool) {
		if b.conn == conn {
			b.nodeID, _ = resp.Int(reply)
		}
	}, "CLIENT", "ID")
	return trip{conn: conn, frame: frame, deadline: deadline}
}

// finished marks the session as no longer blocked by b.
func (b *blocking) finished() {
	if s := b.call.req.sess; s != nil && blockings.of(s) == b {
		blockings.set(s, nil)
	}
}

func (b *blocking) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := b.call
	w := c.worker()
	if p.First && c.req.sess == nil {
		recordUndelivered(w, c.node, c.req.cmd, p.Bytes)
	}
	freed := b.ended && string(p.Bytes) == unblocked
	switch {
	case freed:
		b.drainAfterUnblock(w)
	case p.Last:
		c.node.release(b.conn, !b.ended)
		b.conn = nil
	}
	switch {
	case freed && b.asNull:
		c.settleNull()
	case freed:
		c.settleFor(p.Bytes)
	default:
		b.renew(w)
		c.Reply(conn, frame, p)
	}
}

// renew resets the deadline and the attempts of a command that has waited at its node
// for the request timeout or longer. If it is sent again, it counts as a new command.
func (b *blocking) renew(w *Worker) {
	if c := b.call; w.now-b.sentAt >= int64(w.o.Backend.RequestTimeout) {
		c.deadline, c.attempts = w.deadline(), attempts{}
	}
}

// recordUndelivered counts and logs a reply whose client has left, unless it is an error
// or a null. b is the first piece of the reply.
func recordUndelivered(w *Worker, n *node, cmd *command.Command, b []byte) {
	if b[0] == '-' || resp.IsNull(b) {
		return
	}
	w.stats.Undelivered++
	w.ready.Notes = append(w.ready.Notes, "node "+n.label()+" answered "+cmd.Upper()+
		" of a client that waits no more; what it popped is lost")
}

// drainAfterUnblock sends a PING behind the command to learn whether it still executed.
// A command that CLIENT PAUSE delays stays delayed after the node has ended its wait, and
// may execute later. Its reply then comes before the reply to PING.
func (b *blocking) drainAfterUnblock(w *Worker) {
	n, conn, cmd := b.call.node, b.conn, b.call.req.cmd
	w.ask(conn, w.now+leftTime, func(reply []byte, ok bool) {
		switch {
		case !ok:
			w.stats.UnknownOutcome++
		case string(reply) != "+PONG\r\n":
			recordUndelivered(w, n, cmd, reply)
		}
		n.release(conn, false)
	}, "PING")
}

func (b *blocking) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	b.call.node.release(b.conn, false)
	b.conn = nil
	if b.call.req.sess == nil && f.Sent {
		b.call.worker().stats.UnknownOutcome++ // the node may still pop an element
	}
	b.renew(b.call.worker())
	b.call.Failed(conn, frame, f)
}

// remaining returns the command with its timeout reduced to the remaining time.
func (b *blocking) remaining(w *Worker, frame []byte) []byte {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || b.call.timeout == 0 {
		return append([]byte(nil), frame...)
	}
	left := max(b.call.timeout-w.now, int64(time.Millisecond))
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
func unblock(w *Worker, id uint64, withError bool) bool {
	for _, s := range w.sessions {
		if s.id != id {
			continue
		}
		if b := blockings.of(s); b != nil {
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
func (b *blocking) unblock(w *Worker, s *Session, withError bool) bool {
	c := b.call
	if c.waiting {
		s.retry = slices.DeleteFunc(s.retry, func(o *call) bool { return o == c })
		if withError {
			c.settle([]byte(unblocked))
		} else {
			c.settleNull()
		}
		return true
	}
	conn := c.node.readyConn(s)
	if b.nodeID == 0 || conn == nil {
		return false
	}
	b.ended, b.asNull = true, !withError
	w.ask(conn, w.deadline(), func([]byte, bool) {}, "CLIENT", "UNBLOCK", strconv.FormatInt(b.nodeID, 10), "ERROR")
	return true
}

// unblocked is the reply to a command whose wait CLIENT UNBLOCK has ended with ERROR
// (networking.c, clientCommand).
const unblocked = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"

// leftTime is how long keyway waits for a node to end the wait of a client that has
// left. After that keyway closes the connection.
const leftTime = int64(100 * time.Millisecond)

// leave ends the wait of a client that has left. It asks the node first, so that keyway
// learns whether the node has popped an element in that moment.
func (b *blocking) leave(w *Worker, s *Session) {
	if b.conn == nil {
		return // the command waits to be sent
	}
	if !b.unblock(w, s, false) {
		b.conn.Close(w.now, "its client has left")
		return
	}
	for i := range b.call.node.waits {
		if use := &b.call.node.waits[i]; use.conn == b.conn {
			use.until = w.now + leftTime
		}
	}
}

// clientUnblock answers CLIENT UNBLOCK id [TIMEOUT|ERROR].
func clientUnblock(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	id, ok := resp.ParseInt(a.Arg(2))
	withError := false
	switch {
	case a.Len() > 4:
		return s.answerError(cmd, errtext.SubSyntax("CLIENT", a.Arg(1)))
	case a.Len() == 4 && command.EqualFold(a.Arg(3), "error"):
		withError = true
	case a.Len() == 4 && !command.EqualFold(a.Arg(3), "timeout"):
		return s.answerError(cmd, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR") // networking.c
	}
	if !ok {
		return s.answerError(cmd, errtext.NotInteger)
	}
	return w.siblings.askAll(s, cmd, func(o *Worker) any {
		if unblock(o, uint64(id), withError) {
			return 1
		}
		return 0
	}, func(counts []any) []byte { return resp.AppendInt(nil, int64(sum(counts))) })
}
