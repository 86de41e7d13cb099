package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// NamePrefix begins the names of connections that move keys.
const NamePrefix = "keyway-move:"

// Announce makes it visible to other processes that this one moves keys from or to the node:
// from now on, its connections are called NamePrefix and name. Then it asks the node for its
// clients and calls admit with the reply to CLIENT LIST. If admit returns an error, no key may
// move, and Announce returns it in an *Error.
//
// Of two processes that announce themselves to the same node, at least one sees the other,
// because each has its name before it looks. This holds for as long as keys move: each
// connection that moves keys has the name, too, and is used only after another connection,
// which has been open since the look, has answered. If that one was lost, the node announces
// itself and looks again.
func (n *Node) Announce(ctx context.Context, name string, admit func(clients string) error) error {
	n.announced.name, n.announced.admit = NamePrefix+name, admit
	return n.present(ctx, nil)
}

// Look calls the function that was passed to Announce again. Its error is an *Error.
func (n *Node) Look(ctx context.Context) error {
	if err := n.present(ctx, nil); err != nil {
		return err
	}
	if err := n.lockAnnounced(ctx); err != nil {
		return err
	}
	defer n.unlockAnnounced()
	if n.announced.by == nil {
		return nil
	}
	return n.judge(ctx, n.announced.by)
}

// present makes sure that a connection has announced this process to the server that c leads
// to, and still does. c is nil for whatever server has the node's address.
func (n *Node) present(ctx context.Context, c *connection) error {
	a := &n.announced
	if a.admit == nil {
		return nil
	}
	if err := n.lockAnnounced(ctx); err != nil {
		return err
	}
	defer n.unlockAnnounced()
	if a.by != nil {
		if (c == nil || a.by.runID == c.runID) && a.by.Ping(ctx).Err() == nil {
			return nil
		}
		a.by.Close()
		a.by = nil
	}
	by, err := n.dial(ctx, 0)
	if err != nil {
		return err
	}
	if err := n.judge(ctx, by); err != nil {
		by.Close()
		return err
	}
	if c != nil && c.runID != by.runID {
		by.Close()
		return n.failed("connecting", errors.New("two connections lead to different servers"))
	}
	a.by = by
	return nil
}

func (n *Node) lockAnnounced(ctx context.Context) error {
	select {
	case n.announced.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return n.failed("waiting for a look at its clients", ctx.Err())
	}
}

func (n *Node) unlockAnnounced() { <-n.announced.lock }

// judge asks for the node's clients, and returns an error if no key may move beside them.
func (n *Node) judge(ctx context.Context, c *connection) error {
	clients, err := c.Do(ctx, "CLIENT", "LIST", "TYPE", "normal").Text()
	if err != nil {
		return n.failed("asking for CLIENT LIST", err)
	}
	if err := n.announced.admit(clients); err != nil {
		return &Error{Node: n.Name, Addr: n.Addr, Doing: "looking at its clients", Err: err}
	}
	return nil
}

// maxRemembered is how many of the keys that have arrived at a node last are remembered, or up to
// twice as many.
const maxRemembered = 1000

// remember records that a key that does not expire has just been created on the node.
func (n *Node) remember(db int, key string) {
	if n.evicts {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.arrived = append(n.arrived, arrival{db, key})
	if extra := len(n.arrived) - maxRemembered; extra > maxRemembered {
		n.arrived = append([]arrival(nil), n.arrived[extra:]...)
	}
}

// arrival is a key that was moved to a node.
type arrival struct {
	db  int
	key string
}

// reopened checks a node that has another run ID than before: it was restarted, and may have
// loaded older data. The keys that came last would be missing first.
func (n *Node) reopened(ctx context.Context, c *connection) error {
	n.mu.Lock()
	arrived, same := n.arrived, c.runID == n.seenID
	n.mu.Unlock()
	if same {
		return nil
	}
	byDB := map[int][]string{}
	for _, a := range arrived {
		byDB[a.db] = append(byDB[a.db], a.key)
	}
	for db, keys := range byDB {
		lost, err := n.missing(ctx, db, keys)
		if err != nil {
			return err
		}
		if len(lost) > 0 {
			return lostKeys(n, len(lost), lost[0])
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seenID = c.runID
	return nil
}

// runIDOf returns a server's run ID, as its reply to INFO has it.
func runIDOf(info string) (string, error) {
	_, after, _ := strings.Cut(info, "run_id:")
	id, _, _ := strings.Cut(after, "\r\n")
	if len(id) != idLength {
		return "", fmt.Errorf("INFO has no run_id: %q", id)
	}
	return id, nil
}
