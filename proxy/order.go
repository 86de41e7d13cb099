package proxy

import (
	"math"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// slowReaders are the clients that do not read a large reply fast enough.
type slowReaders struct {
	w        *Worker
	sessions []*Session
}

// request is one command's place in its client's line.
//
//	client sent   GET a    MGET b c    PING
//	line          [call]   [call,call] [reply: +PONG, parked]
//	               ^ head: its reply goes straight to the output
//
// The reply to any other request is parked in that request. When the head is done, the
// line advances over it and over the done requests right behind it.
type request struct {
	next       *request
	sess       *Session // nil once the client has left
	cmd        *command.Command
	seq        uint64
	start      int64
	unfinished int    // calls that are not finished
	done       bool   // the whole reply is in reply, or in the session's output
	begun      bool   // a part of the reply is in the session's output
	mute       bool   // the client wants no reply
	joined     bool   // its reply continues the reply of the request before it
	end        ending // makes the reply out of the nodes' replies; nil: the only one is forwarded piece by piece
	reply      buffer.Parked
	merge      *merger
	call       call // the only call of most requests
}

// ending appends to dst the client's reply to a request whose calls have all ended. The
// nodes' replies are in the request's merger.
type ending func(w *Worker, dst []byte, r *request) []byte

// line is a session's requests in the order in which the client gets the replies.
type line struct {
	head, tail *request
	n          int
}

func (s *Session) newRequest(cmd *command.Command) *request {
	r := s.w.requests.take()
	r.sess, r.cmd, r.start, r.unfinished = s, cmd, s.w.now, 1
	r.mute = s.unanswered()
	r.call.req = r
	r.seq = s.seq
	s.seq++
	if s.line.tail == nil {
		s.line.head = r
	} else {
		s.line.tail.next = r
	}
	s.line.tail = r
	s.line.n++
	if s.line.n >= maxLine {
		s.set(full)
	}
	return r
}

// answer sends a complete reply that keyway itself has made, behind the replies to
// earlier commands. It counts cmd, unless cmd is nil.
func (s *Session) answer(cmd *command.Command, reply []byte) {
	if cmd != nil {
		s.w.count(cmd, s.w.now, len(reply) > 0 && reply[0] == '-')
	}
	if s.unanswered() {
		return
	}
	s.tell(reply)
}

// reply is answer for a reply that was appended to w.scratch. It returns true.
func (s *Session) reply(cmd *command.Command, b []byte) bool {
	s.answer(cmd, b)
	s.w.scratch = s.w.buffers.Scratch(b)
	return true
}

// unanswered reports whether the client does not want the next reply (CLIENT REPLY). It
// clears a pending SKIP.
func (s *Session) unanswered() bool {
	if s.state&(silent|skipping) == 0 {
		return false
	}
	s.clear(skipping)
	return true
}

// tell sends the client complete RESP values, behind the replies to earlier commands.
func (s *Session) tell(b []byte) {
	if s.line.head == nil {
		s.output(b)
		return
	}
	r := s.newRequest(nil)
	r.unfinished, r.done, r.mute = 0, true, false
	r.park(b)
}

// push sends the client a message that is not a reply. In RESP3 a message may stand
// between any two replies, so it does not wait for the nodes. There are two exceptions.
// It follows the confirmation of a subscription that the client waits for, and it follows
// the reply to a command that may have published it. Redis 8 and Valkey 9 do the same;
// 7.0 puts the message in front of the reply, and inside EXEC's. In RESP2 the message
// follows the replies to earlier commands.
func (s *Session) push(message []byte) {
	if !s.has(resp3) || s.confirming > 0 {
		s.tell(message)
		return
	}
	// The message must not overtake replies that have arrived and wait for their turn.
	var last *request
	for r := s.line.head; r != nil; r = r.next {
		if r.done || r.begun || r.joined || r.reply.Len() > 0 || r.mayPublish() {
			last = r
		}
	}
	if last == nil {
		s.output(message)
		return
	}
	r := s.w.requests.take()
	r.sess, r.seq, r.done = s, last.seq, true
	if r.next = last.next; r.next == nil {
		s.line.tail = r
	}
	last.next = r
	s.line.n++
	r.park(message)
}

// mayPublish reports whether the command may publish, or may have the replies to some
// of its calls.
func (r *request) mayPublish() bool {
	return r.merge != nil || r.cmd.Is(command.Executes) || r.cmd.Unproven()
}

func (s *Session) answerError(cmd *command.Command, text string) bool {
	return s.reply(cmd, resp.AppendError(s.w.scratch[:0], text))
}

func (w *Worker) count(cmd *command.Command, start int64, failed bool) {
	w.stats.Count(cmd.ID, w.now-start, failed)
}

// output appends b to the session's output.
func (s *Session) output(b []byte) {
	s.out.Append(&s.w.buffers, b)
	s.w.grown += len(b)
	s.touch()
	if s.out.Size() > softOutput {
		s.set(full)
	}
	s.bound()
}

// park keeps a reply, or a part of one, until the request's turn.
func (r *request) park(b []byte) {
	w := r.sess.w
	if r.mute {
		return
	}
	r.reply.Append(&w.buffers, b)
	r.sess.parked += len(b)
	w.grown += len(b)
	r.sess.bound()
}

// bound closes a client whose unread replies exceed its limit.
func (s *Session) bound() {
	limit := s.w.o.ClientOutput
	if !s.has(authed) {
		limit = min(limit, maxUnauthOutput)
	}
	if s.has(subscribed) {
		limit = min(limit, maxSubscriber)
	}
	if s.out.Size()+s.parked > limit && !s.has(dead) {
		s.closeSlow()
	}
}

func (s *Session) closeSlow() {
	s.w.stats.ClosedSlow++
	s.w.logRefusal(s, "does not read its replies")
	s.kill()
}

// deliver sends the client a piece of the request's only reply, or parks the piece until
// the request's turn.
func (r *request) deliver(b []byte) {
	if r.sess.line.head == r && !r.mute {
		r.begun = true
		r.sess.output(b)
		return
	}
	r.park(b)
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

// pause pauses the connection of a large reply until the client has caught up.
func (sr *slowReaders) pause(c *call, conn *pool.Conn) {
	w := sr.w
	s := c.req.sess
	if s.pausedConn != nil || s.has(dead) || conn.Paused() {
		return
	}
	if s.delayed > 0 && s.delayedBy != c.req.seq {
		s.delayed = 0
	}
	resumeAt := softOutput / 4
	nearlyFull := false
	if s.has(slow) || s.delayed > maxDelay {
		limit := w.o.ClientOutput - w.o.ClientOutput/16
		if nearlyFull = s.out.Size() >= limit && slices.Contains(c.node.retired.conns, conn); !nearlyFull {
			return
		}
		resumeAt = max(resumeAt, limit-softOutput)
	}
	t := s.allocRareState()
	t.pausedConn, t.delayedAt, t.lastProgress, t.bytesSinceProgress = conn, w.now, w.now, 0
	t.resumeAt, t.nearlyFull, t.delayedBy = resumeAt, nearlyFull, c.req.seq
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
		case *call:
			other = to.req.sess
		case execReply:
			other = to.req.sess
		case *probe:
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
	delays(s, sr.w.now)
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
	timeout := int64(w.o.Backend.RequestTimeout)
	for i := len(sr.sessions) - 1; i >= 0; i-- {
		s := sr.sessions[i]
		stall, delay := timeout, int64(math.MaxInt64)
		switch others := delays(s, w.now); {
		case others && s.nearlyFull:
			stall, delay = maxDelay, maxDelay+timeout
		case others:
			stall, delay = stallTime, maxDelay
		}
		if w.now-s.lastProgress <= stall && s.delayed <= delay {
			continue
		}
		if s.nearlyFull && !s.has(dead) {
			s.closeSlow()
		}
		s.set(slow)
		sr.resume(s)
	}
}

// finish records that a call of the request has ended. After the last call, the reply is
// complete and the line advances.
func (c *call) finish(failed bool) {
	w := c.worker()
	r := c.req
	r.unfinished--
	s := r.sess
	if s == nil {
		w.freeIfDone(r)
		return
	}
	s.inflight--
	if c.alone != nil {
		c.alone.finished()
	}
	if c.replica {
		leftReplica(s, c)
	}
	if c.redirected {
		arrived(s, c)
	}
	if r.unfinished == 1 && r.merge != nil && r.merge.then != nil {
		then := r.merge.then
		r.merge.then = nil
		then()
		return
	}
	if r.unfinished == 0 {
		var after func()
		if r.merge != nil {
			failed, after = r.conclude()
		}
		if after != nil {
			s.line.insertBehind(r, after)
		}
		r.done = true
		w.count(r.cmd, r.start, failed)
		s.advance()
	}
	if s.inflight == 0 && s.has(draining) {
		s.wake()
	}
}

// insertBehind calls add and moves the requests that add appends to the line right behind
// r, which is not done yet. It joins them to r's reply.
func (l *line) insertBehind(r *request, add func()) {
	rest, tail := r.next, l.tail
	r.next, l.tail = nil, r
	add()
	for j := r.next; j != nil; j = j.next {
		j.joined = true
	}
	if rest != nil {
		l.tail.next, l.tail = rest, tail
	}
}

// advance removes the done requests at the front of the line. It sends the client the
// parked part of the new head's reply.
func (s *Session) advance() {
	w := s.w
	for r := s.line.head; r != nil; r = s.line.head {
		if r.reply.Len() > 0 {
			s.parked -= r.reply.Len()
			r.begun = true
			s.output(r.reply.Bytes())
			r.reply.Release(&w.buffers)
		}
		if !r.done {
			break
		}
		if s.line.head = r.next; s.line.head == nil {
			s.line.tail = nil
		}
		s.line.n--
		w.free(r)
	}
	if s.writes != nil {
		head := s.seq
		if s.line.head != nil {
			head = s.line.head.seq
		}
		s.writes.Answered(head, w.now)
	}
	if s.has(full) && s.line.n <= maxLine/2 {
		s.wake()
	}
	if s.has(closing) {
		s.touch()
	}
}

// dropReplies frees what has been received for a request whose client has left.
func (r *request) dropReplies(to *buffer.Pool) {
	r.reply.Release(to)
	if r.merge == nil {
		return
	}
	for i, reply := range r.merge.replies {
		to.Drop(cap(reply))
		r.merge.replies[i] = nil
	}
}

func (w *Worker) free(r *request) {
	if r.merge != nil {
		w.mergers.put(r.merge)
	}
	r.reply.Release(&w.buffers)
	w.requests.put(r)
}

// freeIfDone frees a request whose client has left, once all its calls have ended.
func (w *Worker) freeIfDone(r *request) {
	if r.unfinished == 0 {
		w.free(r)
	}
}
