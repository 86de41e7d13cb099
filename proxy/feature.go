package proxy

import (
	"math"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
)

// feature is the part of one worker that serves one group of commands, such as pub/sub. It
// keeps state of its own. The worker calls all its features at certain points, and does not
// know which there are. A feature embeds inactive, and defines the methods that it needs.
type feature interface {
	// layout is called when the nodes may have changed. moved says that a key may have
	// another owner.
	layout(moved bool)
	// closeNode closes the feature's connections to a node that keyway no longer uses.
	closeNode(n *node, reason string)
	// conns returns the feature's connections to a node that carry clients' requests.
	conns(n *node) []*pool.Conn
	// rejected is called when a command is rejected before it begins.
	rejected(s *Session, cmd *command.Command)
	// leave is called when a client has left, and after RESET.
	leave(s *Session)
	// stateChanged is called when a client has another database or version of the protocol.
	stateChanged(s *Session)
	// describe adds what CLIENT LIST says about a client.
	describe(s *Session, to *clients.Client)
	// tick is called when something may be due.
	tick()
	// due returns the time at which tick must be called.
	due() int64
	// sweep is called every sweepTick, to close clients that have waited for too long.
	sweep()
	// endTurn is called at the end of each turn.
	endTurn()
}

// inactive is a feature that does nothing.
type inactive struct{}

func (inactive) layout(bool)                         {}
func (inactive) closeNode(*node, string)             {}
func (inactive) conns(*node) []*pool.Conn            { return nil }
func (inactive) rejected(*Session, *command.Command) {}
func (inactive) stateChanged(*Session)               {}
func (inactive) describe(*Session, *clients.Client)  {}
func (inactive) leave(*Session)                      {}
func (inactive) tick()                               {}
func (inactive) due() int64                          { return math.MaxInt64 }
func (inactive) sweep()                              {}
func (inactive) endTurn()                            {}

// perClient is where a feature keeps its own state of each client. All are made when the
// program starts.
type perClient[T any] struct{ at int }

// perClients is how many there are.
var perClients int

func newPerClient[T any]() perClient[T] {
	perClients++
	return perClient[T]{perClients - 1}
}

// of returns what was set for a client, or nil.
func (k perClient[T]) of(s *Session) *T {
	if s.kept == nil {
		return nil
	}
	v, _ := s.kept[k.at].(*T)
	return v
}

func (k perClient[T]) set(s *Session, v *T) {
	t := s.allocRareState()
	if t.kept == nil {
		t.kept = make([]any, perClients)
	}
	t.kept[k.at] = v
}

// featureOf returns the worker's feature of type F.
func featureOf[F feature](w *Worker) F {
	for _, f := range w.features {
		if f, ok := f.(F); ok {
			return f
		}
	}
	panic("proxy: the worker lacks a feature")
}

// local handles a command that keyway does not just forward. It returns false if the
// command has to wait; it then has no effect.
type local func(w *Worker, s *Session, cmd *command.Command, a command.Args) bool

// handler says what keyway itself does for a command. The command's row in package
// command names its handler.
type handler struct {
	answer     local // answers the command
	emulated   local // answers a refused command where keyway emulates a cluster
	onReplicas local // answers a refused command where reads go to replicas

	// The remaining fields are for commands that go to nodes.

	// check returns an error for the client, or "" if the command may go to the nodes.
	check func(w *Worker, a command.Args) string
	// before is called when the command goes to all masters.
	before func(w *Worker, a command.Args)
	// changes returns the change that each worker makes once all masters have agreed.
	changes func(a command.Args) func(*Worker)
	end     ending // makes one reply out of the masters' replies; nil: the command's policy
	// record keeps in the merger what end needs to know about the command.
	record func(w *Worker, m *merger, a command.Args)
}

// What the features do for commands. Function init in handlers.go fills it in, since many
// handlers refer to these tables.
var (
	handlers     [command.Actions]handler
	mayBlock     local // answers a command that may block
	queueInMulti local // queues a command between MULTI and EXEC
	newFeatures  func(w *Worker) []feature
)

// renewConns tells the features that a client has another database or version of the
// protocol, so that it needs other connections.
func renewConns(w *Worker, s *Session) {
	for _, f := range w.features {
		f.stateChanged(s)
	}
}

// hooks are what features have set to be called by the worker or by each other.
type hooks struct {
	counter  receiverCounter
	gate     gate     // nil: no command has to wait
	observer observer // nil: nobody wants to see the commands
	hidden   bool     // the observer must not see the command that is being dispatched
}

// receiverCounter counts who gets a message that is published.
type receiverCounter interface {
	// uncounted returns how many more clients of all workers get a message, published with
	// cmd on a channel, than the node counts.
	uncounted(n *node, cmd *command.Command, channel string) int64
	// receivers returns how many clients get a message for which the node counted count.
	// before is the result of uncounted when the message was sent.
	receivers(n *node, cmd *command.Command, channel string, count, before int64) int64
}

// topicSet is what a client is subscribed to.
type topicSet interface {
	// hasChannel reports whether the client is subscribed to a channel by its name.
	hasChannel(name string) bool
}

// gate delays commands.
type gate interface {
	// delays reports whether the command has to wait.
	delays(s *Session, cmd *command.Command, a command.Args) bool
}

// observer sees the commands of all clients.
type observer interface {
	show(s *Session, cmd *command.Command, a command.Args)
}
