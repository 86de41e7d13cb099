package engine

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slowlog"
)

const (
	// softOutput is the number of unread bytes above which a client's input is not read.
	softOutput = 1 << 20
	// maxLine is the number of requests without a reply at which a client's input is not
	// read.
	maxLine = 4096
	// maxSubscriber is the number of unread bytes at which a client with subscriptions is
	// closed (client-output-buffer-limit pubsub).
	maxSubscriber = 32 << 20
	// maxUnauthOutput is the number of bytes that a client may leave unread before it
	// has authenticated (CVE-2025-21605).
	maxUnauthOutput = 16 << 10

	authTimeout = int64(10 * time.Second) // for authentication
	// readTimeout is the time for sending one whole command. A client gets one second more
	// for each minUpload bytes that it has sent.
	readTimeout = int64(30 * time.Second)
	minUpload   = 4 << 10

	Tick      = int64(10 * time.Millisecond) // between two ticks while anything is in flight or waits
	sweepTick = int64(time.Second)           // between two checks of all clients
)

// Lookers returns how many threads of all keyways ask the same nodes about themselves, as far as known.
func Lookers(w *Worker) int { return max(w.Keyways, 1) * w.Options.Workers }

// Worker is everything that one thread knows: its sessions, its nodes and its connections.
type Worker struct {
	Options options.Worker
	Keyways int // that serve the same nodes, this one included; 0: not known
	Ready   Ready
	Stats   metrics.Stats
	turn
	clientSet
	memory
	scratchpad

	Inputs  inputs
	Learned learnedCommands
	Scripts scripts
	splitting
	slowReaders slowReaders

	routing
	retries      retries
	Reads        reads
	largeValues  largeValues
	Server       software
	LinksToClose []*pool.Link // connections to close, of any kind

	Siblings siblings
	assembled
	SlowLog  slowlog.Log
	journeys journeys
}

// turn is what belongs to the current turn, and the time of the last sweep.
type turn struct {
	Clock func() int64 // reads the clock that Now is from; nil: Now is exact
	// WriteNow writes to a client's socket what it accepts at once, and returns how many bytes these are.
	// It has no other effect. nil: the shell writes only Output.
	WriteNow func(s *Session, b []byte) int
	// Enlarge copies b to a buffer with so much room while the worker goes on, and then calls done with it in the
	// loop, or never if the loop has ended. Only the room behind b may change meanwhile. nil: the worker copies by
	// itself.
	Enlarge   func(b []byte, room int, done func(bigger []byte))
	Now       int64
	Wall      time.Time
	opening   int // connections that were made in this turn: the shell opens them at its end
	lastSweep int64
}

// clientSet is a worker's sessions, and those of them that something must be done for.
type clientSet struct {
	Sessions []*Session
	ByID     map[uint64]*Session // those that Find has found: few clients refer to others by their ids
	lastID   uint64
	dirty    []*Session                    // sessions for Ready.Sessions
	stalled  []*Session                    // sessions that wait until a connection has room
	tallies  map[string]*metrics.UserStats // by the user's name, or metrics.OtherUsers
	callers  map[int]metrics.Caller        // by the command's ID
}

// scratchpad is what every command reuses.
type scratchpad struct {
	Keys    []int  // the positions of the current command's keys
	Scratch []byte // for replies that keyway makes
	Frame   []byte // for commands that keyway makes
	Checks  acl.Scratch
	Names   names.Scratch
}

// Ready is the work for the shell after a turn. Its slices are valid until the next call of
// EndTurn.
type Ready struct {
	// Links come first. The shell writes NextWrite to each and does its Duty. So it writes
	// requests once per turn, however many clients have sent some.
	Links []*pool.Link
	// Sessions come next. The shell writes Output to each, closes those that ShouldClose,
	// and reads only from those that are Reading.
	Sessions []*Session

	Refresh  bool          // the topology should be fetched again
	Look     int64         // not 0: the shell fetches the topology, and then calls Looked with this time
	Asks     []Ask         // each sibling executes Do, and each answer goes to Answered
	Users    []UsersTask   // the shell does each and calls Done
	Notes    []string      // for the log: events that an operator should know
	Events   []Event       // for the log: rare ones, of which none is left out
	Refusals []Refusal     // for the log: refused requests and closed clients
	Alarms   []locks.Alarm // for the log: locks that are broken
	Limited  []Limitation  // for the log: users whose clients begin to wait
	Deeds    []Deed        // for the record of what operators did
	Followed journey.Batch // for traces and the access log
	Garbage  int           // bytes of large buffers that the worker no longer uses
}

// Event is a line for the log.
type Event struct {
	IsBad  bool // it is a warning
	Text   string
	Fields []any // keys and values, as of log/slog
	// Seldom, if not empty, names what several threads may report, and report again: it is logged once an hour.
	Seldom string
}

// Deed is a command by which a client has acted as an operator.
type Deed struct {
	Command string // without what may be secret
	Result  string
	Client  string // its address
	User    string
	IsWrite bool // a program may send many of them
}

// RecordDeed records a command of an operator. shown is what may be shown of its arguments.
func RecordDeed(s *Session, cmd *command.Command, shown, result string) {
	d := Deed{Command: cmd.Upper(), Result: result, Client: s.peer, User: s.User.Name, IsWrite: !cmd.Has(command.Admin)}
	if shown != "" {
		d.Command += " " + shown
	}
	r := &s.Worker.Ready
	r.Deeds = append(r.Deeds, d)
}

// HashSeed is secret, so that clients cannot choose keys that collide. All workers share it,
// so that two runs of one simulation in a process have the same collisions.
var HashSeed = maphash.MakeSeed()

// New returns a worker that routes by table, and consists of parts.
func New(o options.Worker, table *router.Table, parts *Parts) *Worker {
	o = o.WithDefaults()
	w := &Worker{Options: o, assembled: assembled{Parts: parts}}
	w.Now = o.Now
	w.ByID, w.Scratch = map[uint64]*Session{}, make([]byte, 0, 4<<10)
	w.Stats = metrics.NewStats(command.Count)
	w.journeys = newJourneys(w)
	w.SlowLog = slowlog.New(o.SlowerThan, o.SlowEntries, o.Index, o.Workers)
	w.Inputs = inputs{w: w, parser: new(resp.Parser)}
	w.Learned = learnedCommands{w: w, names: map[string]*command.Command{}}
	w.Scripts = scripts{
		w: w, Cache: lua.NewCache(o.PerKey), keyless: []byte(o.Keyless),
		lookups: map[lookup][]func([]byte, bool){},
	}
	w.Mergers, w.slowReaders = mergers{w: w}, slowReaders{w: w}
	w.routing = routing{
		w: w, byName: map[string]*Node{},
		Links: pool.NewSet(o.Backend, rand.New(rand.NewPCG(o.Seed, uint64(o.Index)))),
	}
	w.retries = retries{w: w, lostWrites: map[lostKey]struct{}{}}
	w.Reads = reads{w: w, Replicas: freshness.NewReplicas(o.MaxLag), inUse: o.UsesReplicas()}
	w.largeValues = largeValues{w: w}
	w.Server = software{w: w, Software: info.Unknown}
	w.Siblings = siblings{w: w, questions: map[uint64]*question{}}
	setLimits(w)
	for _, f := range parts.features {
		w.Features = append(w.Features, f(w)...)
	}
	w.SetTable(table)
	return w
}

// Turn begins a turn: everything until EndTurn happens at this time. now is monotonic, in
// nanoseconds from any origin. wall is the wall clock, for logs and INFO.
func (w *Worker) Turn(now int64, wall time.Time) { w.Now, w.Wall, w.opening = now, wall, 0 }

// ExactNow reads the clock. Now is the time at which the turn began, and a turn takes long if
// clients have sent much.
func (t *turn) ExactNow() int64 {
	if t.Clock == nil {
		return t.Now
	}
	return t.Clock()
}

// NextTick returns the time at which the shell should call Tick, if nothing happens before. planned is the
// time at which the shell calls it in any case.
func (w *Worker) NextTick(planned int64) int64 {
	next := min(planned, w.lastSweep+sweepTick)
	if w.Reads.inUse {
		next = min(next, w.Reads.Replicas.Next())
	}
	if w.Limiter != nil {
		next = min(next, w.Limiter.Due())
	}
	for _, f := range w.Features {
		next = min(next, f.Due())
	}
	// There may be hundreds of nodes. While some owe replies, a tick is always due soon, so that nearly
	// no turn has to look at them.
	if soon := w.Now + Tick; next > soon && w.waitsForSomething() {
		next = soon
	}
	return next
}

// waitsForSomething reports whether anything is in flight or waits for a time to pass.
func (w *Worker) waitsForSomething() bool {
	if len(w.retries.sessions) > 0 || len(w.stalled) > 0 || len(w.LinksToClose) > 0 ||
		len(w.slowReaders.sessions) > 0 || len(w.leaving) > 0 {
		return true
	}
	for _, n := range w.Nodes {
		for _, c := range n.Shared.Conns {
			if c.Busy() && (c.State() != pool.Idle || c.Stats.Losses > 0) {
				return true
			}
		}
		if n.exclusive > 0 || len(n.Shared.Retired) > 0 {
			return true
		}
	}
	return false
}

// Tick handles everything that time causes: deadlines, retries, checks of replicas, and
// clients that have been silent for too long.
func (w *Worker) Tick() {
	for _, n := range w.Nodes {
		n.tickShared()
		w.tickExclusive(n)
	}
	w.tickLeaving()
	w.closeLinks()
	w.Reads.tick()
	w.Server.ask()
	for _, f := range w.Features {
		f.Tick()
	}
	w.retries.tick()
	w.slowReaders.tick()
	for _, s := range w.stalled {
		s.Wake()
	}
	w.stalled = w.stalled[:0]
	if w.Now-w.lastSweep >= sweepTick {
		w.lastSweep = w.Now
		w.sweep()
	}
}

// sweep does what is enough once in sweepTick: it frees memory and closes clients that have
// been silent for too long, and connections of users that have no clients.
func (w *Worker) sweep() {
	w.trim()
	for _, n := range w.Nodes {
		n.exclusives.sweep(w)
	}
	w.closeUnusedLogins()
	for _, f := range w.Features {
		f.Sweep()
	}
	closeIdleClients(w)
}

// EndTurn ends a turn, and returns the work for the shell.
func (w *Worker) EndTurn() *Ready {
	if w.moved {
		w.ownersChanged(true)
	}
	w.Inputs.resumeWoken()
	if w.Limiter != nil {
		for w.Limiter.Serve() {
			w.Inputs.resumeWoken()
		}
		w.Limiter.Settle()
	}
	if len(w.retries.lostWrites) > 0 {
		clear(w.retries.lostWrites)
	}
	for _, f := range w.Features {
		f.EndTurn()
	}
	r := &w.Ready
	r.Garbage += w.Links.TakeGarbage() + w.Buffers.TakeGarbage()
	r.Links = w.Links.Take(r.Links[:0])
	r.Sessions = append(r.Sessions[:0], w.dirty...)
	for i, s := range w.dirty {
		s.Clear(dirty)
		w.dirty[i] = nil
	}
	w.dirty = w.dirty[:0]
	return r
}

// Taken tells the worker that the shell has handled Refresh, Look, Asks, Users, Notes,
// Events, Refusals, Alarms, Limited, Deeds, Followed and Garbage of Ready.
func (w *Worker) Taken() {
	r := &w.Ready
	r.Refresh, r.Look, r.Garbage = false, 0, 0
	clear(r.Asks)
	clear(r.Users)
	r.Users = r.Users[:0]
	r.Asks, r.Notes, r.Refusals, r.Alarms = r.Asks[:0], r.Notes[:0], r.Refusals[:0], r.Alarms[:0]
	r.Limited, r.Events = r.Limited[:0], r.Events[:0]
	r.Deeds = r.Deeds[:0]
	r.Followed.Reset()
}

// Clients returns the number of open sessions.
func (w *Worker) Clients() int { return len(w.Sessions) }

// Shut closes all connections to the nodes.
func (w *Worker) Shut() {
	for _, n := range w.Nodes {
		n.close(w.Now, "keyway is stopping")
	}
	for _, n := range w.leaving {
		n.close(w.Now, "keyway is stopping")
	}
	for _, f := range w.Features {
		f.Shut()
	}
	w.closeLinks()
}

// HasLostMaster reports whether a master that had a ready connection has none now.
func (w *Worker) HasLostMaster() bool {
	return slices.ContainsFunc(w.Masters, func(n *Node) bool { return !n.Shared.IsUp() && n.Shared.WasUp() })
}

// Deadline returns the deadline of a request that is sent now.
func (w *Worker) Deadline() int64 { return w.Now + int64(w.Options.Backend.RequestTimeout) }

// closeLinks closes the connections in w.LinksToClose.
func (w *Worker) closeLinks() {
	for len(w.LinksToClose) > 0 {
		c := w.LinksToClose[len(w.LinksToClose)-1]
		w.LinksToClose = w.LinksToClose[:len(w.LinksToClose)-1]
		c.Close(w.Now, "no longer needed")
	}
}

// Refusal is a log entry: keyway refused a client's request or closed the client.
type Refusal struct {
	Reason string // one of a few texts, because the log is rate-limited by reason
	Client string // the client's address
	User   string // the name of the user that the client is or wants to be; empty: no matter
}

// Limitation is a log entry: the clients of a user have begun to wait.
type Limitation struct {
	User   string
	Limit  string // the key of the limit
	Client string // the address of the first one that waits
}

// maxRefusals bounds the refusals that one turn logs.
const maxRefusals = 16

// LogRefusal asks the shell to log a refusal.
func (w *Worker) LogRefusal(s *Session, reason string) { LogUserRefusal(w, s, reason, "") }

// maxLoggedUser bounds what the log shows of the name of a user, which a client may choose.
const maxLoggedUser = 64

// LogUserRefusal is LogRefusal for a refusal that concerns a user.
func LogUserRefusal(w *Worker, s *Session, reason, user string) {
	if len(w.Ready.Refusals) < maxRefusals {
		user = user[:min(len(user), maxLoggedUser)]
		w.Ready.Refusals = append(w.Ready.Refusals, Refusal{Reason: reason, Client: s.peer, User: user})
	}
}

// Snapshot returns a copy of the worker's metrics.
func (w *Worker) Snapshot() metrics.Snapshot {
	s := metrics.Snapshot{
		Counters: w.Stats.Clone(), SwitchCounters: w.Stats.Switch, Gauges: w.gauges(),
		Families: w.Stats.Families(command.FamilyOf), Commands: w.Stats.Latencies(),
		Layout: w.Table.Name, Epoch: w.epoch, Covered: w.covered(),
	}
	for i, n := range w.Nodes {
		s.Nodes = append(s.Nodes, n.snapshot(w.Table.Nodes[i].Master))
	}
	if w.Gate != nil {
		s.Paused = w.Gate.Left()
	}
	if w.Outside != nil {
		w.Outside.Count(&s)
	}
	CountUsers(w, &s)
	for _, c := range w.callers {
		s.Callers = append(s.Callers, c)
	}
	return s
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (w *Worker) gauges() metrics.Gauges {
	g := metrics.Gauges{Clients: len(w.Sessions)}
	if w.Near != nil {
		g.NearValues, g.NearBytes = w.Near.Size()
	}
	for _, s := range w.Sessions {
		g.OutputBytes += s.Unsent.Size() + s.Parked
		g.Blocked += oneIf(s.Waits())
		g.Subscribed += oneIf(s.Has(Subscribed))
		g.Tracking += oneIf(s.Has(Tracks))
		g.Watching += oneIf(s.Block != nil && s.Block.Watches)
		switch ActivityOf(s) {
		case InTransaction:
			g.InTransaction++
		case Waiting:
			g.Waiting++
		case Listening:
			g.Listening++
		default:
			g.Ordinary++
		}
	}
	return g
}

// siblings is how a worker talks to the workers of the other threads.
type siblings struct {
	w         *Worker
	questions map[uint64]*question // by token
	token     uint64               // of the last question
}

// Ask is a message to the siblings: each executes Do on its own thread; see Ready.
type Ask struct {
	Token uint64 // passed to Answered with each answer; 0: no answers are wanted
	Only  int    // the one worker, by its index plus 1, which may be this one in a later turn; 0: all siblings
	Do    func(sibling *Worker) (answer any)
}

// question is an Ask whose answers have not all come.
type question struct {
	left    int // siblings that have not answered
	answers []any
	done    func(answers []any)
}

// AskAll executes do on every worker, at once on this one, and answers the client with the
// reply that conclude makes from the answers. do runs on other threads, so it must not use
// this worker's data, and its answer must not refer to the other worker's data.
func (sb *siblings) AskAll(
	s *Session, cmd *command.Command, do func(*Worker) any, conclude func(answers []any) []byte,
) bool {
	r := s.NewRequest(cmd)
	r.Call.Node, r.Call.Group = &Node{Worker: sb.w}, -1
	s.Inflight++
	sb.Ask(do, func(answers []any) { r.Call.SettleFor(conclude(answers)) })
	return true
}

// HaveAll executes do on every worker, at once on this one, and answers OK when all have
// executed it. So commands that any client of any worker sends after the OK see the effect.
func (sb *siblings) HaveAll(s *Session, cmd *command.Command, do func(*Worker)) bool {
	return sb.AskAll(s, cmd, func(o *Worker) any {
		do(o)
		return nil
	}, func([]any) []byte { return resp.AppendOK(nil) })
}

// Ask executes do on every worker, at once on this one, and calls done with the
// answers when all have come.
func (sb *siblings) Ask(do func(*Worker) any, done func(answers []any)) {
	w := sb.w
	q := &question{left: w.Options.Workers - 1, answers: []any{do(w)}, done: done}
	if q.left == 0 {
		done(q.answers)
		return
	}
	sb.token++
	sb.questions[sb.token] = q
	w.Ready.Asks = append(w.Ready.Asks, Ask{Token: sb.token, Do: do})
}

// Tell executes do on the other workers.
func (sb *siblings) Tell(do func(*Worker)) {
	w := sb.w
	if w.Options.Workers > 1 {
		w.Ready.Asks = append(w.Ready.Asks, Ask{Do: func(sibling *Worker) any {
			do(sibling)
			return nil
		}})
	}
}

// TellOne executes do on the worker of this index: on this one in a later turn.
func (sb *siblings) TellOne(index int, do func(*Worker)) {
	w := sb.w
	w.Ready.Asks = append(w.Ready.Asks, Ask{Only: index + 1, Do: func(sibling *Worker) any {
		do(sibling)
		return nil
	}})
}

// Answered delivers one sibling's answer to an Ask.
func (w *Worker) Answered(token uint64, answer any) {
	q := w.Siblings.questions[token]
	if q == nil {
		return
	}
	q.answers = append(q.answers, answer)
	if q.left--; q.left == 0 {
		delete(w.Siblings.questions, token)
		q.done(q.answers)
	}
}

// thenAll settles the request's last call once every node has answered: with the first
// error, or with OK after all workers have applied change.
func (sb *siblings) thenAll(r *Request, change func(*Worker)) {
	m := r.Merge
	last := m.Call(r, len(m.Replies)-1)
	last.Node, last.Group = &Node{Worker: sb.w}, -1
	r.Session.Inflight++
	m.then = func() {
		for _, p := range m.Replies[:len(m.Replies)-1] {
			if len(p) > 0 && p[0] == '-' {
				last.SettleFor(bytes.Clone(p))
				return
			}
		}
		sb.Ask(func(o *Worker) any {
			change(o)
			return nil
		}, func([]any) { last.SettleFor(resp.AppendOK(nil)) })
	}
}

// PieceSize is how many clients a thread looks at in one turn, if a command is about all of them. There may be 50,000:
// all of them would make the other clients wait for a tenth of a second.
const PieceSize = 256

// AskOfEach calls do for every client of every worker, in pieces, each in a turn of its own, and then answers the
// client with the reply that conclude makes from what do has appended, worker by worker. Clients that come meanwhile
// are left out. do runs on other threads, so it must not use this worker's data.
func (sb *siblings) AskOfEach(
	s *Session, cmd *command.Command, do func(of *Session, to []byte) []byte, conclude func(answers [][]byte) []byte,
) bool {
	w := sb.w
	r := s.NewRequest(cmd)
	r.Call.Node, r.Call.Group = &Node{Worker: w}, -1
	s.Inflight++
	var answers [][]byte
	deliver := func(answer []byte) {
		if answers = append(answers, answer); len(answers) == w.Options.Workers {
			r.Call.SettleFor(conclude(answers))
		}
	}
	begin := func(o *Worker) {
		p := pieces{sessions: slices.Clone(o.Sessions), do: do}
		p.done = func(answer []byte) {
			if o == w {
				deliver(answer)
			} else {
				o.Siblings.TellOne(w.Options.Index, func(*Worker) { deliver(answer) })
			}
		}
		p.next(o)
	}
	begin(w)
	sb.Tell(begin)
	return true
}

// pieces are the clients of a worker that AskOfEach has not come to yet.
type pieces struct {
	sessions []*Session
	do       func(of *Session, to []byte) []byte
	answer   []byte
	done     func(answer []byte)
}

// next goes on with the next piece, and makes the worker's thread go on in a later turn if that is not the last one.
func (p *pieces) next(o *Worker) {
	n := min(len(p.sessions), PieceSize)
	for _, s := range p.sessions[:n] {
		if !s.HasLeft() {
			p.answer = p.do(s, p.answer)
		}
	}
	if p.sessions = p.sessions[n:]; len(p.sessions) == 0 {
		p.done(p.answer)
		return
	}
	o.Siblings.TellOne(o.Options.Index, p.next)
}

// SumCounts adds up the counts in the workers' answers.
func SumCounts(counts []any) (n int) {
	for _, c := range counts {
		n += c.(int)
	}
	return n
}

// Configure replaces the worker's options, within a turn. These stay as they are:
// Index, Workers, Seed and OfNodes. Clients stay open, except those of a user who is gone. A client
// that has authenticated stays so, and a connection to a node keeps the user that it has; a new
// password is for those that come later, and for open ones if it is renewed from time to time.
// Connections that are no longer needed are closed when their replies have come.
func Configure(w *Worker, o options.Worker) {
	before := w.Options
	o.Index, o.Workers, o.Seed, o.OfNodes = before.Index, before.Workers, before.Seed, before.OfNodes
	w.Options = o.WithDefaults()
	w.routing.Links.Configure(w.Options.Backend)
	otherEpoch := w.Options.Backend.Epoch != before.Backend.Epoch
	setLimits(w)
	useUsers(w, nil)
	w.Scripts.keyless = []byte(o.Keyless)
	w.Scripts.Cache.SetPerKey(o.PerKey)
	w.Reads.configure()
	w.journeys.configure(before.Journeys)
	if w.Options.SlowerThan != before.SlowerThan || w.Options.SlowEntries != before.SlowEntries {
		w.SlowLog.Configure(w.Options.SlowerThan, w.Options.SlowEntries) // otherwise CONFIG SET's settings stay
	}
	for _, n := range w.routing.Nodes {
		for _, c := range n.Shared.Conns {
			c.CheckEvery = w.Options.CheckEvery
		}
		user := n.account.Username
		changed := useAccount(n)
		if changed || otherEpoch {
			retryRefused(n)
		}
		if changed && n.account.Renewed && n.account.Username == user {
			logInAgain(n)
		}
	}
	w.routing.reshape(before)
	for _, f := range w.Features {
		f.Configured()
	}
}

// setLimits sets what is derived from the options' limits and times.
func setLimits(w *Worker) {
	w.Inputs.Limits, w.Inputs.unauth = w.Options.Limits, w.Options.Limits.UnauthenticatedLimits()
	w.retries.failover = int64(w.Options.Hold)
	w.retries.maxPause = int64(max(w.Options.Hold, w.Options.Backend.RequestTimeout))
}
