package engine

import (
	"bytes"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
)

// largeFrame is the size from which a request gets a connection of its own until it is
// answered. A request that takes long to transfer delays those behind it, and a node may refuse it and
// close its connection. On a connection of its own, a large request harms only itself. A read of a key
// whose value is large gets one too, since a reply that takes long to transfer delays those behind it.
const largeFrame = bigkeys.Large

// large receives the reply to a large request, or to a read of a large value.
type large struct {
	call *Call
	to   pool.Receiver
	conn *pool.Conn
	key  uint64 // hash of the key whose value is large, 0 if it is unknown
}

// largeValues keeps large requests and values out of other clients' way.
type largeValues struct {
	w    *Worker
	keys bigkeys.Set
}

// read returns the hash of the key that the command reads if its value is known to
// be large, and 0 otherwise.
func (lv *largeValues) read(s *Session, cmd *command.Command, a command.Args) uint64 {
	if lv.keys.IsEmpty() || cmd.Single == 0 || !cmd.Has(readOnly) || s.lane() != sharedLane {
		return 0
	}
	return lv.keys.Find(a.Arg(cmd.Single))
}

// begins is called when a large reply has begun to arrive on a connection. If clients
// share the connection, they get a new one, and the requests in flight stay on the old
// one. The next read of that key will have a connection of its own.
func (lv *largeValues) begins(c *Call, conn *pool.Conn, frame []byte) {
	if c.lane != sharedLane {
		return
	}
	if c.Request.Command != nil && c.Request.Command.Has(readOnly) {
		lv.keys.Add(c.Request.Command, frame)
	}
	c.Node.replaceSlowConn(conn)
}

// stuckAfter returns how long a node may be silent while it runs a script before clients
// get another connection to it. It is a sixth of the request timeout, at most a second,
// which is also the default. Redis replies BUSY after five seconds.
func (w *Worker) stuckAfter() time.Duration {
	return min(time.Second, w.Options.Backend.RequestTimeout/6)
}

// runsScript reports whether the call may keep the node busy for long, so that the node
// answers other clients with BUSY.
func runsScript(c *Call) bool {
	if c.Block != nil {
		return c.Block.Scripts
	}
	return c.Request.Command.Unproven()
}

// MustDrain reports whether a large command must wait for its client's earlier commands,
// which use other connections.
func MustDrain(s *Session, size int) bool {
	if size < largeFrame || s.Inflight == 0 {
		return false
	}
	s.Set(Draining)
	return true
}

// sendAlone gives the call a connection of its own, and makes its client's later commands
// wait for it. The call stays on a shared connection if too many calls have their own, if
// earlier commands of its client are in flight, or if it reads from a replica. key is the
// hash of the key that the call reads, or 0.
func (lv *largeValues) sendAlone(c *Call, n *Node, key uint64) {
	s := c.Request.Session
	if c.replica || int(s.Inflight) > c.Request.Unfinished || !n.HasRoom() {
		return
	}
	l := &large{call: c, to: c, key: key}
	if c.Block != nil {
		l.to = execReply{c}
	}
	c.GoAlone(l)
	c.raiseBarrier()
}

func (l *large) Take(w *Worker, n *Node, frame []byte) Attempt {
	c := l.call
	s := c.Request.Session
	if why := n.Conn(s).ConnectError(); why != "" {
		return Attempt{Refusal: why}
	}
	if !c.Request.Command.Has(readOnly) {
		s.WroteTo.Add(n.Ordinal)
		l.key = w.largeValues.keys.Add(c.Request.Command, frame) // the next command may read it
	}
	// The connection stays until the node has answered, even if the client leaves.
	l.conn = n.TakeExclusive(ExclusiveConn{Session: s, Until: math.MaxInt64})
	l.conn.LargeNext = l.key != 0 && c.Request.Command.Has(readOnly)
	return Attempt{Conn: l.conn, Frame: frame, Deadline: c.replyBy()}
}

func (l *large) OnEnd() {}

func (l *large) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	if p.Whole() && len(p.Bytes) < largeFrame && (p.Kind == '-' || l.call.Request.Command.Has(readOnly)) {
		l.call.Worker().largeValues.keys.Forget(l.key)
	}
	if p.Last {
		reusable := !refusal.EndsConnection(p.Bytes) && !refusal.IsNoPermission(p.Bytes) // see execReply.Ends
		l.call.Node.Release(conn, reusable)
	}
	l.to.Reply(conn, frame, p)
}

// ForwardsTo implements [pool.Forwarder].
func (l *large) ForwardsTo() any {
	if to, ok := l.to.(pool.Forwarder); ok {
		return to.ForwardsTo()
	}
	return nil
}

// Forwarded implements [pool.Forwarder].
func (l *large) Forwarded(n int) { l.to.(pool.Forwarder).Forwarded(n) }

func (l *large) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	l.call.Node.Release(conn, false)
	l.to.Failed(conn, frame, f)
}

// rereadAfter is how long reads wait behind a large reply before they are sent again.
// Most large replies arrive sooner, so the node does not read anything twice.
const rereadAfter = 20 * time.Millisecond

// rereadBehind resends reads that wait on a retired connection behind a large reply or a
// script. They go over the connection that replaced it; the replies on the retired
// connection are dropped. Writes stay, since the node may have executed them.
//
// Either all of a client's commands move or none. A read that moved alone could see a
// later write of its client. It could also run before an earlier write, or after a later
// read. And its client would still have to wait for the command that stays.
//
//	retired  [GET large, of c1] [GET a, c2] [GET b, c3] [SET d, c2] [GET e, c1]
//	fresh    [GET b, c3]
func (lv *largeValues) rereadBehind(conn *pool.Conn) {
	stay := map[*Session]bool{}
	for place, to := range conn.Unanswered() {
		switch to := to.(type) {
		case *Call:
			if place == 0 || !to.mayBeReread() {
				stay[to.Request.Session] = true
			}
		case execReply:
			stay[to.Request.Session] = true
		}
	}
	var reads []*Call
	var frames [][]byte
	for place, to := range conn.Unanswered() {
		if c, ok := to.(*Call); ok && !stay[c.Request.Session] {
			reads, frames = append(reads, c), append(frames, conn.DropReply(place))
		}
	}
	for i, c := range reads {
		c.reread = true
		c.Deadline = lv.w.Deadline()
		c.Node.retryCount++
		if key := lv.known(c, frames[i]); key != 0 {
			lv.sendAlone(c, c.Node, key)
		}
		c.resend(frames[i], c.Node, c.asking)
	}
}

// mayBeReread reports whether a call on a shared connection may be sent again, and its
// first reply dropped. Each call may be reread once: even where many values are large
// without keyway knowing, the node does at most twice the work.
func (c *Call) mayBeReread() bool {
	s := c.Request.Session
	return s != nil && !c.reread && c.isHarmless() && c.isRepeatable() && len(s.Retry) == 0 && len(s.checking) == 0
}

// known returns the hash of the only key in a call's frame if its value is known to
// be large, and 0 otherwise.
func (lv *largeValues) known(c *Call, frame []byte) uint64 {
	var p resp.Parser
	_, st, err := p.Next(frame, &resp.DefaultLimits)
	if err != nil || st != resp.Ready || p.Len() <= c.Request.Command.Single {
		return 0
	}
	return lv.read(c.Request.Session, c.Request.Command, &p)
}

// A node that runs a script for longer than its busy-reply-threshold answers BUSY on every
// connection except the one that the script came from. So keyway knows that the node is
// alive. The script, the writes behind it, and clients that are blocked at that node wait
// until the script ends or is killed. They get their true replies, as with one Redis.
//
//	retired connection   EVAL SET ................................ reply +OK
//	shared connection            PING -BUSY  PING -BUSY  PING -BUSY
//	                                   |           |           |
//	                     nothing is overdue for one more request timeout

// tickBusy sends a PING to a node with overdue replies, to learn whether it is busy with a
// script.
func (n *Node) tickBusy() {
	if n.askedIfBusy || !isLate(n) {
		return
	}
	w := n.Worker
	for _, c := range n.Shared.Conns {
		switch {
		case strings.HasPrefix(c.ConnectError(), "BUSY "): // the node's answer to the greeting
			n.excuse()
			return
		case c.User == nil && c.State() == pool.Ready && !c.IsStuck(w.Now, 0) && !c.IsSilent(w.Now, w.stuckAfter()):
			n.askedIfBusy = true
			w.Ask(c, 0, func(reply []byte, ok bool) {
				n.askedIfBusy = false
				if ok && bytes.HasPrefix(reply, []byte("-BUSY ")) {
					n.excuse()
				}
			}, "PING")
			return
		}
	}
}

// isLate reports whether a connection of the node has a request but has received nothing
// for stuckAfter.
func isLate(n *Node) bool {
	for c := range clientConns(n) {
		if c.IsSilent(n.Worker.Now, n.Worker.stuckAfter()) {
			return true
		}
	}
	return false
}

// excuse keeps the requests to a busy node from timing out for one more request timeout.
// It sends the reads behind the script again over the shared connection, where the node
// answers BUSY.
func (n *Node) excuse() {
	for c := range clientConns(n) {
		c.PostponeTimeouts(n.Worker.Now)
	}
	for _, c := range n.Shared.Retired {
		n.Worker.largeValues.rereadBehind(c)
	}
}

// clientConns yields the connections to the node that may carry clients' requests.
func clientConns(n *Node) iter.Seq[*pool.Conn] {
	return func(yield func(*pool.Conn) bool) {
		for _, c := range n.Shared.Conns {
			if !yield(c) {
				return
			}
		}
		for _, c := range n.Shared.Retired {
			if !yield(c) {
				return
			}
		}
		for i := range n.InUse {
			if !yield(n.InUse[i].Conn) {
				return
			}
		}
		for _, f := range n.Worker.Features {
			for _, c := range f.Conns(n) {
				if !yield(c) {
					return
				}
			}
		}
	}
}

const (
	// While a client lags with a large reply, keyway does not read from the connection
	// that carries the reply. If no other client waits behind the reply, the client must
	// read keepsUp bytes within each request timeout.
	//
	// If other clients wait, it must read keepsUp bytes in every stallTime, and all its
	// pauses together may delay the others by maxDelay. After that, the remaining reply
	// is buffered. When the buffer is nearly full, a shared connection continues, so that
	// the client reaches its limit. A retired connection, which gets no new requests, is
	// paused once more, for up to the request timeout, as long as the client reads
	// keepsUp bytes in every maxDelay.
	stallTime = int64(15 * time.Millisecond)
	keepsUp   = 64 << 10
	maxDelay  = int64(time.Second)
)

// slowReaders are the clients that do not read a large reply fast enough.
type slowReaders struct {
	w        *Worker
	sessions []*Session
}

// pause pauses the connection of a large reply until the client has caught up.
func (sr *slowReaders) pause(c *Call, conn *pool.Conn) {
	w := sr.w
	s := c.Request.Session
	if s.pausedConn != nil || s.Has(Dead) || conn.Paused() {
		return
	}
	if s.delayed > 0 && s.delayedBy != c.Request.seq {
		s.delayed = 0
	}
	resumeAt := softOutput / 4
	nearlyFull := false
	if s.Has(slow) || s.delayed > maxDelay {
		limit := w.Options.ClientOutput - w.Options.ClientOutput/16
		if nearlyFull = s.Unsent.Size() >= limit && slices.Contains(c.Node.Shared.Retired, conn); !nearlyFull {
			return
		}
		resumeAt = max(resumeAt, limit-softOutput)
	}
	t := s.AllocRareState()
	t.pausedConn, t.delayedAt, t.lastProgress, t.bytesSinceProgress = conn, w.Now, w.Now, 0
	t.resumeAt, t.nearlyFull, t.delayedBy = resumeAt, nearlyFull, c.Request.seq
	conn.PauseReading()
	sr.sessions = append(sr.sessions, s)
}

// delays reports whether other clients wait for the session to read. If so, it adds the
// time since its last call to the session's delayed.
func delays(s *Session, now int64) bool {
	others := othersWait(s, s.pausedConn)
	if others {
		s.delayed += now - s.delayedAt
	}
	s.delayedAt = now
	return others
}

// othersWait reports whether another client waits on the connection, behind the reply
// that is arriving.
func othersWait(s *Session, conn *pool.Conn) bool {
	for _, to := range conn.Unanswered() {
		var other *Session
		switch to := to.(type) {
		case *Call:
			other = to.Request.Session
		case execReply:
			other = to.Request.Session
		case *Probe:
			return true
		default: // on a connection of the session's own, or followed by the EXEC or the call
		}
		if other != nil && other != s {
			return true
		}
	}
	return false
}

// resume resumes the connection that is paused for the session.
func (sr *slowReaders) resume(s *Session) {
	delays(s, sr.w.Now)
	s.pausedConn.ResumeReading()
	s.pausedConn = nil
	for i, other := range sr.sessions {
		if other == s {
			sr.sessions = append(sr.sessions[:i], sr.sessions[i+1:]...)
			break
		}
	}
}

// tick resumes the connections of clients that do not catch up, so that the rest
// of their replies is buffered. It closes the clients whose buffer is nearly full.
func (sr *slowReaders) tick() {
	w := sr.w
	timeout := int64(w.Options.Backend.RequestTimeout)
	for i := len(sr.sessions) - 1; i >= 0; i-- {
		s := sr.sessions[i]
		stall, delay := timeout, int64(math.MaxInt64)
		switch others := delays(s, w.Now); {
		case others && s.nearlyFull:
			stall, delay = maxDelay, maxDelay+timeout
		case others:
			stall, delay = stallTime, maxDelay
		}
		if w.Now-s.lastProgress <= stall && s.delayed <= delay {
			continue
		}
		if s.nearlyFull && !s.Has(Dead) {
			s.closeSlow()
		}
		s.Set(slow)
		sr.resume(s)
	}
}
