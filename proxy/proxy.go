package proxy

import (
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/dryrun"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/answers"
	"github.com/keyway-proxy/keyway/proxy/blocking"
	"github.com/keyway-proxy/keyway/proxy/drain"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/proxy/handover"
	"github.com/keyway-proxy/keyway/proxy/limiting"
	"github.com/keyway-proxy/keyway/proxy/near"
	"github.com/keyway-proxy/keyway/proxy/observe"
	"github.com/keyway-proxy/keyway/proxy/pubsub"
	"github.com/keyway-proxy/keyway/proxy/pull"
	"github.com/keyway-proxy/keyway/proxy/quorum"
	"github.com/keyway-proxy/keyway/proxy/tracking"
	"github.com/keyway-proxy/keyway/proxy/txn"
	"github.com/keyway-proxy/keyway/router"
)

// What a worker is made of besides the engine.
var parts = engine.Assemble(pubsub.Part, answers.Part, tracking.Part, blocking.Part, txn.Part,
	quorum.Part, observe.Part, drain.Part, limiting.Part, pull.Part, near.Part)

// New returns a worker that routes by table.
func New(o Options, table *router.Table) *Worker { return engine.New(o, table, parts) }

// What the shell knows of the engine.
type (
	Worker     = engine.Worker
	Options    = options.Worker
	Recording  = options.Recording
	SlowLog    = options.SlowLog
	Session    = engine.Session
	Ready      = engine.Ready
	Ask        = engine.Ask
	Refusal    = engine.Refusal
	Limitation = engine.Limitation
	Event      = engine.Event
	Deed       = engine.Deed

	UsersTask = engine.UsersTask
	Question  = options.Question
	Memory    = engine.Memory
	Reads     = options.Reads

	ReplicaReads = options.ReplicaReads
	Permissions  = options.Permissions
	Moves        = options.Moves
	KeyTraffic   = options.KeyTraffic
	NearCache    = options.NearCache
)

// The kinds of a UsersTask.
const (
	ChangeUsers = engine.ChangeUsers
	LoadUsers   = engine.LoadUsers
	SaveUsers   = engine.SaveUsers
)

// The values of Reads.
const (
	FromMaster    = options.FromMaster
	PreferReplica = options.PreferReplica
	FromReplica   = options.FromReplica
	FromNearest   = options.FromNearest
)

// Locks returns what one thread knows of the locks; see [observe.LocksOf].
func Locks(w *Worker, q locks.Query) locks.Part { return observe.LocksOf(w, q) }

// LockFigures returns what one thread has counted of locks; see [observe.Figures].
func LockFigures(w *Worker) []locks.PatternFigures { return observe.Figures(w) }

// Kill closes the client with this ID, and returns its line in CLIENT LIST; see [answers.Kill].
func Kill(w *Worker, id uint64) string { return answers.Kill(w, id) }

// Pause makes the commands of a worker's clients wait; see [answers.Pause].
func Pause(w *Worker, forTime time.Duration, writesOnly bool) { answers.Pause(w, forTime, writesOnly) }

// ClientSearch finds the first rows of one thread's clients; see [answers.Search].
type ClientSearch = answers.Search

// NewClientSearch returns a search of the clients of one thread; see [answers.NewSearch].
func NewClientSearch(q clients.Query) *ClientSearch { return answers.NewSearch(q) }

// Subscriptions returns what one thread's clients are subscribed to; see [pubsub.Topics].
func Subscriptions(w *Worker, count int) clients.Topics { return pubsub.Topics(w, count) }

// HotKeys returns what one thread knows of hot keys; see [observe.HotKeysOf].
func HotKeys(w *Worker) hotkeys.Part { return observe.HotKeysOf(w) }

// BigKeys returns what one thread knows of large values; see [observe.BigKeysOf].
func BigKeys(w *Worker) []bigkeys.Row { return observe.BigKeysOf(w) }

// NodeName returns the name of a link's node. The name of a cluster's node is its address.
func NodeName(l *pool.Link) string { return engine.NodeName(l) }

// Configure replaces a worker's options, within a turn; see [engine.Configure].
func Configure(w *Worker, o Options) { engine.Configure(w, o) }

// SetUsers replaces a worker's users, within a turn; see [engine.SetUsers].
func SetUsers(w *Worker, users *acl.Users, by *Session) { engine.SetUsers(w, users, by) }

// Identify makes a client the user that its certificate names; see [engine.Identify].
func Identify(w *Worker, s *Session, names []string) bool { return engine.Identify(w, s, names) }

// LearnZones tells a worker in which zones nodes are; see [engine.LearnZones].
func LearnZones(w *Worker, zones map[string]string) { engine.LearnZones(w, zones) }

// Hold makes all commands of a worker's clients wait; see [pull.Hold].
func Hold(w *Worker, until int64) { pull.Hold(w, until) }

// EndHold ends Hold.
func EndHold(w *Worker) { pull.EndHold(w) }

// IsHeld reports whether nothing is in flight during a Hold.
func IsHeld(w *Worker) bool { return pull.IsHeld(w) }

// TryLayout makes a worker count what another layout would refuse; see [engine.TryLayout].
func TryLayout(w *Worker, t *router.Table) { engine.TryLayout(w, t) }

// Tried returns what a worker has counted; see [engine.Tried].
func Tried(w *Worker) dryrun.Findings { return engine.Tried(w) }

// Drain begins to close a worker's clients; see [drain.Begin].
func Drain(w *Worker, spread time.Duration) { drain.Begin(w, spread) }

// MayLeave reports whether a client should be closed now; see [drain.MayLeave].
func MayLeave(s *Session) bool { return drain.MayLeave(s) }

// Left counts a client that was closed because keyway stops; see [drain.Left].
func Left(s *Session, isCut bool) { drain.Left(s, isCut) }

// ReplaceLayout is SetTable for a table that places keys otherwise; see
// [engine.ReplaceLayout].
func ReplaceLayout(w *Worker, t *router.Table) { engine.ReplaceLayout(w, t) }

// Written is a client that another process has written down; see [handover.Client].
type Written = handover.Client

// HandoverVersion is the version of the form in which clients are written down.
const HandoverVersion = handover.Version

// Readiness says whether another process can take a client over.
type Readiness = handover.Readiness

// The values of Readiness.
const (
	GoesSoon  = handover.Soon
	ReadyToGo = handover.Ready
	NeverGoes = handover.Never
)

// PrepareToGo makes the client's next command wait, if that helps, and returns whether another
// process can take the client over; see [handover.Prepare].
func PrepareToGo(s *Session) Readiness { return handover.Prepare(s) }

// GoOn lets keyway serve a client again after PrepareToGo.
func GoOn(s *Session) { engine.GoOn(s) }

// PrepareSubscriberToGo is PrepareToGo for clients with subscriptions; see
// [handover.PrepareSubscriber].
func PrepareSubscriberToGo(s *Session) Readiness { return handover.PrepareSubscriber(s) }

// Subscribes reports whether a client has subscriptions.
func Subscribes(s *Session) bool { return s.Has(engine.Subscribed) }

// WriteDown returns what another process must know of a client that is ready, and what is not
// written to the client yet.
func WriteDown(s *Session) (form, output []byte) { return handover.Write(s) }

// ReadClient reads what WriteDown has returned, perhaps in another version of keyway.
func ReadClient(form []byte) (Written, error) { return handover.Read(form) }

// LaterIDs makes the worker's later sessions get ids above this one.
func LaterIDs(w *Worker, id uint64) { engine.LaterIDs(w, id) }

// LastID returns an id that no session of the worker exceeds.
func LastID(w *Worker) uint64 { return engine.LastID(w) }
