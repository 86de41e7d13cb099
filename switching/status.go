package switching

import (
	"context"
	"errors"
	"sync"

	"github.com/keyway-proxy/keyway/register"
)

// State is how far a change is.
type State string

// The values of State, in the order of a change.
const (
	Steady   State = "steady"   // there is no change, but for cancelled ones
	Planned  State = "planned"  // it may be cancelled
	Prepared State = "prepared" // all members are prepared
	Holding  State = "holding"  // keyways hold commands, for a bounded time
	Flipping State = "flipping" // it is decided, and not all nodes are in the epoch
	Moving   State = "moving"   // all nodes are
	Done     State = "done"     // nothing is left to move
)

// Status is what the nodes say about the last change that was not cancelled.
type Status struct {
	register.Change                 // as the register of its home says
	Latest          register.Change // the last one of all
	State           State
	Members         []Member
	Behind          []string // the nodes that are not in the epoch yet, if it is decided
}

// Read asks a home and all other nodes of both layouts for the last change. Nodes that cannot be
// asked are Behind; their errors are returned with the status. If the home cannot be asked, there
// is none.
func Read(ctx context.Context, home *Node, nodes []*Node) (s Status, err error) {
	all, err := home.changes(ctx)
	if err != nil {
		return s, err
	}
	if s.Members, err = home.Members(ctx); err != nil {
		return s, err
	}
	if len(all) > 0 {
		s.Latest = all[len(all)-1]
	}
	last := current(all)
	if s.State = Steady; last == nil {
		return s, nil
	}
	s.Change = *last
	switch {
	case s.Done:
		s.State = Done
	case s.Over() || s.Plan == nil && s.Entered == nil:
	case s.Decision != register.Go && s.Entered == nil && s.Holds > 0:
		s.State = Holding
	case s.Decision != register.Go && s.Entered == nil:
		s.State = Planned
		if s.areReady() {
			s.State = Prepared
		}
	default:
		s.State = Moving
		if err = s.compare(ctx, nodes); len(s.Behind) > 0 {
			s.State = Flipping
		}
	}
	return s, err
}

// current returns the last change that was not cancelled, nil if there is none. While keys move, a
// change back may be planned and cancelled, and they go on.
func current(all []register.Change) *register.Change {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Decision != register.Cancelled {
			return &all[i]
		}
	}
	return nil
}

// areReady reports whether all members have prepared.
func (s *Status) areReady() bool {
	for _, m := range s.Members {
		if m.Epoch != s.Epoch || m.State != prepared {
			return false
		}
	}
	return len(s.Members) > 0
}

// compare finds the nodes that are behind.
func (s *Status) compare(ctx context.Context, nodes []*Node) error {
	in := make([]bool, len(nodes))
	err := each(nodes, func(i int, n *Node) error {
		last, err := n.Committed(ctx)
		in[i] = last != nil && last.Epoch >= s.Epoch
		return err
	})
	for i, n := range nodes {
		if !in[i] {
			s.Behind = append(s.Behind, n.Name)
		}
	}
	return err
}

// each calls do for all nodes at once, and returns all errors.
func each(nodes []*Node, do func(i int, n *Node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(i, n) })
	}
	all.Wait()
	return errors.Join(errs...)
}
