package engine

import (
	"unsafe"

	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/resp"
)

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
	mayBlock   bool   // see MayBlock
	joined     bool   // its reply continues the reply of the request before it
	End        ending // makes the reply out of the nodes' replies; nil: the only one is forwarded piece by piece
	reply      buffer.Parked
	witnessed  WitnessedReply // nil: nobody else wants the reply
	Merge      *Merger
	prefix     *names.Prefix      // of the user who sent the command; nil: none
	shape      names.Shape        // where the reply has names that are still whole
	share      *quota.Share       // of the user whose commands under way are bounded, with this one; nil: of none
	tally      *metrics.UserStats // of the user who sent the command
	journey    *journey.Journey   // nil: nothing is recorded of the command
	Call       Call               // the only call of most requests
}

// ending appends to dst the client's reply to a request whose calls have all ended. The
// nodes' replies are in the request's merger.
type ending func(w *Worker, dst []byte, r *Request) []byte

// line is a session's requests in the order in which the client gets the replies.
type line struct {
	head, tail *Request
	n          int
}

// NewRequest appends a request with one call to the client's line.
func (s *Session) NewRequest(cmd *command.Command) *Request {
	r := s.Worker.requests.take()
	r.Session, r.Command, r.start, r.Unfinished = s, cmd, s.Worker.Now, 1
	r.Mute = s.Unanswered()
	r.tally = s.tally
	if s.User.Prefix != nil && cmd != nil {
		r.prefix, r.shape = s.User.Prefix, names.ShapeOf(cmd)
	}
	if s.Share != nil && cmd != nil && s.Share.BoundsInFlight() {
		r.share = s.Share
		r.share.Begin()
	}
	r.Call.Request = r
	if s.Worker.journeys.unclaimed > 0 && cmd != nil {
		s.Worker.journeys.claim(r)
	}
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
		s.Set(full)
	}
	return r
}

// Answer sends a complete reply that keyway itself has made, behind the replies to
// earlier commands. It counts cmd, unless cmd is nil.
func (s *Session) Answer(cmd *command.Command, reply []byte) {
	if cmd != nil {
		s.Worker.Count(s, cmd, len(reply) > 0 && reply[0] == '-')
	}
	if s.Worker.journeys.unclaimed > 0 {
		s.Worker.journeys.answered(s, reply)
	}
	if s.Unanswered() {
		return
	}
	s.Tell(reply)
}

// Reply is Answer for a reply that was appended to w.Scratch. It returns true.
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
	if s.line.head == nil {
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
	for r := s.line.head; r != nil; r = r.next {
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
		s.line.tail = r
	}
	last.next = r
	s.line.n++
	r.park(message)
}

// mayPublish reports whether the command may publish, or may have the replies to some
// of its calls.
func (r *Request) mayPublish() bool {
	return r.Merge != nil || r.Command.Is(command.Executes) || r.Command.Unproven()
}

// Witness shows a command to the worker's Witness, if there is one. It goes to n, or to several
// nodes if n is nil.
func (r *Request) Witness(cmd *command.Command, a command.Args, n *Node) {
	if w := r.Session.Worker; cmd.Lock.Changes() && w.Witness != nil {
		r.witnessed = w.Witness.Sent(r.Session, cmd, a, n)
	}
}

// WitnessWith makes to get the reply, for the commands of a transaction that the Witness has seen.
func (r *Request) WitnessWith(to WitnessedReply) { r.witnessed = to }

// showWitness shows the witness the reply.
func (r *Request) showWitness(reply []byte) {
	if r.witnessed != nil {
		r.witnessed.Replied(reply)
		r.witnessed = nil
	}
}

// AnswerError is Answer for an error text such as "ERR syntax error". It returns true.
func (s *Session) AnswerError(cmd *command.Command, text string) bool {
	if s.User.Prefix != nil {
		text = s.User.Prefix.OwnError(text)
	}
	return s.Reply(cmd, resp.AppendError(s.Worker.Scratch[:0], text))
}

// Count counts a command of a client that keyway has answered at once.
func (w *Worker) Count(s *Session, cmd *command.Command, failed bool) {
	w.Stats.Count(cmd.ID, 0, failed, s.tally)
}

// counted counts the request's command, and how long it took, unless its client has chosen how long it waits.
func (r *Request) counted(w *Worker, failed bool) {
	if r.mayBlock {
		w.Stats.CountUntimed(r.Command.ID, failed, r.tally)
	} else {
		w.Stats.Count(r.Command.ID, w.Now-r.start, failed, r.tally)
	}
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

// deliver sends the client a piece of the request's only reply, or parks the piece until
// the request's turn.
func (r *Request) deliver(b []byte) {
	if r.journey != nil {
		r.journey.Replied(b)
	}
	switch {
	case r.prefix == nil:
	case r.shape != names.NoNames:
		r.park(b) // until the reply is complete: see useOwnNames
		return
	case len(b) > 0 && b[0] == '-' && !r.Begun && r.reply.Len() == 0:
		b = r.prefix.AppendReply(nil, b, names.NoNames)
	}
	if r.Session.line.head == r && !r.Mute {
		r.Begun = true
		pass(r.Session, b, r.next == nil)
		return
	}
	r.park(b)
}

// useOwnNames takes the prefix of the user out of the names in a complete reply.
func (r *Request) useOwnNames() {
	w := r.Session.Worker
	own := r.prefix.AppendReply(w.Scratch[:0], r.reply.Bytes(), r.shape)
	r.shape = names.NoNames
	r.Session.Parked -= r.reply.Len()
	r.reply.Release(&w.Buffers)
	r.park(own)
	w.Scratch = w.Buffers.Scratch(own)
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
		c.alone.OnEnd()
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
	if r.Unfinished == 0 && r.Merge != nil && r.Merge.sweep != nil && r.Merge.sweep.goesOn(w, r) {
		return
	}
	if r.Unfinished == 0 {
		var after func()
		if r.Merge != nil {
			failed, after = r.mergeReplies()
		}
		if r.shape != names.NoNames {
			r.useOwnNames()
		}
		if after != nil {
			s.line.insertBehind(r, after)
		}
		r.done = true
		r.counted(w, failed)
		if r.journey != nil {
			w.journeys.ended(r)
		}
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
	for r := s.line.head; r != nil; r = s.line.head {
		if r.reply.Len() > 0 && r.shape == names.NoNames {
			s.Parked -= r.reply.Len()
			r.Begun = true
			s.output(r.reply.Bytes())
			r.reply.Release(&w.Buffers)
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
		s.writes.Answered(head, w.Now)
	}
	if s.Has(full) && s.line.n <= maxLine/2 {
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
	if r.share != nil {
		r.MayLast()
	}
	if r.witnessed != nil {
		r.witnessed.Drop()
	}
	if r.journey != nil {
		w.journeys.cut(r)
	}
	if r.Merge != nil {
		w.Mergers.put(r.Merge)
	}
	r.reply.Release(&w.Buffers)
	w.requests.put(r)
}

// MayLast no longer counts a request among those that are under way: it may wait for as long as the
// client wants.
func (r *Request) MayLast() {
	if r.share != nil {
		r.share.End()
		r.share = nil
	}
}

// MayBlock says that the client waits in the command for as long as it wants, as in BLPOP and WAIT. How long that
// takes is no sign of slowness, so it is in no figures and not in the slow log, as in Redis.
func (r *Request) MayBlock() {
	r.MayLast()
	r.mayBlock = true
}

// freeIfDone frees a request whose client has left, once all its calls have ended.
func (w *Worker) freeIfDone(r *Request) {
	if r.Unfinished == 0 {
		w.free(r)
	}
}

// A worker bounds the memory that it keeps for reuse, so that one large command, or one burst
// of commands, does not leave the process large for ever. Ready.Garbage counts the memory
// that it no longer keeps, so that the shell returns it to the operating system.

const (
	// maxSplit is the largest number of keys in one command for which the splitter keeps
	// its buffers.
	maxSplit = 32 << 10
	// maxMergers bounds the bytes of unused mergers that a worker keeps.
	maxMergers = 4 << 20
	// maxUnusedRequests is how many requests may be unused for a whole sweep.
	maxUnusedRequests = 128
)

// trim frees memory that was not needed since the last sweep, or that only very large
// commands need.
func (w *Worker) trim() {
	w.Buffers.Drop(w.requests.trim())
	w.Buffers.Trim()
	w.Links.Trim()
	w.Inputs.parser.Trim()
	w.Names.Trim()
	if sp := &w.split; cap(sp.next) > maxSplit {
		w.Buffers.Drop(8 * cap(sp.next))
		sp.next, sp.shardOf = nil, nil
	}
}

// freeRequests are the requests that are not in use.
type freeRequests struct {
	first  *Request
	n      int
	unused int // the smallest n since the last sweep: this many requests were not needed
}

func (f *freeRequests) take() *Request {
	r := f.first
	if r == nil {
		return new(Request)
	}
	f.first, r.next = r.next, nil
	if f.n--; f.n < f.unused {
		f.unused = f.n
	}
	return r
}

func (f *freeRequests) put(r *Request) {
	*r = Request{next: f.first}
	f.first = r
	f.n++
}

// trim frees half of the requests that were not needed since the last call, if these are more than
// maxUnusedRequests. It returns the number of bytes that they took.
func (f *freeRequests) trim() (bytes int) {
	if f.unused > maxUnusedRequests {
		for range (f.unused - maxUnusedRequests + 1) / 2 {
			f.take()
			bytes += int(unsafe.Sizeof(Request{}))
		}
	}
	f.unused = f.n
	return bytes
}
