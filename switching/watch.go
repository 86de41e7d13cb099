package switching

import (
	"context"
	"errors"
	"strings"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/register"
)

// Watch is a connection to the home of a change, over which one process looks at how far the change is
// and who takes part, and is seen by the others. It serves one goroutine.
type Watch struct {
	home  *Node
	c     *connection // nil: there is none
	close func()
	said  string
	id    int64
}

// Sight is what a Watch sees.
type Sight struct {
	ID      int64             // of its own connection, among the clients
	Changes []register.Change // as the home's register says
	Clients string            // the reply to CLIENT LIST
}

// ErrNotHome is wrapped by the error of Look if the home does not own slot 0 of its cluster any more.
var ErrNotHome = errors.New("slot 0 of the cluster has moved to another node, which is the home of changes now")

// inSlot0 is a key that nobody uses.
const inSlot0 = "keyway:home:{06S}"

// Watch returns a watch. Its connection opens when it is used, and again when it was lost.
func (n *Node) Watch() *Watch { return &Watch{home: n} }

// Look looks. Before that, it names the connection, unless it has that name.
func (w *Watch) Look(ctx context.Context, name string) (s Sight, err error) {
	defer func() {
		if err != nil && !control.IsReply(err) {
			w.Close()
		}
	}()
	if w.c == nil {
		w.c, w.close = w.home.connect(context.WithoutCancel(ctx), w.home.Addr)
		w.said = ""
		if w.id, err = w.c.ClientID(ctx).Result(); err != nil {
			err = w.c.failed("connecting", err)
			w.Close() // also after a refusal
			return s, err
		}
	}
	if name != w.said {
		if err := w.c.ClientSetName(ctx, name).Err(); err != nil {
			return s, w.c.failed("naming a connection", err)
		}
		w.said = name
	}
	s.ID = w.id
	if err := w.c.isHome(ctx); err != nil {
		return s, err
	}
	if s.Changes, err = w.c.changes(ctx); err != nil {
		return s, err
	}
	if s.Clients, err = w.c.Do(ctx, "CLIENT", "LIST", "TYPE", "normal").Text(); err != nil {
		err = w.c.failed("asking for CLIENT LIST", err)
	}
	return s, err
}

// isHome returns an error if the node does not own slot 0 any more, although that makes it the home. A replica does
// not own it either.
func (c *connection) isHome(ctx context.Context) error {
	if !c.node.OwnsSlot0 {
		return nil
	}
	const doing = "asking whether it is the home of changes"
	switch err := c.Exists(ctx, inSlot0).Err(); {
	case err == nil || control.IsReply(err) && !strings.HasPrefix(err.Error(), "MOVED "):
		return nil // such as a node that does not let this user ask for keys
	case control.IsReply(err):
		return c.node.refused(doing, "", "%w", ErrNotHome)
	default:
		return c.failed(doing, err)
	}
}

// Close closes the connection, if there is one.
func (w *Watch) Close() {
	if w.c != nil {
		w.close()
		w.c = nil
	}
}

// SetPace says at a change's home how fast keys move from now on. adjust gets the pace that is in force,
// and returns the new one.
func (n *Node) SetPace(
	ctx context.Context, epoch int64, adjust func(register.Pace) register.Pace,
) (set register.Pace, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		for {
			of, err := c.change(ctx, epoch)
			if err != nil {
				return err
			}
			before, err := PaceOf(&of)
			if err != nil {
				return err
			}
			set = adjust(before)
			at := of.Paces + 1
			code, err := set.Code(epoch, at)
			if err != nil {
				return err
			}
			if err := c.create(ctx, code); err != nil {
				return err
			}
			switch of, err = c.change(ctx, epoch); {
			case err != nil:
				return err
			case of.Paces < at:
				return n.lost(register.PaceName(epoch, at))
			case of.Paces > at || *of.Pace == set:
				return nil
			} // somebody else has said something at the same time, and has not seen this
		}
	})
	return set, err
}

// PaceOf returns the pace at which the keys of a change move: what was said last, or what its plan says.
func PaceOf(of *register.Change) (register.Pace, error) {
	switch {
	case of.Pace != nil:
		return *of.Pace, nil
	case of.Plan == nil || len(of.Plan.Options) == 0:
		return register.Pace{Latency: register.DefaultLatency}, nil
	}
	o, err := of.Plan.ReadOptions()
	return o.Pace, err
}
