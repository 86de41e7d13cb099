package proxy

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// A command that may block has a connection of the client's own for as long as
// it takes, so that nobody waits behind it. The client's timeout counts, not
// keyway's; a client that leaves takes the connection with it, so that no
// element is popped for nobody.

// blocking receives the reply to a command that may block, on a connection of
// its own.
type blocking struct {
	call   *call
	conn   *pool.Conn // nil while the command waits to be sent
	sentAt int64      // over conn
	until  int64      // the client's timeout; 0: none
	pos    int        // of the timeout among the arguments
	unit   time.Duration
	nodeID int64 // of conn among the node's clients, for CLIENT UNBLOCK; 0: not known yet
	ended  bool  // the node was asked to end it: the connection must not go to another client
	asNull bool  // and the client is to be told that its time is up
}

// block sends a command that may block.
func (w *Worker) block(s *Session, cmd *command.Command, a command.Args) bool {
	pos, unit := cmd.Timeout(a)
	if pos == 0 {
		return w.byKey(s, cmd, a)
	}
	group, id, crossing := w.place(cmd, a)
	if crossing != "" {
		return w.answerError(s, cmd, crossing)
	}
	var n *node
	switch {
	case id != router.None:
		n = w.nodes[id]
	case len(w.keys) == 0: // malformed: a node says why
		if n, _ = w.anyMaster(s); n == nil {
			return w.answerError(s, cmd, errNoMasters)
		}
	default:
		if text := w.neverOwned(cmd, a); text != "" {
			return w.answerError(s, cmd, text)
		}
	}
	if s.inflight > 0 {
		s.set(held) // what the client sent before, on other connections, comes first
		return false
	}
	if n != nil && !n.hasRoom() {
		return w.answerError(s, cmd, errTooManyHeld)
	}
	r := w.newRequest(s, cmd)
	b := &blocking{call: &r.call, pos: pos, unit: unit}
	b.call.group = group
	b.call.goAlone(b)
	if pos > 0 {
		if t, err := strconv.ParseFloat(string(a.Arg(pos)), 64); err == nil && t > 0 && t < math.MaxInt32 {
			b.until = w.now + int64(t*float64(unit))
		}
	}
	s.set(held | blocked)
	s.troubled().blocking = b
	if n == nil {
		w.await(s, b.call, a.Frame())
	} else {
		w.send(s, b.call, n, a.Frame())
	}
	return true
}

// take opens a connection to n, or takes an idle one. A command that is sent again
// waits for what is left of its time.
func (b *blocking) take(w *Worker, n *node, frame []byte) trip {
	c := b.call
	s := c.req.sess
	if why := n.conn(s).Refusing(); why != "" {
		return trip{refusal: why}
	}
	if c.redirected {
		frame = b.remaining(w, frame)
	}
	conn := n.takeExclusive(inUse{sess: s})
	b.conn, b.nodeID, b.sentAt = conn, 0, w.now
	s.wrote.add(n.ordinal)
	deadline := int64(0)
	if b.until > 0 {
		deadline = b.until + int64(w.o.Backend.RequestTimeout)
	}
	w.ask(conn, w.deadline(), func(reply []byte, _ bool) {
		if b.conn == conn {
			b.nodeID, _ = resp.Int(reply)
		}
	}, "CLIENT", "ID")
	return trip{conn: conn, frame: frame, deadline: deadline}
}

// finished forgets what the session is blocked by.
func (b *blocking) finished() {
	if s := b.call.req.sess; s != nil && s.blocking == b {
		s.blocking = nil
	}
}

func (b *blocking) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := b.call
	w := c.worker()
	if p.First && c.req.sess == nil {
		w.undelivered(c.node, c.req.cmd, p.Bytes)
	}
	freed := b.ended && string(p.Bytes) == unblocked
	switch {
	case freed:
		b.seeOff(w)
	case p.Last:
		c.node.release(b.conn, !b.ended)
		b.conn = nil
	}
	switch {
	case freed && b.asNull:
		w.settleNull(c)
	case freed:
		w.settleFor(c, p.Bytes)
	default:
		b.renew(w)
		c.Reply(conn, frame, p)
	}
}

// renew gives a command that has waited at its node for long the time, and the
// attempts, of a new one, should it be sent again.
func (b *blocking) renew(w *Worker) {
	if c := b.call; w.now-b.sentAt >= int64(w.o.Backend.RequestTimeout) {
		c.deadline, c.hops, c.tries, c.losses = w.deadline(), 0, 0, 0
	}
}

// undelivered accounts for a reply that begins with b and that nobody waits for any
// more.
func (w *Worker) undelivered(n *node, cmd *command.Command, b []byte) {
	if b[0] == '-' || resp.IsNull(b) {
		return
	}
	w.stats.Undelivered++
	w.ready.Notes = append(w.ready.Notes, "node "+n.label()+" answered "+upper(cmd.Name)+" of a client that waits no more; what it popped is lost")
}

// seeOff keeps the connection for a moment when the node has ended the wait. If the
// command was held up by a pause it still is, and may yet be executed for nobody:
// then its reply comes before that to PING.
func (b *blocking) seeOff(w *Worker) {
	n, conn, cmd := b.call.node, b.conn, b.call.req.cmd
	w.ask(conn, w.now+leftTime, func(reply []byte, ok bool) {
		switch {
		case !ok:
			w.stats.UnknownOutcome++
		case string(reply) != "+PONG\r\n":
			w.undelivered(n, cmd, reply)
		}
		n.release(conn, false)
	}, "PING")
}

func (b *blocking) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	b.call.node.release(b.conn, false)
	b.conn = nil
	if b.call.req.sess == nil && f.Sent {
		b.call.worker().stats.UnknownOutcome++ // it may pop for nobody yet
	}
	b.renew(b.call.worker())
	b.call.Failed(conn, frame, f)
}

// remaining is the command with what is left of its timeout.
func (b *blocking) remaining(w *Worker, frame []byte) []byte {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || b.until == 0 {
		return append([]byte(nil), frame...)
	}
	left := max(b.until-w.now, int64(time.Millisecond))
	out := resp.AppendArray(nil, p.Len())
	for i := range p.Len() {
		switch {
		case i != b.pos:
			out = resp.AppendBulk(out, p.Arg(i))
		case b.unit == time.Second:
			out = resp.AppendBulkString(out, strconv.FormatFloat(float64(left)/1e9, 'f', 3, 64))
		default:
			out = resp.AppendBulkString(out, strconv.FormatInt(left/1e6, 10))
		}
	}
	return out
}

// unblock ends what the client of that id waits for, as CLIENT UNBLOCK does: as
// if its time were up, or with an error. The node is asked to, so that nothing
// is popped for nobody. It tells whether the client is this worker's and was
// blocked.
func (w *Worker) unblock(id uint64, withError bool) bool {
	for _, s := range w.sessions {
		if s.id != id {
			continue
		}
		if s.blocking == nil {
			return w.unblockWait(s, withError)
		}
		return s.blocking.unblock(w, s, withError)
	}
	return false
}

// unblock asks the node to end the wait. It tells false when the node cannot be
// asked.
//
// It is always asked to do so with an error. Told to let the time be up, Redis
// before 7.2 aborts if the command is not blocked but held up by a pause, which
// every failover on request begins with (blocked.c, replyToBlockedClientTimedOut).
func (b *blocking) unblock(w *Worker, s *Session, withError bool) bool {
	c := b.call
	if c.waiting {
		s.retry = slices.DeleteFunc(s.retry, func(o *call) bool { return o == c })
		if withError {
			w.settle(c, []byte(unblocked))
		} else {
			w.settleNull(c)
		}
		return true
	}
	conn := c.node.conn(s)
	if b.nodeID == 0 || conn.State() != pool.Ready {
		return false
	}
	b.ended, b.asNull = true, !withError
	w.ask(conn, w.deadline(), func([]byte, bool) {}, "CLIENT", "UNBLOCK", strconv.FormatInt(b.nodeID, 10), "ERROR")
	return true
}

// unblocked is what a command is answered whose wait the node was asked to end
// (networking.c, clientCommand).
const unblocked = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"

// leftTime is how long a node has to end the wait of a client that has left,
// before the connection is closed on it.
const leftTime = 100 * int64(time.Millisecond)

// leave ends the wait of a client that has left, at once and so that what was
// popped in that moment is known.
func (b *blocking) leave(w *Worker, s *Session) {
	if b.conn == nil {
		return // it waits to be sent
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
		return w.answerError(s, cmd, errSubSyntax("CLIENT", a.Arg(1)))
	case a.Len() == 4 && command.EqualFold(a.Arg(3), "error"):
		withError = true
	case a.Len() == 4 && !command.EqualFold(a.Arg(3), "timeout"):
		return w.answerError(s, cmd, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR") // networking.c
	}
	if !ok {
		return w.answerError(s, cmd, errNotInteger)
	}
	return w.askAll(s, cmd, func(o *Worker) any {
		if o.unblock(uint64(id), withError) {
			return 1
		}
		return 0
	}, func(counts []any) []byte { return resp.AppendInt(nil, int64(sum(counts))) })
}
