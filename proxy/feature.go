package proxy

import (
	"math"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
)

// feature is what a feature keeps for one worker, such as the subscriptions of its clients.
// The worker calls its features where something may concern them, so it need not know which
// there are. A feature embeds inactive, and defines the methods that it needs.
type feature interface {
	// layout is called when the nodes may have changed. moved says that a key may have
	// another owner.
	layout(moved bool)
	// closeNode closes the feature's connections to a node that is left.
	closeNode(n *node, reason string)
	// conns returns the feature's connections to a node that carry clients' requests.
	conns(n *node) []*pool.Conn
	// rejected is called when a command is rejected before it begins.
	rejected(s *Session, cmd *command.Command)
	// leave is called when a client has left, and after RESET.
	leave(s *Session)
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
func (inactive) leave(*Session)                      {}
func (inactive) tick()                               {}
func (inactive) due() int64                          { return math.MaxInt64 }
func (inactive) sweep()                              {}
func (inactive) endTurn()                            {}

// featureOf returns the worker's feature of type F.
func featureOf[F feature](w *Worker) F {
	for _, f := range w.features {
		if f, ok := f.(F); ok {
			return f
		}
	}
	panic("proxy: the worker lacks a feature")
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
