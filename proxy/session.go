package proxy

import (
	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// inputs turns the clients' bytes into commands.
type inputs struct {
	w      *Worker
	limits resp.Limits
	unauth resp.Limits // for clients that have not authenticated
	parser *resp.Parser
	unused []*resp.Parser
	woken  []*Session // sessions for resume
}

// Session is one client. An idle session has no buffer.
type Session struct {
	Bind any // the shell's own data for the client; this package does not use it

	w     *Worker
	id    uint64
	index int // in w.sessions; -1: the client has left
	state state
	db    uint16 // the selected database

	input
	line   line
	out    buffer.Output
	parked int // bytes of replies that wait for earlier ones

	epoch       uint64          // the worker's epoch when last no call was in flight
	inflight    int             // calls that are not finished
	redirecting int             // calls, of these, that are sent again
	seq         uint64          // the number of the next request
	wrote       freshness.Nodes // nodes with writes of the client that no WAIT has confirmed

	opened, seen int64 // time of connecting; time of the last traffic
	lastCmd      *command.Command
	traffic
	peer, local string         // the socket's addresses, for logs and CLIENT LIST
	about       *clients.About // shared until the client announces something
	*rareState
}

// input is what a client has sent and keyway has not dispatched yet.
type input struct {
	in        []byte
	partial   *resp.Parser // the parser of the incomplete command at the start of in, or nil
	partialAt int64        // when that command began
}

// traffic is what CLIENT LIST says that a client has sent and received.
type traffic struct{ bytesIn, bytesOut, commands uint64 }

// rareState is the state of rare features. It is allocated only for sessions that use retries,
// large replies, transactions, blocking commands, pub/sub, tracking or reads from replicas.
type rareState struct {
	retry    []*call          // calls that wait to be sent again, in the order of the client's requests
	retryAt  int64            // when to send them
	scouting bool             // an EXISTS is in flight that finds out whether scripts may be sent again
	scouted  bool             // scripts may be sent again: the node did not refuse the EXISTS
	away     []*call          // calls whose error is being checked
	moving   map[int32]moving // by group of keys

	// A large reply that the client does not read fast enough (see order.go):
	pausedConn         *pool.Conn // the connection that keyway does not read until the client has caught up
	resumeAt           int        // keyway reads it again when less than this is unread, in bytes
	nearlyFull         bool       // the unread bytes are close to the client's limit
	delayedAt          int64      // when delayed was last updated
	delayed            int64      // how long other clients have waited for this one, during one reply
	delayedBy          uint64     // the seq of that reply's request
	lastProgress       int64      // when the client last had read keepsUp bytes, while pausedConn is set
	bytesSinceProgress int        // bytes that it has read since then

	kept     []any    // of the features; see perClient
	block    *block   // of the transaction, from WATCH or MULTI to EXEC
	topics   topicSet // nil: it has never had a subscription
	ownConns ownConns // set if the client has the state tracks
	// confirming is how many confirmations of subscriptions the client waits for. No message
	// may overtake them.
	confirming int
	reading    *freshness.Reads  // in flight to replicas
	writes     *freshness.Writes // nil: nothing is recorded
	synced     freshness.Synced  // nodes whose writes WAIT has confirmed
}

// The values that sessions share until they need their own. Nothing ever writes to them.
var (
	anonymous   = new(clients.About)
	noRareState = new(rareState)
)

// allocAbout returns the session's own about, and allocates it if necessary.
func (s *Session) allocAbout() *clients.About {
	if s.about == anonymous {
		s.about = new(clients.About)
	}
	return s.about
}

// allocRareState returns the session's own rareState, and allocates it if necessary.
func (s *Session) allocRareState() *rareState {
	if s.rareState == noRareState {
		s.rareState = new(rareState)
	}
	return s.rareState
}

// state is a set of facts about a session.
type state uint32

const (
	authed        state = 1 << iota // has authenticated, or needs no password
	closing                         // no more input is read; closed once the client has read all replies
	dead                            // closed at once
	dirty                           // in w.dirty
	resuming                        // in w.resume
	draining                        // the next command waits until no call is in flight
	blocked                         // later commands wait for the outcome of a command (WAIT, learning)
	full                            // too many requests without a reply, or too many unread bytes
	stalled                         // a node's connection has no room for the next command
	handedOver                      // a connection has taken over the buffer in
	slow                            // keyway buffers a large reply instead of waiting for the client
	learning                        // blocked, because a node is asked about an unknown command
	inMulti                         // between MULTI and EXEC
	subscribed                      // has subscriptions; in RESP2, few other commands are allowed
	eof                             // the client sends no more; it still gets its replies
	resp3                           // speaks RESP3
	silent                          // CLIENT REPLY OFF
	skipping                        // CLIENT REPLY SKIP: no reply to the next command
	tracks                          // uses CLIENT TRACKING, and has connections of its own
	readsReplicas                   // reads from replicas
	monitoring                      // has sent MONITOR
	noTouch                         // CLIENT NO-TOUCH: its reads do not count as a use of the keys
)

func (s *Session) has(f state) bool { return s.state&f != 0 }
func (s *Session) set(f state)      { s.state |= f }
func (s *Session) clear(f state)    { s.state &^= f }

// stopped are the states in which the client's next command is not dispatched.
const stopped = closing | dead | draining | blocked | full | stalled

// Open starts a session. peer and local are the socket's addresses, for logs and CLIENT LIST.
func (w *Worker) Open(bind any, peer, local string) *Session {
	w.lastID++
	s := &Session{
		Bind: bind, w: w,
		id:     (w.lastID-1)*uint64(w.o.Workers) + uint64(w.o.Index) + 1,
		index:  len(w.sessions),
		opened: w.now, seen: w.now,
		epoch: w.epoch,
		peer:  peer, local: local, about: anonymous, rareState: noRareState,
	}
	if len(w.o.Passwords) == 0 {
		s.set(authed)
	}
	if w.o.Reads != FromMaster && !w.o.ReadsOptIn {
		s.set(readsReplicas)
	}
	w.sessions = append(w.sessions, s)
	w.byID[s.id] = s
	w.stats.Accepted++
	return s
}

// Reject counts a connection that the shell does not accept, and returns the error to send.
func (w *Worker) Reject() []byte {
	w.stats.Rejected++
	return resp.AppendError(nil, errtext.MaxClients)
}

// Gone ends a session whose socket is closed. Calls in flight stay with their connections
// until their replies have come.
func (w *Worker) Gone(s *Session) {
	if s.index < 0 {
		return
	}
	last := len(w.sessions) - 1
	w.sessions[s.index] = w.sessions[last]
	w.sessions[s.index].index = s.index
	w.sessions[last] = nil
	w.sessions = w.sessions[:last]
	delete(w.byID, s.id)
	s.index = -1
	s.set(dead)
	if s.pausedConn != nil {
		w.slowReaders.resume(s)
	}
	for _, c := range s.retry {
		c.abandon()
	}
	for r := s.line.head; r != nil; {
		next := r.next
		r.sess, r.next = nil, nil
		r.dropReplies(&w.buffers) // a node may take long to answer the rest
		w.freeIfDone(r)
		r = next
	}
	s.line = line{}
	for _, f := range w.features {
		f.leave(s)
	}
	s.rareState, s.about = noRareState, anonymous
	s.out.Clear(&w.buffers)
	w.buffers.Put(s.in)
	s.in = nil
	w.inputs.dropPartial(s)
}

// Reading reports whether the shell may read from the client.
func (s *Session) Reading() bool {
	if s.has(blocked) && s.state&(closing|dead|full|stalled|eof) == 0 {
		return len(s.in) < buffer.Chunk // only to notice when the client leaves: nothing is dispatched
	}
	return s.state&(stopped|eof) == 0
}

// Finished reports whether the socket should be closed now.
func (s *Session) Finished() bool {
	if s.has(dead) {
		return true
	}
	if s.line.head != nil || s.out.Size() > 0 {
		return false
	}
	return s.has(closing) || s.has(eof) && s.state&(draining|stalled|full|resuming|blocked) == 0
}

// Dead reports whether the socket should be closed at once, with output left unwritten.
func (s *Session) Dead() bool { return s.has(dead) }

// EOF tells the session that the client will send no more. The commands that came before are
// still executed and answered, as by Redis, which executes commands as soon as it reads them.
// A client inside a blocking command or WAIT is closed.
func (w *Worker) EOF(s *Session) {
	if s.waits() {
		s.kill()
		return
	}
	s.set(eof)
	s.touch()
}

// waits reports whether the client is inside a blocking command or WAIT.
func (s *Session) waits() bool {
	r := s.line.head
	if r == nil || r.cmd == nil || !s.has(blocked) || s.inflight == 0 || !r.cmd.Has(command.Blocking) {
		return false
	}
	return r.cmd.Handling == command.Local || r.call.lane == exclusiveLane
}

// Output returns the bytes to write to the client now, empty if there are none. The shell
// then calls Wrote.
func (s *Session) Output() []byte { return s.out.Next() }

// Expecting reports whether more replies will follow and little output waits. If so, the
// shell may delay writing while it has other work.
func (s *Session) Expecting() bool {
	return s.line.head != nil && s.out.Size() < 4<<10 && s.state&(closing|dead|full|eof) == 0
}

// Pending returns the number of bytes that are not written to the client yet.
func (s *Session) Pending() int { return s.out.Size() }

// Wrote tells the session that the socket has accepted n bytes of Output.
func (s *Session) Wrote(n int) {
	s.w.stats.BytesOut += uint64(n)
	s.bytesOut += uint64(n)
	s.out.Wrote(&s.w.buffers, n)
	s.seen = s.w.now // a client that reads its replies is not idle (networking.c, _writeToClient)
	if s.pausedConn != nil {
		if s.bytesSinceProgress += n; s.bytesSinceProgress >= keepsUp {
			s.lastProgress, s.bytesSinceProgress = s.w.now, 0
		}
		if s.out.Size() < s.resumeAt {
			s.w.slowReaders.resume(s)
		}
	}
	if s.out.Size() == 0 {
		s.clear(slow)
	}
	if s.has(full) && s.out.Size() < softOutput/4 {
		s.wake()
	}
}

// ID returns the client's id, as CLIENT ID does.
func (s *Session) ID() uint64 { return s.id }

// touch puts a session on the list that EndTurn gives to the shell.
func (s *Session) touch() {
	if !s.has(dirty) {
		s.set(dirty)
		s.w.dirty = append(s.w.dirty, s)
	}
}

// wake schedules resumeInput for the session, before the turn ends.
func (s *Session) wake() {
	if !s.has(resuming | dead) {
		s.set(resuming)
		s.w.inputs.woken = append(s.w.inputs.woken, s)
	}
}

// kill closes a session at once.
func (s *Session) kill() {
	s.set(dead)
	s.touch()
}

// closeAfter closes a session once the client has read all its replies.
func (s *Session) closeAfter() {
	s.set(closing)
	s.touch()
}

// Feed handles bytes that the client sent. It copies what it has to keep of b.
func (w *Worker) Feed(s *Session, b []byte) {
	w.stats.BytesIn += uint64(len(b))
	s.bytesIn += uint64(len(b))
	s.seen = w.now
	if s.has(closing | dead) {
		return
	}
	if len(b) > 1 && b[0] == tlsHandshake && isTLS(s, b) {
		w.stats.ClosedTLS++
		w.logRefusal(s, "speaks TLS, and this port does not")
		s.answerError(nil, "ERR keyway: this port does not speak TLS")
		s.closeAfter()
		return
	}
	if len(s.in) == 0 {
		n := w.inputs.consume(s, b)
		w.inputs.keep(s, b[n:])
		return
	}
	w.inputs.keep(s, b)
	if s.state&stopped == 0 {
		w.inputs.consumeKept(s)
	}
}

// keep appends input that cannot be dispatched yet. An incomplete command takes at most twice
// the memory of its bytes received so far, whatever lengths its headers announce.
func (in *inputs) keep(s *Session, b []byte) {
	w := in.w
	if len(b) == 0 {
		return
	}
	if s.in == nil {
		s.in = w.buffers.GetInput(len(b))
	}
	if need := len(s.in) + len(b); need > cap(s.in) {
		room := 2 * need
		if s.partial != nil {
			if promised := s.partial.Need(); promised >= need && promised < room {
				room = promised
			}
		}
		bigger := make([]byte, len(s.in), room)
		copy(bigger, s.in)
		w.buffers.Put(s.in)
		s.in = bigger
	}
	s.in = append(s.in, b...)
	w.grown += len(b)
}

// resume resumes a stopped session, if the reason for the stop is gone.
func (in *inputs) resume(s *Session) {
	if s.has(dead) {
		return
	}
	if s.has(draining) && s.inflight == 0 {
		s.clear(draining | blocked)
	}
	if s.has(full) && s.line.n <= maxLine/2 && s.out.Size() < softOutput/4 {
		s.clear(full)
	}
	s.clear(stalled)
	if s.state&stopped == 0 && len(s.in) > 0 {
		in.consumeKept(s)
	}
	s.touch()
}

// consumeKept dispatches the commands in s.in.
func (in *inputs) consumeKept(s *Session) {
	n := in.consume(s, s.in)
	rest := s.in[n:]
	switch {
	case s.has(handedOver):
		// A connection owns the buffer now, so the remaining input is copied.
		s.clear(handedOver)
		s.in = nil
		in.keep(s, rest)
	case len(rest) == 0:
		in.w.buffers.Put(s.in)
		s.in = nil
	case n > 0:
		s.in = s.in[:copy(s.in, rest)]
	}
}

// consume dispatches the complete commands at the start of b, until the session is stopped,
// and returns their length in bytes.
func (in *inputs) consume(s *Session, b []byte) (n int) {
	w := in.w
	p := in.parser
	if s.partial != nil {
		p, s.partial = s.partial, nil
		defer func() {
			if s.partial != p {
				in.putParser(p)
			}
		}()
	}
	lim := &in.limits
	if !s.has(authed) {
		lim = &in.unauth
	}
	for n < len(b) && s.state&stopped == 0 {
		if s.epoch != w.epoch || s.redirecting > 0 {
			// An earlier command may still be in flight to the former owner of its
			// key. A later command must not overtake it.
			if s.inflight > 0 {
				w.stats.Held++
				s.set(draining)
				return n
			}
			s.epoch = w.epoch
		}
		length, st, err := p.Next(b[n:], lim)
		if err != nil {
			w.stats.ProtocolErrors++
			w.logRefusal(s, errorLine(err))
			s.answer(nil, resp.AppendError(w.scratch[:0], errorLine(err)))
			s.closeAfter()
			p.Reset()
			return len(b)
		}
		switch st {
		case resp.More:
			in.suspend(s, p, n > 0)
			return n
		case resp.Ready:
			watcher := w.observer
			w.hidden = false
			if !w.dispatch(s, p) {
				return n
			}
			s.commands++
			if watcher != nil && in.shown(s) {
				watcher.show(s, s.lastCmd, p)
			}
			if s.has(tracks) {
				s.ownConns.dispatched(s)
			}
			if s.has(authed) {
				lim = &in.limits
			}
		}
		n += length
	}
	return n
}

// shown reports whether the observer sees the command that was just dispatched. It does not
// see a rejected command. It sees a queued command only when EXEC executes it.
func (in *inputs) shown(s *Session) bool {
	switch cmd := s.lastCmd; {
	case in.w.hidden:
		return false
	case !s.has(inMulti):
		return true
	default:
		return cmd != nil && cmd.InMulti == command.ActsAtOnce
	}
}

func errorLine(err error) string { return "ERR " + err.Error() }

// suspend keeps the parser of an incomplete command for the client's next input. begun says
// that the command has only just begun.
func (in *inputs) suspend(s *Session, p *resp.Parser, begun bool) {
	s.partial = p
	if p == in.parser {
		in.parser = in.getParser()
		begun = true
	}
	if begun {
		s.partialAt = in.w.now
	}
}

func (in *inputs) getParser() *resp.Parser {
	if n := len(in.unused); n > 0 {
		p := in.unused[n-1]
		in.unused = in.unused[:n-1]
		return p
	}
	return new(resp.Parser)
}

func (in *inputs) putParser(p *resp.Parser) {
	p.Reset()
	if len(in.unused) < 64 {
		in.unused = append(in.unused, p)
	}
}

func (in *inputs) dropPartial(s *Session) {
	if s.partial != nil {
		in.putParser(s.partial)
		s.partial = nil
	}
}

// useDB makes the client's later commands use the database.
func useDB(w *Worker, s *Session, db uint16) {
	if s.db != db {
		s.db = db
		renewConns(w, s)
		s.forgetCached()
	}
}

// Each calls f with every open session. f may end the session that it gets.
func (w *Worker) Each(f func(*Session)) {
	for i := len(w.sessions) - 1; i >= 0; i-- {
		f(w.sessions[i])
	}
}
