package engine

import (
	"bytes"

	"github.com/keyway-proxy/keyway/acl"
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
	Limits resp.Limits
	unauth resp.Limits // for clients that have not authenticated
	parser *resp.Parser
	unused []*resp.Parser
	woken  []*Session // sessions for resume, before the turn ends
}

// Session is one client. An idle session has no buffer.
type Session struct {
	Bind any // the shell's own data for the client; this package does not use it

	Worker *Worker
	id     uint64
	index  int // in w.Sessions; -1: the client has left
	State  State
	aim
	identity

	input
	line   line
	Unsent buffer.Output
	Parked int // bytes of replies that wait for earlier ones

	epoch       uint64          // the worker's epoch when last no call was in flight
	Inflight    int             // calls that are not finished
	redirecting int             // calls, of these, that are sent again
	seq         uint64          // the number of the next request
	WroteTo     freshness.Nodes // nodes with writes of the client that no WAIT has confirmed

	OpenedAt, ActiveAt int64 // time of connecting; time of the last traffic
	LastCmd            *command.Command
	traffic
	peer, Local string         // the socket's addresses, for logs and CLIENT LIST
	About       *clients.About // shared until the client announces something
	*RareState
}

// input is what a client has sent and keyway has not dispatched yet.
type input struct {
	In        []byte
	partial   *resp.Parser // the parser of the incomplete command at the start of In, or nil
	partialAt int64        // when that command began
}

// traffic is what CLIENT LIST says that a client has sent and received.
type traffic struct{ BytesIn, BytesOut, Commands uint64 }

// RareState is the state of rare features. It is allocated only for sessions that use retries,
// large replies, transactions, blocking commands, pub/sub, tracking or reads from replicas.
type RareState struct {
	Retry    []*Call          // calls that wait to be sent again, in the order of the client's requests
	retryAt  int64            // when to send them
	probing  bool             // an EXISTS is in flight, which shows whether scripts may be sent again
	probed   bool             // scripts may be sent again: the node did not refuse the EXISTS
	checking []*Call          // calls whose error is being checked
	moving   map[int32]moving // by group of keys

	// A large reply that the client does not read fast enough (see output.go):
	pausedConn         *pool.Conn // the connection that keyway does not read until the client has caught up
	resumeAt           int        // keyway reads it again when less than this is unread, in bytes
	nearlyFull         bool       // the unread bytes are close to the client's limit
	delayedAt          int64      // when delayed was last updated
	delayed            int64      // how long other clients have waited for this one, during one reply
	delayedBy          uint64     // the seq of that reply's request
	lastProgress       int64      // when the client last had read keepsUp bytes, while pausedConn is set
	bytesSinceProgress int        // bytes that it has read since then

	perFeature []any    // one value for each perClient
	Block      *Block   // of the transaction, from WATCH or MULTI to EXEC
	Topics     topicSet // nil: it has never had a subscription
	OwnConns   ownConns // set if the client has the state Tracks
	// Confirming is how many confirmations of subscriptions the client waits for. No message
	// may overtake them.
	Confirming int
	AtReplicas *freshness.Reads  // in flight to replicas
	writes     *freshness.Writes // nil: nothing is recorded
	Synced     freshness.Synced  // nodes whose writes WAIT has confirmed
}

// The values that sessions share until they need their own. Nothing ever writes to them.
var (
	Anonymous   = new(clients.About)
	NoRareState = new(RareState)
)

// AllocAbout returns the session's own About, and allocates it if necessary.
func (s *Session) AllocAbout() *clients.About {
	if s.About == Anonymous {
		s.About = new(clients.About)
	}
	return s.About
}

// AllocRareState returns the session's own RareState, and allocates it if necessary.
func (s *Session) AllocRareState() *RareState {
	if s.RareState == NoRareState {
		s.RareState = new(RareState)
	}
	return s.RareState
}

// State is a set of facts about a session.
type State uint32

const (
	Authed        State = 1 << iota // has authenticated, or needs no password
	Closing                         // no more input is read; closed once the client has read all replies
	Dead                            // closed at once
	dirty                           // in w.dirty
	resuming                        // in w.Inputs.woken
	Draining                        // the next command waits until no call is in flight
	Blocked                         // later commands wait for the outcome of a command (WAIT, learning)
	full                            // too many requests without a reply, or too many unread bytes
	Stalled                         // a node's connection has no room for the next command
	handedOver                      // a connection has taken over the buffer In
	slow                            // keyway buffers a large reply instead of waiting for the client
	learning                        // blocked, because a node is asked about an unknown command
	InMulti                         // between MULTI and EXEC
	Subscribed                      // has subscriptions; in RESP2, few other commands are allowed
	eof                             // the client sends no more; it still gets its replies
	RESP3                           // speaks RESP3
	Silent                          // CLIENT REPLY OFF
	Skipping                        // CLIENT REPLY SKIP: no reply to the next command
	Tracks                          // uses CLIENT TRACKING, and has connections of its own
	ReadsReplicas                   // reads from replicas
	Monitoring                      // has sent MONITOR
	NoTouch                         // CLIENT NO-TOUCH: its reads do not count as a use of the keys
	OptedIn                         // its last READONLY or READWRITE was READONLY
	OptedOut                        // its last READONLY or READWRITE was READWRITE
	Leaving                         // keyway stops, and closes the client when it may leave; see package drain
	LeavingNow                      // Leaving, even if it waits or listens
	Limited                         // the next command waits, because of the limits of the user
	Released                        // closed without a reply to its blocking command, which has had no effect
	heldBack                        // its next command waits: another process takes the client over
	OfNodes                         // its user is one of the nodes: it has a Login
)

// Has reports whether the session is in any of the states; Set and Clear change them.
func (s *Session) Has(f State) bool { return s.State&f != 0 }
func (s *Session) Set(f State)      { s.State |= f }
func (s *Session) Clear(f State)    { s.State &^= f }

// stopped are the states in which the client's next command is not dispatched.
const stopped = Closing | Dead | Draining | Blocked | full | Stalled | Limited | heldBack

// Open starts a session. peer and local are the socket's addresses, for logs and CLIENT LIST.
func (w *Worker) Open(bind any, peer, local string) *Session {
	w.lastID++
	id := (w.lastID-1)*uint64(w.Options.Workers) + uint64(w.Options.Index) + 1
	s := open(w, bind, id, peer, local)
	BeDefault(s)
	s.DB = s.User.Database
	w.Reads.Decide(s)
	w.Stats.Accepted++
	return s
}

func open(w *Worker, bind any, id uint64, peer, local string) *Session {
	s := &Session{
		Bind: bind, Worker: w, id: id,
		index:    len(w.Sessions),
		OpenedAt: w.Now, ActiveAt: w.Now,
		epoch: w.epoch,
		peer:  peer, Local: local, About: Anonymous, RareState: NoRareState,
	}
	w.Sessions = append(w.Sessions, s)
	w.ByID[s.id] = s
	return s
}

// TakeOver starts a session of a client that another process has served, under the id that it has
// there. The worker's later sessions get higher ids. The caller sets what the client had set.
func TakeOver(w *Worker, bind any, id uint64, peer, local string) *Session {
	LaterIDs(w, id)
	s := open(w, bind, id, peer, local)
	s.seq = 1 // it may have sent commands
	for _, n := range w.Nodes {
		s.WroteTo.Add(n.Ordinal)
	}
	return s
}

// LaterIDs makes the worker's later sessions get ids above this one.
func LaterIDs(w *Worker, id uint64) {
	w.lastID = max(w.lastID, id/uint64(w.Options.Workers)+1)
}

// LastID returns an id that no session of the worker exceeds.
func LastID(w *Worker) uint64 { return w.lastID * uint64(w.Options.Workers) }

// HoldBack makes the client's next command wait until GoOn, so that another process can take the client over.
func HoldBack(s *Session) { s.Set(heldBack) }

// GoOn ends HoldBack.
func GoOn(s *Session) {
	s.Clear(heldBack)
	s.Wake()
}

// IsHeldBack reports whether the client's next command waits after HoldBack.
func IsHeldBack(s *Session) bool { return s.Has(heldBack) }

// IsIdle reports whether the client has the replies to all that was dispatched, but for output that
// is not written yet, and is in no transaction.
func IsIdle(s *Session) bool {
	const busy = Closing | Dead | Draining | Blocked | Stalled | handedOver | resuming | eof | InMulti
	return s.State&busy == 0 && s.line.head == nil && s.Inflight == 0 && s.Confirming == 0 &&
		s.Block == nil && s.pausedConn == nil && len(s.Retry) == 0 && !s.HasLeft()
}

// BeDefault makes the session one of the default user, who may need no authentication.
func BeDefault(s *Session) {
	logOut(s)
	UseUser(s, s.Worker.Options.Users.Default)
	if s.Clear(Authed); s.User.Admits() {
		s.Set(Authed)
	}
}

// Identify makes a client that has just connected the first user with one of these names, which
// its certificate proves. If none of the users exists and is on, it returns false, and the client
// stays the default user.
func Identify(w *Worker, s *Session, names []string) bool {
	for _, name := range names {
		if u := w.Options.Users.Named(name); u != nil && u.Enabled() {
			UseUser(s, u)
			s.DB = u.Database
			w.Reads.Decide(s)
			s.Set(Authed)
			return true
		}
	}
	w.Stats.UnknownCertificates++
	object := ""
	if len(names) > 0 {
		object = names[0]
	}
	w.Denials.Denied(s, acl.DeniedCertificate, object, object)
	return false
}

// Reject counts a connection that the shell does not accept, and returns the error to send.
func (w *Worker) Reject() []byte {
	w.Stats.Rejected++
	return resp.AppendError(nil, errtext.MaxClients)
}

// Gone ends a session whose socket is closed. Calls in flight stay with their connections
// until their replies have come.
func (w *Worker) Gone(s *Session) {
	if s.HasLeft() {
		return
	}
	last := len(w.Sessions) - 1
	w.Sessions[s.index] = w.Sessions[last]
	w.Sessions[s.index].index = s.index
	w.Sessions[last] = nil
	w.Sessions = w.Sessions[:last]
	delete(w.ByID, s.id)
	s.index = -1
	s.Login.Leave(w.Now)
	s.Set(Dead)
	if s.pausedConn != nil {
		w.slowReaders.resume(s)
	}
	for _, c := range s.Retry {
		c.abandon()
	}
	for r := s.line.head; r != nil; {
		next := r.next
		r.Session, r.next = nil, nil
		r.dropReplies(&w.Buffers) // a node may take long to answer the rest
		w.freeIfDone(r)
		r = next
	}
	s.line = line{}
	for _, f := range w.Features {
		f.Leave(s)
	}
	s.RareState, s.About = NoRareState, Anonymous
	s.Unsent.Clear(&w.Buffers)
	w.Buffers.Put(s.In)
	s.In = nil
	w.Inputs.dropPartial(s)
}

// HasLeft reports whether the client has left. Its requests in flight are still answered.
func (s *Session) HasLeft() bool { return s.index < 0 }

// Reading reports whether the shell may read from the client.
func (s *Session) Reading() bool {
	if s.Has(Blocked|Limited) && s.State&(Closing|Dead|full|Stalled|eof) == 0 {
		return len(s.In) < buffer.Chunk // only to notice when the client leaves: nothing is dispatched
	}
	return s.State&(stopped|eof) == 0
}

// EOF tells the session that the client will send no more. The commands that came before are
// still executed and answered, as by Redis, which executes commands as soon as it reads them.
// A client inside a blocking command or WAIT is closed.
func (w *Worker) EOF(s *Session) {
	if s.Waits() {
		s.Kill()
		return
	}
	s.Set(eof)
	s.touch()
}

// Waits reports whether the client is inside a blocking command or WAIT.
func (s *Session) Waits() bool {
	r := s.line.head
	if r == nil || r.Command == nil || !s.Has(Blocked) || s.Inflight == 0 || !r.Command.Has(command.Blocking) {
		return false
	}
	return r.Command.Handling == command.Local || r.Call.lane == exclusiveLane
}

// IsBetweenCommands reports whether the client has the replies to everything that it has sent
// and keyway has read, but for output that waits to be written.
func IsBetweenCommands(s *Session) bool {
	return s.line.head == nil && s.Inflight == 0 && len(s.In) == 0 && s.Confirming == 0 &&
		s.State&(stopped|resuming|eof) == 0
}

// IsAnswered reports whether the client has all replies to the commands that have begun.
func IsAnswered(s *Session) bool { return s.line.head == nil && s.Unsent.Size() == 0 }

// Activity is what a client is in the middle of, besides commands that end by themselves.
type Activity uint8

const (
	Ordinary      Activity = iota // nothing
	InTransaction                 // it has sent WATCH or MULTI
	Waiting                       // it is inside a blocking command or WAIT
	Listening                     // it gets messages: it has subscriptions, or has sent MONITOR
)

// ActivityOf returns what a client is in the middle of.
func ActivityOf(s *Session) Activity {
	switch {
	case s.Block != nil:
		return InTransaction
	case s.Waits():
		return Waiting
	case s.Has(Subscribed | Monitoring):
		return Listening
	}
	return Ordinary
}

// ID returns the client's id, as CLIENT ID does.
func (s *Session) ID() uint64 { return s.id }

// touch puts a session on the list that EndTurn gives to the shell.
func (s *Session) touch() {
	if !s.Has(dirty) {
		s.Set(dirty)
		s.Worker.dirty = append(s.Worker.dirty, s)
	}
}

// Wake resumes the session before the turn ends, if the reason for its stop is gone.
func (s *Session) Wake() {
	if !s.Has(resuming | Dead) {
		s.Set(resuming)
		s.Worker.Inputs.woken = append(s.Worker.Inputs.woken, s)
	}
}

// Kill closes a session at once.
func (s *Session) Kill() {
	s.Set(Dead)
	s.touch()
}

// CloseAfter closes a session once the client has read all its replies.
func (s *Session) CloseAfter() {
	s.Set(Closing)
	s.touch()
}

// Received handles bytes that the client sent. It copies what it has to keep of b.
func (w *Worker) Received(s *Session, b []byte) {
	w.Stats.BytesIn += uint64(len(b))
	s.BytesIn += uint64(len(b))
	s.ActiveAt = w.Now
	if s.Has(Closing | Dead) {
		return
	}
	if len(b) > 1 && b[0] != '*' && !speaksRedis(s, b) {
		return
	}
	if len(s.In) == 0 {
		n := w.Inputs.consume(s, b)
		w.Inputs.keep(s, b[n:])
		return
	}
	w.Inputs.keep(s, b)
	if s.State&stopped == 0 {
		w.Inputs.consumeKept(s)
	}
}

// keep appends input that cannot be dispatched yet. An incomplete command takes at most twice
// the memory of its bytes received so far, whatever lengths its headers announce.
func (in *inputs) keep(s *Session, b []byte) {
	w := in.w
	if len(b) == 0 {
		return
	}
	if s.In == nil {
		s.In = w.Buffers.GetInput(len(b))
	}
	if need := len(s.In) + len(b); need > cap(s.In) {
		room := 2 * need
		if s.partial != nil {
			if promised := s.partial.Need(); promised >= need && promised < room {
				room = promised
			}
		}
		bigger := make([]byte, len(s.In), room)
		copy(bigger, s.In)
		w.Buffers.Put(s.In)
		s.In = bigger
	}
	s.In = append(s.In, b...)
	w.GrownBy += len(b)
	if len(s.In) >= buffer.Chunk && !s.Reading() {
		s.touch() // the shell stops to read; nothing else may happen to the session for a long time
	}
}

// resume resumes a stopped session, if the reason for the stop is gone.
func (in *inputs) resume(s *Session) {
	if s.Has(Dead) {
		return
	}
	if s.Has(Draining) && s.Inflight == 0 {
		s.Clear(Draining | Blocked)
	}
	if s.Has(full) && s.line.n <= maxLine/2 && s.Unsent.Size() < softOutput/4 {
		s.Clear(full)
	}
	s.Clear(Stalled)
	if s.State&stopped == 0 && len(s.In) > 0 {
		in.consumeKept(s)
	}
	s.touch()
}

// consumeKept dispatches the commands in s.In.
func (in *inputs) consumeKept(s *Session) {
	n := in.consume(s, s.In)
	rest := s.In[n:]
	switch {
	case s.Has(handedOver):
		// A connection owns the buffer now, so the remaining input is copied.
		s.Clear(handedOver)
		s.In = nil
		in.keep(s, rest)
	case len(rest) == 0:
		in.w.Buffers.Put(s.In)
		s.In = nil
	case n > 0:
		s.In = s.In[:copy(s.In, rest)]
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
				in.PutParser(p)
			}
		}()
	}
	lim := &in.Limits
	if !s.Has(Authed) {
		lim = &in.unauth
	}
	for n < len(b) && s.State&stopped == 0 {
		if (s.epoch != w.epoch || s.redirecting > 0) && in.mustWait(s) {
			return n
		}
		length, st, err := p.Next(b[n:], lim)
		if err != nil {
			in.refuseInput(s, p, err)
			return len(b)
		}
		switch st {
		case resp.More:
			in.suspend(s, p, n > 0)
			return n
		case resp.Ready:
			share := s.Share
			if share != nil && !share.IsReady() {
				if how := w.Limiter.Admit(s, p); how == Waits {
					return n
				} else if how == Answered {
					break
				}
			}
			watcher := w.Observer
			w.Hidden, w.Whole = false, p
			if !w.dispatch(s, p) {
				return n
			}
			s.Commands++
			if share != nil {
				share.Spend(length)
			}
			if watcher != nil && in.shown(s) {
				watcher.Show(s, s.LastCmd, w.Whole)
			}
			if s.Has(Tracks) {
				s.OwnConns.AfterCommand(s)
			}
			if s.Has(Authed) {
				lim = &in.Limits
			}
		}
		n += length
	}
	return n
}

// mustWait makes a client wait whose earlier command may still be in flight to the former owner of
// its key: a later command must not overtake it. It returns false if there is no such command.
func (in *inputs) mustWait(s *Session) bool {
	if s.Inflight > 0 {
		in.w.Stats.Waited++
		s.Set(Draining)
		return true
	}
	s.epoch = in.w.epoch
	return false
}

// refuseInput closes a client that breaks the protocol, once it has read the error.
func (in *inputs) refuseInput(s *Session, p *resp.Parser, err error) {
	w := in.w
	w.Stats.ProtocolErrors++
	w.LogRefusal(s, protocolError(err))
	s.Answer(nil, resp.AppendError(w.Scratch[:0], protocolError(err)))
	s.CloseAfter()
	p.Reset()
}

// shown reports whether the observer sees the command that was just dispatched. It does not
// see a command that keyway refused. It sees a queued command only when EXEC executes it.
func (in *inputs) shown(s *Session) bool {
	switch cmd := s.LastCmd; {
	case in.w.Hidden:
		return false
	case !s.Has(InMulti):
		return true
	default:
		return cmd != nil && cmd.InMulti == command.ActsAtOnce
	}
}

func protocolError(err error) string { return "ERR " + err.Error() }

// suspend keeps the parser of an incomplete command for the client's next input. begun says
// that the command has only just begun.
func (in *inputs) suspend(s *Session, p *resp.Parser, begun bool) {
	s.partial = p
	if p == in.parser {
		in.parser = in.GetParser()
		begun = true
	}
	if begun {
		s.partialAt = in.w.Now
	}
}

// GetParser returns an unused parser; PutParser takes it back.
func (in *inputs) GetParser() *resp.Parser {
	if n := len(in.unused); n > 0 {
		p := in.unused[n-1]
		in.unused = in.unused[:n-1]
		return p
	}
	return new(resp.Parser)
}

func (in *inputs) PutParser(p *resp.Parser) {
	p.Reset()
	if len(in.unused) < 64 {
		in.unused = append(in.unused, p)
	}
}

func (in *inputs) dropPartial(s *Session) {
	if s.partial != nil {
		in.PutParser(s.partial)
		s.partial = nil
	}
}

// UseDB makes the client's later commands use the database.
func UseDB(w *Worker, s *Session, db uint16) {
	if s.DB != db {
		s.DB = db
		RenewConns(w, s)
		s.ForgetCached()
	}
}

// Each calls f with every open session. f may end the session that it gets.
func (w *Worker) Each(f func(*Session)) {
	for i := len(w.Sessions) - 1; i >= 0; i-- {
		f(w.Sessions[i])
	}
}

// tlsHandshake is the first byte that a TLS client sends (RFC 8446, section 5.1). No Redis
// command begins with it.
const tlsHandshake = 0x16

// The beginnings of the header of the PROXY protocol, versions 1 and 2.
var proxyHeaders = [][]byte{
	[]byte("PROXY TCP"), []byte("PROXY UNKNOWN"), []byte("\r\n\r\n\x00\r\nQUIT\n"),
}

// speaksRedis reports whether b, which has at least two bytes, may be commands. If it is the
// first input of a connection and begins another protocol, speaksRedis refuses the client.
func speaksRedis(s *Session, b []byte) bool {
	w := s.Worker
	switch {
	case s.LastCmd != nil || s.partial != nil || s.line.head != nil || len(s.In) > 0 || s.Commands > 0:
	case b[0] == tlsHandshake && b[1] == 3: // a major version of TLS
		w.Stats.ClosedTLS++
		refuse(s, "speaks TLS, and this port does not", "ERR keyway: this port does not speak TLS")
		return false
	case b[0] == 'P' || b[0] == '\r':
		for _, h := range proxyHeaders {
			if bytes.HasPrefix(b, h) {
				w.Stats.ClosedHeader++
				refuse(s, "sends a PROXY protocol header, and this port does not expect one",
					"ERR keyway: this port does not expect the PROXY protocol; see proxy_protocol under listen")
				return false
			}
		}
	}
	return true
}

// refuse closes a client once it has read the error.
func refuse(s *Session, reason, text string) {
	s.Worker.LogRefusal(s, reason)
	s.AnswerError(nil, text)
	s.CloseAfter()
}

// Peer returns the client's address for logs.
func (s *Session) Peer() string { return s.peer }

// Protocol returns the version of the protocol that the client speaks.
func (s *Session) Protocol() resp.Version {
	if s.Has(RESP3) {
		return resp.V3
	}
	return resp.V2
}
