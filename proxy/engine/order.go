package engine

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

// Request is one command's place in its client's line.
//
//	client sent   GET a    MGET b c    PING
//	line          [call]   [call,call] [reply: +PONG, parked]
//	               ^ head: its reply goes straight to the output
//
// The reply to any other request is parked in that request. When the head is done, the
// line advances over it and over the done requests right behind it.
type Request struct {
	next       *Request
	Session    *Session // nil once the client has left
	Command    *command.Command
	seq        uint64
	start      int64
	Unfinished int    // calls that are not finished
	done       bool   // the whole reply is in reply, or in the session's output
	Begun      bool   // a part of the reply is in the session's output
	Mute       bool   // the client wants no reply
	joined     bool   // its reply continues the reply of the request before it
	End        ending // makes the reply out of the nodes' replies; nil: the only one is forwarded piece by piece
	reply      buffer.Parked
	Merge      *Merger
	Call       Call // the only call of most requests
}

// ending appends to dst the client's reply to a request whose calls have all ended. The
// nodes' replies are in the request's merger.
type ending func(w *Worker, dst []byte, r *Request) []byte

// line is a session's requests in the order in which the client gets the replies.
type line struct {
	Head, tail *Request
	n          int
}

// NewRequest appends a request with one call to the client's line.
func (s *Session) NewRequest(cmd *command.Command) *Request {
	r := s.Worker.requests.take()
	r.Session, r.Command, r.start, r.Unfinished = s, cmd, s.Worker.Now, 1
	r.Mute = s.Unanswered()
	r.Call.Request = r
	r.seq = s.seq
	s.seq++
	if s.Line.tail == nil {
		s.Line.Head = r
	} else {
		s.Line.tail.next = r
	}
	s.Line.tail = r
	s.Line.n++
	if s.Line.n >= maxLine {
		s.Set(full)
	}
	return r
}

// Answer sends a complete reply that keyway itself has made, behind the replies to
// earlier commands. It counts cmd, unless cmd is nil.
func (s *Session) Answer(cmd *command.Command, reply []byte) {
	if cmd != nil {
		s.Worker.Count(cmd, s.Worker.Now, len(reply) > 0 && reply[0] == '-')
	}
	if s.Unanswered() {
		return
	}
	s.Tell(reply)
}

// Reply is answer for a reply that was appended to w.scratch. It returns true.
func (s *Session) Reply(cmd *command.Command, b []byte) bool {
	s.Answer(cmd, b)
	s.Worker.Scratch = s.Worker.Buffers.Scratch(b)
	return true
}

// Unanswered reports whether the client does not want the next reply (CLIENT REPLY). It
// clears a pending SKIP.
func (s *Session) Unanswered() bool {
	if s.State&(Silent|Skipping) == 0 {
		return false
	}
	s.Clear(Skipping)
	return true
}

// Tell sends the client complete RESP values, behind the replies to earlier commands.
func (s *Session) Tell(b []byte) {
	if s.Line.Head == nil {
		s.output(b)
		return
	}
	r := s.NewRequest(nil)
	r.Unfinished, r.done, r.Mute = 0, true, false
	r.park(b)
}

// Push sends the client a message that is not a reply. In RESP3 a message may stand
// between any two replies, so it does not wait for the nodes. There are two exceptions.
// It follows the confirmation of a subscription that the client waits for, and it follows
// the reply to a command that may have published it. Redis 8 and Valkey 9 do the same;
// 7.0 puts the message in front of the reply, and inside EXEC's. In RESP2 the message
// follows the replies to earlier commands.
func (s *Session) Push(message []byte) {
	if !s.Has(RESP3) || s.Confirming > 0 {
		s.Tell(message)
		return
	}
	// The message must not overtake replies that have arrived and wait for their turn.
	var last *Request
	for r := s.Line.Head; r != nil; r = r.next {
		if r.done || r.Begun || r.joined || r.reply.Len() > 0 || r.mayPublish() {
			last = r
		}
	}
	if last == nil {
		s.output(message)
		return
	}
	r := s.Worker.requests.take()
	r.Session, r.seq, r.done = s, last.seq, true
	if r.next = last.next; r.next == nil {
		s.Line.tail = r
	}
	last.next = r
	s.Line.n++
	r.park(message)
}

// mayPublish reports whether the command may publish, or may have the replies to some
// of its calls.
func (r *Request) mayPublish() bool {
	return r.Merge != nil || r.Command.Is(command.Executes) || r.Command.Unproven()
}

// AnswerError is answer for an error text such as "ERR syntax error". It returns true.
func (s *Session) AnswerError(cmd *command.Command, text string) bool {
	return s.Reply(cmd, resp.AppendError(s.Worker.Scratch[:0], text))
}

// Count counts a command that began at start, and how long it took.
func (w *Worker) Count(cmd *command.Command, start int64, failed bool) {
	w.Stats.Count(cmd.ID, w.Now-start, failed)
}

// output appends b to the session's output.
func (s *Session) output(b []byte) {
	s.Unread.Append(&s.Worker.Buffers, b)
	s.Worker.GrownBy += len(b)
	s.touch()
	if s.Unread.Size() > softOutput {
		s.Set(full)
	}
	s.bound()
}

// park keeps a reply, or a part of one, until the request's turn.
func (r *Request) park(b []byte) {
	w := r.Session.Worker
	if r.Mute {
		return
	}
	r.reply.Append(&w.Buffers, b)
	r.Session.Parked += len(b)
	w.GrownBy += len(b)
	r.Session.bound()
}

// bound closes a client whose unread replies exceed its limit.
func (s *Session) bound() {
	limit := s.Worker.Options.ClientOutput
	if !s.Has(Authed) {
		limit = min(limit, maxUnauthOutput)
	}
	if s.Has(Subscribed) {
		limit = min(limit, maxSubscriber)
	}
	if s.Unread.Size()+s.Parked > limit && !s.Has(Dead) {
		s.closeSlow()
	}
}

func (s *Session) closeSlow() {
	s.Worker.Stats.ClosedSlow++
	s.Worker.LogRefusal(s, "does not read its replies")
	s.Kill()
}

// deliver sends the client a piece of the request's only reply, or parks the piece until
// the request's turn.
func (r *Request) deliver(b []byte) {
	if r.Session.Line.Head == r && !r.Mute {
		r.Begun = true
		r.Session.output(b)
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
		if nearlyFull = s.Unread.Size() >= limit && slices.Contains(c.Node.retired.conns, conn); !nearlyFull {
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

// finish records that a call of the request has ended. After the last call, the reply is
// complete and the line advances.
func (c *Call) finish(failed bool) {
	w := c.Worker()
	r := c.Request
	r.Unfinished--
	s := r.Session
	if s == nil {
		w.freeIfDone(r)
		return
	}
	s.Inflight--
	if c.alone != nil {
		c.alone.Finished()
	}
	if c.replica {
		leftReplica(s, c)
	}
	if c.Redirected {
		arrived(s, c)
	}
	if r.Unfinished == 1 && r.Merge != nil && r.Merge.then != nil {
		then := r.Merge.then
		r.Merge.then = nil
		then()
		return
	}
	if r.Unfinished == 0 {
		var after func()
		if r.Merge != nil {
			failed, after = r.conclude()
		}
		if after != nil {
			s.Line.insertBehind(r, after)
		}
		r.done = true
		w.Count(r.Command, r.start, failed)
		s.advance()
	}
	if s.Inflight == 0 && s.Has(Draining) {
		s.Wake()
	}
}

// insertBehind calls add and moves the requests that add appends to the line right behind
// r, which is not done yet. It joins them to r's reply.
func (l *line) insertBehind(r *Request, add func()) {
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
	w := s.Worker
	for r := s.Line.Head; r != nil; r = s.Line.Head {
		if r.reply.Len() > 0 {
			s.Parked -= r.reply.Len()
			r.Begun = true
			s.output(r.reply.Bytes())
			r.reply.Release(&w.Buffers)
		}
		if !r.done {
			break
		}
		if s.Line.Head = r.next; s.Line.Head == nil {
			s.Line.tail = nil
		}
		s.Line.n--
		w.free(r)
	}
	if s.writes != nil {
		head := s.seq
		if s.Line.Head != nil {
			head = s.Line.Head.seq
		}
		s.writes.Answered(head, w.Now)
	}
	if s.Has(full) && s.Line.n <= maxLine/2 {
		s.Wake()
	}
	if s.Has(Closing) {
		s.touch()
	}
}

// dropReplies frees what has been received for a request whose client has left.
func (r *Request) dropReplies(to *buffer.Pool) {
	r.reply.Release(to)
	if r.Merge == nil {
		return
	}
	for i, reply := range r.Merge.Replies {
		to.Drop(cap(reply))
		r.Merge.Replies[i] = nil
	}
}

func (w *Worker) free(r *Request) {
	if r.Merge != nil {
		w.Mergers.put(r.Merge)
	}
	r.reply.Release(&w.Buffers)
	w.requests.put(r)
}

// freeIfDone frees a request whose client has left, once all its calls have ended.
func (w *Worker) freeIfDone(r *Request) {
	if r.Unfinished == 0 {
		w.free(r)
	}
}
