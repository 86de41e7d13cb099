package engine

import (
	"fmt"
	"math"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
)

// Feature is the part of one worker that serves one group of commands, such as pub/sub. It
// keeps state of its own. The worker calls all its features at certain points, and does not
// know which there are. A feature embeds Inactive, and defines the methods that it needs.
type Feature interface {
	// Layout is called when the nodes may have changed. moved says that a key may have
	// another owner.
	Layout(moved bool)
	// CloseNode closes the feature's connections to a node that keyway no longer uses.
	CloseNode(n *Node, reason string)
	// Conns returns the feature's connections to a node that carry clients' requests.
	Conns(n *Node) []*pool.Conn
	// CountConns adds what is counted about connections to a node that carry requests for all clients.
	CountConns(n *Node, to *metrics.Node)
	// OnReject is called when keyway refuses a command before it begins.
	OnReject(s *Session, cmd *command.Command)
	// Leave is called when a client has left, and after RESET.
	Leave(s *Session)
	// StateChanged is called when a client has another database or version of the protocol.
	StateChanged(s *Session)
	// Describe adds what CLIENT LIST says about a client.
	Describe(s *Session, to *clients.Client)
	// Tick is called when something may be due.
	Tick()
	// Due returns the time at which Tick must be called.
	Due() int64
	// Sweep is called every sweepTick, to close clients that have waited for too long.
	Sweep()
	// EndTurn is called at the end of each turn.
	EndTurn()
	// Configured is called when the worker has other options.
	Configured()
	// UsersChanged is called when the sessions may have users with other rules.
	UsersChanged()
	// Shut closes the connections that belong to no node of the layout, since keyway stops.
	Shut()
}

// Inactive is a feature that does nothing.
type Inactive struct{}

func (Inactive) Layout(bool)                         {}
func (Inactive) CloseNode(*Node, string)             {}
func (Inactive) Conns(*Node) []*pool.Conn            { return nil }
func (Inactive) CountConns(*Node, *metrics.Node)     {}
func (Inactive) OnReject(*Session, *command.Command) {}
func (Inactive) StateChanged(*Session)               {}
func (Inactive) Describe(*Session, *clients.Client)  {}
func (Inactive) Leave(*Session)                      {}
func (Inactive) Tick()                               {}
func (Inactive) Due() int64                          { return math.MaxInt64 }
func (Inactive) Sweep()                              {}
func (Inactive) EndTurn()                            {}
func (Inactive) Configured()                         {}
func (Inactive) UsersChanged()                       {}
func (Inactive) Shut()                               {}

// perClient is where a feature keeps its own state of each client. All features make theirs
// when the program starts.
type perClient[T any] struct{ at int }

// perClients is how many such values the features keep of each client.
var perClients int

// NewPerClient makes room for a value of each client.
func NewPerClient[T any]() perClient[T] {
	perClients++
	return perClient[T]{perClients - 1}
}

// Get returns what was set for a client, or nil.
func (k perClient[T]) Get(s *Session) *T {
	if s.perFeature == nil {
		return nil
	}
	v, _ := s.perFeature[k.at].(*T)
	return v
}

// Set sets a client's value.
func (k perClient[T]) Set(s *Session, v *T) {
	t := s.AllocRareState()
	if t.perFeature == nil {
		t.perFeature = make([]any, perClients)
	}
	t.perFeature[k.at] = v
}

// FeatureOf returns the worker's feature of type F.
func FeatureOf[F Feature](w *Worker) F {
	for _, f := range w.Features {
		if f, ok := f.(F); ok {
			return f
		}
	}
	panic("proxy: the worker lacks a feature")
}

// Local handles a command that keyway does not just forward. It returns false if the
// command has to wait; it then has no effect.
type Local func(w *Worker, s *Session, cmd *command.Command, a command.Args) bool

// Handler says what keyway itself does for a command. The command's row in package
// command names its handler.
type Handler struct {
	Answer     Local // answers the command
	Emulated   Local // answers a refused command where keyway emulates a cluster
	OnReplicas Local // answers a refused command where reads go to replicas
	ByNodes    bool  // Answer sends it to nodes, and does nothing for a user whose rules do not allow it there

	// The remaining fields are for commands that go to nodes.

	// Check returns an error for the client, or "" if the command may go to the nodes.
	Check func(w *Worker, a command.Args) string
	// Before is called when the command goes to all masters.
	Before func(w *Worker, a command.Args)
	// Shown returns what may be shown of the arguments of an operator's command, which may be secret;
	// nil: nothing.
	Shown func(a command.Args) string
	// Changes returns the change that each worker makes once all masters have agreed.
	Changes func(a command.Args) func(*Worker)
	End     ending // makes one reply out of the masters' replies; nil: the command's policy
	// Record keeps in the merger what end needs to know about the command.
	Record func(w *Worker, m *Merger, a command.Args)
}

// Part is a group of commands: what keyway itself does for them, and the state that it needs.
type Part struct {
	New          func(w *Worker) []Feature // makes the state; nil: there is none
	Handlers     map[command.Action]Handler
	MayBlock     Local // answers a command that may block
	QueueInMulti Local // queues a command between MULTI and EXEC
}

// Parts are all that a worker is made of besides the engine.
type Parts struct {
	features     []func(w *Worker) []Feature
	Handlers     [command.Actions]Handler
	mayBlock     Local
	queueInMulti Local
}

// Assemble puts parts together. It panics if two of them handle the same command.
func Assemble(parts ...Part) *Parts {
	all := new(Parts)
	handled := map[command.Action]bool{}
	for _, p := range parts {
		if p.New != nil {
			all.features = append(all.features, p.New)
		}
		for action, h := range p.Handlers {
			if handled[action] {
				panic(fmt.Sprintf("proxy: two parts handle action %d", action))
			}
			handled[action], all.Handlers[action] = true, h
		}
		if p.MayBlock != nil {
			all.mayBlock = p.MayBlock
		}
		if p.QueueInMulti != nil {
			all.queueInMulti = p.QueueInMulti
		}
	}
	return all
}

// RenewConns tells the features that a client has another database or version of the
// protocol, so that it needs other connections.
func RenewConns(w *Worker, s *Session) {
	for _, f := range w.Features {
		f.StateChanged(s)
	}
}

// assembled is what the worker is made of besides the engine.
type assembled struct {
	Parts    *Parts
	Features []Feature
	hooks
}

// hooks are what features have set to be called by the worker or by each other.
type hooks struct {
	Blocked       blocked
	Counter       receiverCounter
	Subscriptions Subscriptions
	Trackers      Trackers
	Denials       denials
	Limiter       limiter      // nil: no user has limits
	NodeUsers     nodeUsers    // nil: the users are keyway's own
	Gate          gate         // nil: no command has to wait
	Observer      observer     // nil: nobody wants to see the commands
	Outside       outside      // nil: the nodes of the layout have all keys
	Arrivals      arrivals     // nil: no keys are moving
	Witness       Witness      // nil: nobody wants to see the replies to commands that may concern locks
	Traffic       keyWatcher   // nil: nobody wants to see the traffic
	Near          nearCache    // nil: nodes answer all reads
	Pass          int          // replies to pass over until the next one that Traffic sees
	BigFrom       int          // Traffic sees each request and reply that together have so many bytes
	Hidden        bool         // the observer must not see the command that is being dispatched
	Whole         command.Args // the command that is being dispatched, with whole names
}

// Topics are what a client is subscribed to: channels, patterns and sharded channels, each in the
// order of its subscriptions.
type Topics [3][]string

// Subscriptions is what the feature of subscriptions can do for clients that go from one process to
// another.
type Subscriptions interface {
	// TopicsOf returns what a client is subscribed to.
	TopicsOf(s *Session) Topics
	// Carried returns the feeds that another process can go on with. settled is false if there will
	// soon be others: a node has not confirmed a subscription.
	Carried() (feeds []CarriedFeed, settled bool)
	// Lend stops the use of all feeds, without ending their subscriptions. The caller must read them
	// no more. The subscribers are still counted.
	Lend()
	// GiveAway closes the feeds after Lend: another process reads them now.
	GiveAway()
	// TakeBack goes on after Lend. Feeds that are not given away are used again.
	TakeBack()

	// Inherit records that another process has lent the feed of the node with that address. isPrimary
	// says that it carries what is published anywhere in a cluster.
	Inherit(addr string, isPrimary bool)
	// Resume subscribes a client to what it is subscribed to already: nodes need not confirm it.
	// It calls known once all workers count the client as a receiver.
	Resume(s *Session, to Topics, known func())
}

// CarriedFeed is a feed that another process takes over.
type CarriedFeed struct {
	*pool.Feed
	Part    []byte // see pool.Feed.Carry
	Primary bool
}

// Trackers is what the feature of client-side caching can do for clients that another process takes
// over.
type Trackers interface {
	// TrackingOf returns the written form of a client's CLIENT TRACKING. ok is false if another
	// process could not go on with it.
	TrackingOf(s *Session) (form []byte, ok bool)
	// ResumeTracking makes a client track as the written form says.
	ResumeTracking(s *Session, form []byte) error
}

// receiverCounter counts who gets a message that is published.
type receiverCounter interface {
	// Uncounted returns how many more clients of all workers get a message, published with
	// cmd on a channel, than the node counts.
	Uncounted(n *Node, cmd *command.Command, channel string) int64
	// Subscribers returns how many clients of all workers are subscribed to a channel by its
	// name, sharded or not.
	Subscribers(channel string) int
	// PatternSubscribers is Subscribers for a pattern.
	PatternSubscribers(pattern string) int
	// Receivers returns how many clients get a message for which the node counted count.
	// before is the result of Uncounted when the message was sent.
	Receivers(n *Node, cmd *command.Command, channel string, count, before int64) int64
}

// blocked knows the clients that are inside blocking commands.
type blocked interface {
	// EachKey calls do with each key that a client of this worker waits at, once for each such
	// client. The key is valid only during the call.
	EachKey(do func(key []byte))
	// Release ends the wait of a client that keyway is about to close. The client gets what it
	// has popped by then. Otherwise its reply is that of a timeout, or it is closed if it has
	// none. Release may be called again, and does nothing if the client is not inside a command.
	Release(s *Session)
	// BeginAnew ends the waits of all clients at their nodes. They then wait anew at the owners of their
	// keys.
	BeginAnew()
}

// topicSet is what a client is subscribed to.
type topicSet interface {
	// HasChannel reports whether the client is subscribed to a channel by its name.
	HasChannel(name string) bool
}

// nodeUsers asks the nodes about their users, who clients log in as.
type nodeUsers interface {
	// Admit does what Enter says.
	Admit(s *Session) (refusal string)
	// Permits reports whether the client's user may run a command that keyway answers by itself. If
	// not, the client has got the error, or is Blocked while a node is asked.
	Permits(s *Session, cmd *command.Command, a command.Args) bool
	// MayListen calls done with false if the client's user may no longer listen, by this command, to one of
	// the topics: SUBSCRIBE or one like it, or MONITOR without topics.
	MayListen(s *Session, listen string, topics []string, done func(may bool))
}

// limiter bounds what the clients of each user use together.
type limiter interface {
	// Admit decides about the next command of a client whose share is not ready.
	Admit(s *Session, a command.Args) Admission
	// Join makes the session one of another user. It returns false if that user has too many
	// clients; it then has no effect.
	Join(s *Session, u *acl.User) bool
	// Arrive is called when the session has become one of another user otherwise. A client of too
	// many is closed when it sends a command.
	Arrive(s *Session)
	// UserChanged is called when the session's user may have other limits.
	UserChanged(s *Session)
	// Serve resumes clients that have waited, and reports whether there were any. Settle gives back
	// what was not used in this turn.
	Serve() bool
	Settle()
	// Due is as in Feature, but it is exact.
	Due() int64
	// Count adds what is counted about the users with limits to their rows.
	Count(to *metrics.Snapshot)
}

// Admission is what happens to a command.
type Admission uint8

const (
	Admitted Admission = iota // it begins
	Waits                     // it has no effect, and the client is resumed later
	Answered                  // the client has got an error
)

// gate delays commands.
type gate interface {
	// Delays reports whether the command has to wait.
	Delays(s *Session, cmd *command.Command, a command.Args) bool
	// Left returns how long commands go on to wait.
	Left() time.Duration
}

// outside has keys that are on no node of the layout.
type outside interface {
	// Take handles a command with such keys, or refuses it. isTaken is false for all other
	// commands. done is as in Local.
	Take(s *Session, cmd *command.Command, a command.Args) (isTaken, done bool)
	// Count adds what is counted about the nodes that have these keys.
	Count(to *metrics.Snapshot)
}

// arrivals brings keys to the nodes that own them now, while the table is moving.
type arrivals interface {
	// Take makes the client wait if keys of the command may still be on other nodes, or refuses the
	// command if they cannot be brought. isTaken is false if all are where the table places
	// them. done is as in Local. at is the place of the command's only key, if that was looked for.
	Take(s *Session, cmd *command.Command, a command.Args) (at Placement, isTaken, done bool)
	// Bring makes a call wait that is about to be sent again, if keys of its frame may still
	// be on other nodes. It then calls [Call.SendOn]. It returns false if there are none.
	Bring(c *Call, frame []byte) bool
}

// Placement is where the only key of a command is.
type Placement struct {
	Group    int32 // as in [router.Layout]
	Node     router.NodeID
	IsKnown  bool
	IsMoving bool // the key has another node than before the change of the layout, if IsKnown
}

// Witness sees the commands that may change a lock and the replies to them.
type Witness interface {
	// Sent is called when a command goes to n, or to several nodes if n is nil. It returns
	// what gets the reply, or nil. A client that is InMulti executes it in a transaction.
	Sent(s *Session, cmd *command.Command, a command.Args, n *Node) WitnessedReply
	// Crossed is called when a script was refused because its keys do not live together.
	Crossed(cmd *command.Command, a command.Args)
}

// WitnessedReply gets the reply to a command that a Witness has seen. One of its methods is
// called, once.
type WitnessedReply interface {
	Replied(reply []byte) // the reply, or its beginning if it is long
	Drop()                // there is no reply that the client gets
}

// denials keeps what users were denied.
type denials interface {
	// Denied records that the client, as this user, was denied the object: a command, a key, a
	// channel, or authentication.
	Denied(s *Session, why acl.Denial, object, user string)
}

// observer sees the commands of all clients.
type observer interface {
	Show(s *Session, cmd *command.Command, a command.Args)
}

// keyWatcher sees some of the commands that nodes have answered, or failed to answer.
type keyWatcher interface {
	// Sample is called for one of many calls that a node has answered or failed to answer. replied is the
	// size of the reply. It returns how many to pass over until the next one.
	Sample(c *Call, frame []byte, replied int) (pass int)
	// SeeBig is called for each call with at least BigFrom bytes. isError says that the reply is an error.
	SeeBig(c *Call, frame []byte, replied int, isError bool)
	// EachRead calls do for each key of database 0 that at least one in so many commands has read in the
	// last seconds. The key is valid only during the call.
	EachRead(oneIn int, do func(key []byte))
}

// watchTraffic shows the watcher what it wants to see. It is called for each piece of a reply. Nearly all are
// whole replies to pass over.
func (h *hooks) watchTraffic(c *Call, frame []byte, p pool.Piece) {
	if h.Pass--; h.Pass < 0 || !p.Whole() || c.Block != nil || len(frame)+len(p.Bytes) >= h.BigFrom {
		h.lookAt(c, frame, p)
	}
}

// lookAt adds up a reply in pieces, and shows the watcher what it wants to see.
func (h *hooks) lookAt(c *Call, frame []byte, p pool.Piece) {
	replied := len(p.Bytes)
	if !p.Whole() {
		c.received += replied
		replied = c.received
	}
	switch {
	case !p.Last:
		h.Pass++
		return
	case h.Traffic == nil:
		h.Pass, h.BigFrom = math.MaxInt, math.MaxInt
		return
	case h.Pass < 0:
		h.Pass = h.Traffic.Sample(c, frame, replied)
	}
	if c.sent(frame)+replied >= h.BigFrom {
		h.Traffic.SeeBig(c, frame, replied, p.Kind == '-')
	}
}

// ShowUnanswered shows the watcher of the traffic a call that its node has not answered, as if it had: keyway
// knows the reply, or nobody does.
func ShowUnanswered(w *Worker, c *Call, frame []byte, replied int) {
	if w.Pass--; w.Pass >= 0 {
		return
	}
	if w.Traffic == nil {
		w.Pass = math.MaxInt
		return
	}
	w.Pass = w.Traffic.Sample(c, frame, replied)
}

// sent returns how many bytes the node got for the call. frame is the call's.
func (c *Call) sent(frame []byte) int {
	if c.Block != nil {
		return len(c.Block.Frames)
	}
	return len(frame)
}
