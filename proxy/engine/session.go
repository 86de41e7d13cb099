package engine

import (
	"time"

	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transaction"
)

// Session is one client. An idle session has no buffer, and shares what most clients need only while a command is
// under way. Its size is that of a size class of Go's allocator.
type Session struct {
	Bind any // the shell's own data for the client; this package does not use it

	Worker *Worker
	id     uint64
	index  int32 // in w.Sessions; -1: the client has left
	// redirecting counts calls in flight that are sent again.
	redirecting int32
	Inflight    int32 // calls that are not finished
	State       State
	aim
	identity

	*input
	line   line
	Unsent buffer.Output
	Parked int // bytes of replies that wait for earlier ones

	epoch   uint64          // the worker's epoch when last no call was in flight
	seq     uint64          // the number of the next request
	WroteTo freshness.Nodes // nodes with writes of the client that no WAIT has confirmed

	OpenedAt, ActiveAt int64 // time of connecting; time of the last traffic
	LastCmd            *command.Command
	traffic
	peer, Local string         // the socket's addresses, for logs and CLIENT LIST
	About       *clients.About // shared until the client announces something
	*RareState
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

	// A large reply that the client does not read fast enough (see slow.go):
	pausedConn         *pool.Conn // the connection that keyway does not read until the client has caught up
	resumeAt           int        // keyway reads it again when less than this is unread, in bytes
	nearlyFull         bool       // the unread bytes are close to the client's limit
	delayedAt          int64      // when delayed was last updated
	delayed            int64      // how long other clients have waited for this one, during one reply
	delayedBy          uint64     // the seq of that reply's request
	lastProgress       int64      // when the client last had read keepsUp bytes, while pausedConn is set
	bytesSinceProgress int        // bytes that it has read since then

	perFeature []any              // one value for each perClient
	Block      *transaction.Block // of the transaction, from WATCH or MULTI to EXEC
	Topics     topicSet           // nil: it has never had a subscription
	OwnConns   ownConns           // set if the client has the state Tracks
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
	noInput     = new(input)
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
	enlarging                       // the shell copies its input to a larger buffer
)

// Has reports whether the session is in any of the states; Set and Clear change them.
func (s *Session) Has(f State) bool { return s.State&f != 0 }
func (s *Session) Set(f State)      { s.State |= f }
func (s *Session) Clear(f State)    { s.State &^= f }

// stopped are the states in which the client's next command is not dispatched.
const stopped = Closing | Dead | Draining | Blocked | full | Stalled | Limited | heldBack | enlarging

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
		index:    int32(len(w.Sessions)),
		OpenedAt: w.Now, ActiveAt: w.Now,
		epoch: w.epoch,
		peer:  peer, Local: local, About: Anonymous, RareState: NoRareState, input: noInput,
	}
	w.Sessions = append(w.Sessions, s)
	return s
}

// Find returns the session with an id, or nil, and puts it into ByID. It looks at all sessions that are not there.
func Find(w *Worker, id uint64) *Session {
	if s := w.ByID[id]; s != nil {
		return s
	}
	for _, s := range w.Sessions {
		if s.id == id {
			w.ByID[id] = s
			return s
		}
	}
	return nil
}

// TakeOver starts a session of a client that another process has served, under the id that it has
// there. The worker's later sessions get higher ids. The caller sets what the client had set.
func TakeOver(w *Worker, bind any, id uint64, peer, local string) *Session {
	LaterIDs(w, id)
	if n := len(w.Sessions); n > 0 && w.Sessions[n-1].Local == local {
		local = w.Sessions[n-1].Local // the text in memory that other clients of the listener have too
	}
	s := open(w, bind, id, peer, local)
	s.seq = 1 // it may have sent commands
	for _, n := range w.Nodes {
		s.WroteTo.Add(n.Ordinal)
	}
	if w.Near != nil {
		w.Near.Fence(s)
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
	leaveTally(s)
	s.index = -1
	s.Login.Leave(w.Now)
	s.Set(Dead)
	if s.pausedConn != nil {
		w.slowReaders.resume(s)
	}
	for _, c := range s.Retry {
		abandon(c)
	}
	for r := s.line.head; r != nil; {
		next := r.next
		r.Session, r.next = nil, nil
		r.dropReplies(&w.Buffers) // a node may take long to answer the rest
		w.freeIfDone(r)
		r = next
	}
	s.line = line{}
	w.journeys.left(s)
	for _, f := range w.Features {
		f.Leave(s)
	}
	s.RareState, s.About = NoRareState, Anonymous
	s.Unsent.Clear(&w.Buffers)
	w.Inputs.drop(s)
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

// Peer returns the client's address for logs.
func (s *Session) Peer() string { return s.peer }

// Protocol returns the version of the protocol that the client speaks.
func (s *Session) Protocol() resp.Version {
	if s.Has(RESP3) {
		return resp.V3
	}
	return resp.V2
}

// output appends b to the session's output.
func (s *Session) output(b []byte) {
	s.Unsent.Append(&s.Worker.Buffers, b)
	s.Worker.GrownBy += len(b)
	s.touch()
	if s.Unsent.Size() > softOutput {
		s.Set(full)
	}
	s.bound()
}

const (
	// minDirect is the size from which the last reply that a client expects is written to its socket without
	// being copied into its output. For a smaller one, the copy costs less than a write for itself may.
	minDirect = 8 << 10
	// minDirectOfMany is minDirect for a client that expects more replies, which should leave in one write.
	minDirectOfMany = buffer.Chunk
)

// pass sends the client a piece of a reply. If it is large and nothing waits in front of it, the piece goes to the
// socket at once. So the bytes are still in the processor's cache, and only those that the socket does not
// accept are copied.
func pass(s *Session, b []byte, isLast bool) {
	if len(b) >= minDirect && (isLast || len(b) >= minDirectOfMany) && s.Unsent.Size() == 0 &&
		s.Worker.WriteNow != nil && !s.Has(Dead) {
		n := s.Worker.WriteNow(s, b)
		s.sent(n)
		if b = b[n:]; len(b) == 0 {
			s.touch()
			return
		}
	}
	s.output(b)
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
	if s.Unsent.Size()+s.Parked > limit && !s.Has(Dead) {
		s.closeSlow()
	}
}

func (s *Session) closeSlow() {
	s.Worker.Stats.ClosedSlow++
	s.Worker.LogRefusal(s, "does not read its replies")
	s.Kill()
}

// Output returns the bytes to write to the client now, empty if there are none. The shell
// then calls Wrote.
func (s *Session) Output() []byte { return s.Unsent.Next() }

// Expecting reports whether more replies will follow and little output waits. If so, the
// shell may delay writing while it has other work.
func (s *Session) Expecting() bool {
	return s.line.head != nil && s.Unsent.Size() < 4<<10 && s.State&(Closing|Dead|full|eof) == 0
}

// Pending returns the number of bytes that are not written to the client yet.
func (s *Session) Pending() int { return s.Unsent.Size() }

// Wrote tells the session that the socket has accepted n bytes of Output.
func (s *Session) Wrote(n int) {
	s.sent(n)
	s.Unsent.Wrote(&s.Worker.Buffers, n)
	if s.pausedConn != nil {
		if s.bytesSinceProgress += n; s.bytesSinceProgress >= keepsUp {
			s.lastProgress, s.bytesSinceProgress = s.Worker.Now, 0
		}
		if s.Unsent.Size() < s.resumeAt {
			s.Worker.slowReaders.resume(s)
		}
	}
	if s.Unsent.Size() == 0 {
		s.Clear(slow)
	}
	if s.Has(full) && s.Unsent.Size() < softOutput/4 {
		s.Wake()
	}
}

// sent counts n bytes that the socket has accepted.
func (s *Session) sent(n int) {
	s.Worker.Stats.BytesOut += uint64(n)
	s.BytesOut += uint64(n)
	if s.Share != nil && !s.Has(Subscribed|Monitoring) { // messages are the work of others
		s.Share.SpendBytes(n)
	}
	s.ActiveAt = s.Worker.Now // a client that reads its replies is not idle (networking.c, _writeToClient)
}

// ShouldClose reports whether the socket should be closed now.
func (s *Session) ShouldClose() bool {
	if s.Has(Dead) {
		return true
	}
	if s.line.head != nil || s.Unsent.Size() > 0 {
		return false
	}
	return s.Has(Closing) || s.Has(eof) && s.State&(Draining|Stalled|full|resuming|Blocked|Limited) == 0
}

// Dead reports whether the socket should be closed at once, with output left unwritten.
func (s *Session) Dead() bool { return s.Has(Dead) }

// closeIdleClients closes clients that do not authenticate, do not complete a command, or are
// idle for too long.
func closeIdleClients(w *Worker) {
	for _, s := range w.Sessions {
		switch {
		case s.Has(Closing | Dead):
		case !s.Has(Authed) && w.Now-s.OpenedAt > authTimeout:
			w.LogRefusal(s, "no password in time")
			s.Kill()
		case s.partial != nil && w.Now-s.partialAt > readTimeout+int64(len(s.In))*int64(time.Second)/minUpload:
			w.LogRefusal(s, "a command that did not arrive in time")
			s.Kill()
		case s.Has(Subscribed | Monitoring): // these clients send nothing
		case s.Has(Limited): // keyway does not let it
		case w.Options.IdleTimeout > 0 && s.line.head == nil && w.Now-s.ActiveAt > int64(w.Options.IdleTimeout):
			w.Stats.ClosedIdle++
			s.Kill()
		}
	}
}

// memory is what a worker stores for its clients, and what it keeps for reuse.
type memory struct {
	Buffers  buffer.Pool
	requests freeRequests
	GrownBy  int  // bytes added to clients' memory since the last call of Memory
	short    bool // memory is short: large commands are refused
}

// memory returns how many bytes the worker stores for the client: replies that the client
// has not read, and commands that cannot go on yet.
func (s *Session) memory() int {
	n := s.Unsent.Size() + s.Parked + cap(s.In)
	if s.Block != nil {
		n += cap(s.Block.Frames)
	}
	return n
}

// Memory is what a worker uses for its clients, in bytes.
type Memory struct {
	Clients int // freed if all clients are closed
	Largest int // the largest share of one client in Clients
	Queued  int // requests that nodes have not answered
}

// Grown returns how many bytes the worker has stored for clients since the last call of
// Memory. Package server calls Memory when this is large, since Memory visits every client.
func (w *Worker) Grown() int { return w.GrownBy }

// Memory adds up the memory that the worker uses for its clients.
func (w *Worker) Memory() (h Memory) {
	w.GrownBy = 0
	for _, s := range w.Sessions {
		if !s.Has(Dead) {
			n := s.memory()
			h.Clients += n
			h.Largest = max(h.Largest, n)
		}
	}
	for _, n := range w.Nodes {
		h.Queued += n.Retries.Memory()
		h.Queued += n.Shared.Memory()
		for i := range n.InUse {
			h.Queued += n.InUse[i].Conn.Memory()
		}
	}
	return h
}

// CloseLargest closes the client that takes the most memory.
func (w *Worker) CloseLargest() {
	var largest *Session
	for _, s := range w.Sessions {
		if !s.Has(Dead) && (largest == nil || s.memory() > largest.memory()) {
			largest = s
		}
	}
	if largest == nil {
		return
	}
	w.Stats.ClosedMemory++
	w.Ready.Notes = append(w.Ready.Notes,
		"closed the client that took most memory, since limits.memory is reached: "+largest.peer)
	largest.Kill()
}

// RefuseLarge makes the worker refuse large commands, or accept them again.
func (w *Worker) RefuseLarge(on bool) { w.short = on }

// tooLarge reports whether the command is refused because memory is short, and counts
// the refusal.
func (w *Worker) tooLarge(frame []byte) bool {
	if !w.short || len(frame) < bigFrame {
		return false
	}
	w.Stats.RefusedLarge++
	return true
}
