package proxy

import (
	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// Session is one client. An idle one holds no buffer.
type Session struct {
	Bind any // the shell's end of it; this package never looks

	w     *Worker
	id    uint64
	index int // in w.sessions
	state state
	db    uint16 // selected

	in      []byte       // input that is not dispatched yet
	partial *resp.Parser // in the middle of a command at the start of in
	line    line
	out     buffer.Output
	parked  int // bytes of replies that wait for their turn

	epoch       uint64 // of the worker when nothing was in flight
	inflight    int    // calls that are not finished
	redirecting int    // of them, being sent a second time
	seq         uint64 // of the next request
	wrote       ordinals

	opened, seen int64
	partialAt    int64
	lastCmd      *command.Command
	bytesIn      uint64
	bytesOut     uint64
	commands     uint64
	peer, local  string // addresses, for people
	about        *about
	*trouble
}

// about is what a client may tell of itself.
type about struct {
	name, libName, libVersion string
}

// trouble is what most clients never have: calls that are held up, a node that
// is held back for them.
type trouble struct {
	retry      []*call // to be sent again later
	retryAt    int64
	scouting   bool             // a node is asked whether scripts may be sent again
	scouted    bool             // it has said so
	away       []*call          // whose error is being looked into
	moving     map[int32]moving // by group of keys
	waitsFor   *pool.Conn       // paused until the client has taken what came of a large reply
	resumeAt   int              // how little must be unread for that
	nearlyFull bool             // what the client may leave unread is nearly used up
	waitsSince int64            // when delayed was last added to
	delayed    int64            // for how long others have waited for it, during one reply
	delayedBy  uint64           // seq of that reply's request
	took       int64            // when the client last kept up, while it is waited for
	taken      int              // bytes since then
	txn        *txn             // from WATCH or MULTI to EXEC
	blocking   *blocking
	subs       *subscriptions
	tracking   *tracking
	reading    *readings // where the client reads from replicas
	own        *ownWrites
	synced     *synced
}

// What sessions share until they need their own. Neither is ever written to.
var (
	anonymous  = new(about)
	untroubled = new(trouble)
)

// tells returns the session's own about.
func (s *Session) tells() *about {
	if s.about == anonymous {
		s.about = new(about)
	}
	return s.about
}

// troubled returns the session's own trouble.
func (s *Session) troubled() *trouble {
	if s.trouble == untroubled {
		s.trouble = new(trouble)
	}
	return s.trouble
}

// state is a set of facts about a session.
type state uint32

const (
	authed        state = 1 << iota // may send commands
	closing                         // nothing more is read; closed once all is answered and taken
	dead                            // to be closed at once
	dirty                           // in w.dirty
	resuming                        // in w.resume
	held                            // a command waits until nothing is in flight
	blocked                         // a command waits for its own outcome (WAIT, learning)
	full                            // too much is unanswered or unread
	stalled                         // a node's connection has no room
	gave                            // in was handed over to a connection
	slow                            // a large reply is no longer held back for it
	learning                        // blocked, since a node is asked about a command
	inMulti                         // between MULTI and EXEC
	subscribed                      // listens to channels, and may say little else
	eof                             // the client sends no more; what it has sent is still answered
	resp3                           // speaks RESP3
	silent                          // wants no replies
	skipping                        // wants no reply to its next command
	tracks                          // caches, and has connections of its own
	readsReplicas                   // reads from replicas
	noTouch                         // what it reads does not count as used
)

func (s *Session) has(f state) bool { return s.state&f != 0 }
func (s *Session) set(f state)      { s.state |= f }
func (s *Session) clear(f state)    { s.state &^= f }

// stopped are the reasons not to look at a client's next command.
const stopped = closing | dead | held | blocked | full | stalled

// Open starts a session. peer and local are the socket's addresses, for people.
func (w *Worker) Open(bind any, peer, local string) *Session {
	w.lastID++
	s := &Session{
		Bind: bind, w: w,
		id:     (w.lastID-1)*uint64(w.o.Workers) + uint64(w.o.Index) + 1,
		index:  len(w.sessions),
		opened: w.now, seen: w.now,
		epoch: w.epoch,
		peer:  peer, local: local, about: anonymous, trouble: untroubled,
	}
	if w.o.Password == "" {
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

// Reject counts a connection that was not let in, and returns what to tell it.
func (w *Worker) Reject() []byte {
	w.stats.Rejected++
	return resp.AppendError(nil, errMaxClients)
}

// Gone ends a session whose socket is closed. What it has under way goes on
// without it.
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
	if s.waitsFor != nil {
		w.letGo(s)
	}
	for _, c := range s.retry {
		w.abandon(c)
	}
	for r := s.line.head; r != nil; {
		next := r.next
		r.sess, r.next = nil, nil
		w.freeIfDone(r)
		r = next
	}
	s.line = line{}
	w.hub.leaveAll(s)
	w.stopMonitor(s)
	w.untrack(s)
	if s.blocking != nil {
		s.blocking.leave(w, s)
	}
	s.trouble, s.about = untroubled, anonymous
	s.out.Clear(&w.buffers)
	w.buffers.Put(s.in)
	s.in = nil
	w.dropPartial(s)
}

// Reading tells whether the client may be read from.
func (s *Session) Reading() bool {
	if s.has(blocked) && s.state&(closing|dead|full|stalled|eof) == 0 {
		return len(s.in) < buffer.Chunk // nothing is looked at; but it must show if the client leaves
	}
	return s.state&(stopped|eof) == 0
}

// Finished tells that the socket should be closed now.
func (s *Session) Finished() bool {
	if s.has(dead) {
		return true
	}
	if s.line.head != nil || s.out.Size() > 0 {
		return false
	}
	return s.has(closing) || s.has(eof) && s.state&(held|stalled|full|resuming|blocked) == 0
}

// Dead tells that the socket should be closed at once, whatever is unwritten.
func (s *Session) Dead() bool { return s.has(dead) }

// EOF tells that the client will send no more. Like Redis, which executes at
// once what it has read, the commands that came before are still carried out
// and answered; a client that only waits has left.
func (w *Worker) EOF(s *Session) {
	if s.waits() {
		w.kill(s)
		return
	}
	s.set(eof)
	w.touch(s)
}

// waits tells whether the client does nothing but wait: for an element, or for
// replicas.
func (s *Session) waits() bool {
	return s.blocking != nil || s.has(blocked) && s.inflight > 0 && s.line.head != nil && s.line.head.waitsForReplicas()
}

// waitsForReplicas reports whether the request is a WAIT or a WAITAOF.
func (r *request) waitsForReplicas() bool {
	return r.cmd != nil && r.cmd.Handling == command.Local && r.cmd.Has(command.Blocking)
}

// Output is what should be written to the client now; empty for nothing. The
// shell reports with Wrote how much of it was taken.
func (s *Session) Output() []byte { return s.out.Next() }

// Expecting tells that more replies are on the way and that waiting for them
// costs little: the shell may put off writing while it has other work.
func (s *Session) Expecting() bool {
	return s.line.head != nil && s.out.Size() < 4<<10 && s.state&(closing|dead|full|eof) == 0
}

// Pending is the number of bytes that the client has not taken.
func (s *Session) Pending() int { return s.out.Size() }

// Wrote reports that n bytes of Output were taken.
func (s *Session) Wrote(n int) {
	s.w.stats.BytesOut += uint64(n)
	s.bytesOut += uint64(n)
	s.out.Wrote(&s.w.buffers, n)
	s.seen = s.w.now // a client that takes what it is sent is not idle (networking.c, _writeToClient)
	if s.waitsFor != nil {
		if s.taken += n; s.taken >= keepsUp {
			s.took, s.taken = s.w.now, 0
		}
		if s.out.Size() < s.resumeAt {
			s.w.letGo(s)
		}
	}
	if s.out.Size() == 0 {
		s.clear(slow)
	}
	if s.has(full) && s.out.Size() < softOutput/4 {
		s.w.wake(s)
	}
}

// ID is the client's id, as CLIENT ID tells it.
func (s *Session) ID() uint64 { return s.id }

func (w *Worker) touch(s *Session) {
	if !s.has(dirty) {
		s.set(dirty)
		w.dirty = append(w.dirty, s)
	}
}

// wake has the session looked at again before the turn ends.
func (w *Worker) wake(s *Session) {
	if !s.has(resuming | dead) {
		s.set(resuming)
		w.resume = append(w.resume, s)
	}
}

// kill closes a session at once.
func (w *Worker) kill(s *Session) {
	s.set(dead)
	w.touch(s)
}

// closeAfter closes a session once all it asked for is answered and taken.
func (w *Worker) closeAfter(s *Session) {
	s.set(closing)
	w.touch(s)
}

// Feed takes bytes that the client sent. They are not kept.
func (w *Worker) Feed(s *Session, b []byte) {
	w.stats.BytesIn += uint64(len(b))
	s.bytesIn += uint64(len(b))
	s.seen = w.now
	if s.has(closing | dead) {
		return
	}
	if len(b) > 1 && b[0] == tlsHandshake && s.isTLS(b) {
		w.stats.ClosedTLS++
		w.logRefusal(s, "speaks TLS, and this port does not")
		w.answerError(s, nil, "ERR keyway: this port does not speak TLS")
		w.closeAfter(s)
		return
	}
	if len(s.in) == 0 {
		n := w.consume(s, b)
		w.keep(s, b[n:])
		return
	}
	w.keep(s, b)
	if s.state&stopped == 0 {
		w.consumeKept(s)
	}
}

// keep appends input that cannot be dispatched yet. A command that is not
// complete may take twice the memory that has been received of it, no more,
// whatever its headers promise.
func (w *Worker) keep(s *Session, b []byte) {
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

// goOn resumes a session that was stopped, if its reason is gone.
func (w *Worker) goOn(s *Session) {
	if s.has(dead) {
		return
	}
	if s.has(held) && s.inflight == 0 {
		s.clear(held | blocked)
	}
	if s.has(full) && s.line.n <= maxLine/2 && s.out.Size() < softOutput/4 {
		s.clear(full)
	}
	s.clear(stalled)
	if s.state&stopped == 0 && len(s.in) > 0 {
		w.consumeKept(s)
	}
	w.touch(s)
}

// consumeKept dispatches what s.in holds.
func (w *Worker) consumeKept(s *Session) {
	n := w.consume(s, s.in)
	rest := s.in[n:]
	switch {
	case s.has(gave):
		// The buffer belongs to a connection now; what is left is copied out.
		s.clear(gave)
		s.in = nil
		w.keep(s, rest)
	case len(rest) == 0:
		w.buffers.Put(s.in)
		s.in = nil
	case n > 0:
		s.in = s.in[:copy(s.in, rest)]
	}
}

// consume dispatches the complete commands that b starts with, until something
// stops it, and returns how many bytes they took.
func (w *Worker) consume(s *Session, b []byte) (n int) {
	p := w.parser
	if s.partial != nil {
		p, s.partial = s.partial, nil
		defer func() {
			if s.partial != p {
				w.putParser(p)
			}
		}()
	}
	lim := &w.limits
	if !s.has(authed) {
		lim = &w.unauth
	}
	for n < len(b) && s.state&stopped == 0 {
		if s.epoch != w.epoch || s.redirecting > 0 {
			// An earlier command may still be on its way to where its key
			// was: a later one must not overtake it.
			if s.inflight > 0 {
				w.stats.Held++
				s.set(held)
				return n
			}
			s.epoch = w.epoch
		}
		took, st, err := p.Next(b[n:], lim)
		if err != nil {
			w.stats.ProtocolErrors++
			w.logRefusal(s, errorLine(err))
			w.answer(s, nil, resp.AppendError(w.scratch[:0], errorLine(err)))
			w.closeAfter(s)
			p.Reset()
			return len(b)
		}
		switch st {
		case resp.More:
			w.suspend(s, p, n > 0)
			return n
		case resp.Ready:
			watched := !w.monitors.none()
			w.monitors.hidden = false
			if !w.dispatch(s, p) {
				return n
			}
			s.commands++
			if watched && w.shown(s) {
				w.show(s, s.lastCmd, p)
			}
			if s.has(tracks) {
				s.spent()
			}
			if s.has(authed) {
				lim = &w.limits
			}
		}
		n += took
	}
	return n
}

func errorLine(err error) string { return "ERR " + err.Error() }

// suspend keeps the parser's place in a command that is not complete: one that
// has just begun, or one that was suspended before.
func (w *Worker) suspend(s *Session, p *resp.Parser, begun bool) {
	s.partial = p
	if p == w.parser {
		w.parser = w.getParser()
		begun = true
	}
	if begun {
		s.partialAt = w.now
	}
}

func (w *Worker) getParser() *resp.Parser {
	if n := len(w.parsers); n > 0 {
		p := w.parsers[n-1]
		w.parsers = w.parsers[:n-1]
		return p
	}
	return new(resp.Parser)
}

func (w *Worker) putParser(p *resp.Parser) {
	p.Reset()
	if len(w.parsers) < 64 {
		w.parsers = append(w.parsers, p)
	}
}

func (w *Worker) dropPartial(s *Session) {
	if s.partial != nil {
		w.putParser(s.partial)
		s.partial = nil
	}
}

// ordinals is a set of nodes by their ordinal: whom a client has written to.
type ordinals struct {
	low  uint64
	many bool // a node beyond the first 64: assume all of them
}

func (o *ordinals) add(n uint) {
	if n < 64 {
		o.low |= 1 << n
	} else {
		o.many = true
	}
}

func (o *ordinals) addAll(of ordinals) {
	o.low |= of.low
	o.many = o.many || of.many
}

func (o *ordinals) hasAll(of ordinals) bool {
	return o.many || !of.many && of.low&^o.low == 0
}

// remove has no effect on a node beyond the first 64.
func (o *ordinals) remove(n uint) {
	if n < 64 {
		o.low &^= 1 << n
	}
}

func (o *ordinals) has(n uint) bool { return o.many || n < 64 && o.low&(1<<n) != 0 }

// Each calls f with every open session; f may end it.
func (w *Worker) Each(f func(*Session)) {
	for i := len(w.sessions) - 1; i >= 0; i-- {
		f(w.sessions[i])
	}
}
