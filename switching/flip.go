package switching

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/register"
)

// Fence is how Flip ends the connections of keyways that serve by an earlier epoch. The zero Fence
// ends those whose names say so, and leaves other clients alone. Connections over which commands
// of clients go have names, and are named before they are asked for the register: see package
// pool. A connection that only listens to channels stays, so no message is lost.
type Fence struct {
	// Users, if not empty, are the users of this node that only keyways use. All their connections end,
	// whatever they are called and whatever they do. Clients' own users, which keyway becomes
	// with auth: passthrough, must be among them.
	Users []string
	// All ends the connections of all clients. Those that use the node without keyway are not kept
	// out, but what they have sent before is over.
	All bool
}

func (f Fence) byName() bool { return !f.All && len(f.Users) == 0 }

// kills returns the commands that end the connections, of a Fence that is not byName.
func (f Fence) kills() (all [][]any) {
	if f.All {
		// A client of RESP3 that has subscribed counts as pubsub, and may send any command.
		for _, kind := range []string{"normal", "pubsub"} {
			all = append(all, []any{"CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"})
		}
	}
	for _, user := range f.Users {
		all = append(all, []any{"CLIENT", "KILL", "USER", user, "SKIPME", "yes"})
	}
	return all
}

// FlipAll is Flip for several nodes at once, such as the masters of a cluster.
func FlipAll(ctx context.Context, nodes []*Node, to *Commitment, f func(*Node) Fence) error {
	return each(nodes, func(_ int, n *Node) error { return n.Flip(ctx, to, f(n)) })
}

// Flip makes the node enter an epoch. From then on it executes no command that a keyway of an
// earlier epoch has sent, and its replicas answer none. All replicas that are connected know of it
// when Flip returns nil. It may be called any number of times, by several processes at
// once, and when another one has died in the middle. It tries until ctx ends.
//
// The order is what it rests on. A keyway names a connection, then asks for the register, and
// uses the connection only if that says no later epoch than its own.
//
//	create keyway_42_closing     connections that ask from now on are not used, by nobody
//	wait for the replicas        the same for them
//	CLIENT LIST, CLIENT KILL     who has asked before was named before, so it is listed
//	create keyway_42             nobody of an earlier epoch is left
//
// By user or for all, the last two are one transaction. A script that runs delays all that. What
// came behind it over the same connection is executed before the connection ends, or never.
func (n *Node) Flip(ctx context.Context, to *Commitment, f Fence) error {
	return n.attempt(ctx, func(c *connection) error { return c.flip(ctx, to, f) })
}

func (c *connection) flip(ctx context.Context, to *Commitment, f Fence) error {
	isIn, err := c.isIn(ctx, to)
	if err != nil {
		return err
	}
	if !isIn { // otherwise, who has created the record has ended the connections before
		if err := c.enter(ctx, to, f); err != nil {
			return err
		}
		if isIn, err = c.isIn(ctx, to); err == nil && !isIn {
			err = c.node.lost(register.Name(to.Epoch))
		}
		if err != nil {
			return err
		}
	}
	return c.replicated(ctx)
}

// isIn reports whether the node is in the epoch.
func (c *connection) isIn(ctx context.Context, to *Commitment) (bool, error) {
	texts, err := c.records(ctx)
	if err != nil {
		return false, err
	}
	last := int64(0)
	for name := range texts {
		last = max(last, register.Number(name))
	}
	const doing = "entering an epoch"
	switch code, is := texts[register.Name(to.Epoch)]; {
	case last > to.Epoch:
		return false, c.node.refused(doing, "begin anew",
			"the node is in epoch %d, which is later than %d", last, to.Epoch)
	case is && code != to.code:
		return false, c.node.refused(doing, "find out by which one the keys lie (keyway verify), and remove the "+
			"other with FUNCTION DELETE "+register.Name(to.Epoch), "the node has another record of epoch %d", to.Epoch)
	default:
		return is, nil
	}
}

// enter ends the connections, and creates the record.
func (c *connection) enter(ctx context.Context, to *Commitment, f Fence) error {
	if f.byName() || len(c.node.Replicas) > 0 {
		// While it is closing, nobody uses the node. So look at the replicas first.
		if err := c.replicated(ctx); err != nil {
			return err
		}
		if err := c.create(ctx, register.Note(register.ClosingName(to.Epoch))); err != nil {
			return err
		}
		if err := c.closeReplicas(ctx, to.Epoch, f); err != nil {
			return err
		}
	}
	if f.byName() {
		if err := c.endOlder(ctx, to.Epoch); err != nil {
			return err
		}
		return c.create(ctx, to.code)
	}
	block := append([][]any{{"MULTI"}, {"FUNCTION", "LOAD", to.code}}, f.kills()...)
	doing := "creating the record " + register.Name(to.Epoch)
	sent, err := c.write(ctx, doing, append(block, []any{"EXEC"})...)
	if err != nil {
		return err
	}
	for _, cmd := range sent { // the first says why EXEC is refused
		if err := cmd.Err(); err != nil && !exists(err) {
			return c.failed(doing, err)
		}
	}
	return nil
}

// endOlder ends the connections of keyways of earlier epochs, as their names say.
func (c *connection) endOlder(ctx context.Context, epoch int64) error {
	if c.named != nil { // then those of keyways have no names either
		return c.failed("naming a connection, by which those of keyways are found", c.named)
	}
	clients, err := c.Do(ctx, "CLIENT", "LIST").Text()
	if err != nil {
		return c.failed("asking for CLIENT LIST", err)
	}
	var kills [][]any
	for line := range strings.Lines(clients) {
		of, ok := guard.ParseConnection(line)
		if ok && of.Epoch < epoch && !of.Subscribed || strings.Contains(line, " name="+move.NamePrefix) {
			kills = append(kills, []any{"CLIENT", "KILL", "ID", of.ID})
		}
	}
	return c.kill(ctx, kills)
}

// kill ends connections.
func (c *connection) kill(ctx context.Context, kills [][]any) error {
	const doing = "ending connections of keyways"
	sent, err := c.send(ctx, doing, kills...)
	for _, cmd := range sent {
		if cmd.Err() != nil && err == nil {
			err = c.failed(doing, cmd.Err())
		}
	}
	return err
}

// closeReplicas ends the connections of keyways of earlier epochs to replicas, once these know that
// the node is closing. They would find no key there that has moved.
func (c *connection) closeReplicas(ctx context.Context, epoch int64, f Fence) error {
	replicas := make([]*Node, len(c.node.Replicas))
	for i, addr := range c.node.Replicas {
		replica := *c.node
		replica.Addr = addr
		replicas[i] = &replica
	}
	return each(replicas, func(_ int, n *Node) error {
		return n.attempt(ctx, func(r *connection) error {
			texts, err := r.records(ctx)
			if err != nil {
				return err
			}
			if _, closing := texts[register.ClosingName(epoch)]; !closing {
				return r.behind("the replica does not have its master's record " + register.ClosingName(epoch) + " yet")
			}
			if f.byName() {
				return r.endOlder(ctx, epoch)
			}
			return r.kill(ctx, f.kills())
		})
	})
}

// behind returns the error of replicas that do not know yet what their master knows.
func (c *connection) behind(what string) error {
	return &move.Error{
		Node: c.node.Name, Addr: c.addr, Doing: "waiting for replicas", Err: fmt.Errorf("%s", what),
		Remedy: "start the replica or repair its network, or end its replication", Temporary: true,
	}
}
