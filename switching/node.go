package switching

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/register"
)

// Node is a master of the old or the new layout, or of both.
type Node struct {
	Name, Addr string
	// Replicas are the addresses of those of its replicas from which keyways may read.
	Replicas []string
	// Account should be the one by which keyways use the node. What the node refuses it, such as
	// to name a connection, it refuses keyways too, and a switch depends on that.
	control.Account
	ConnectTimeout time.Duration // 0: 5 s
	// OwnsSlot0 says that the node is the home of changes because it owns slot 0 of a cluster, which may move.
	OwnsSlot0 bool
}

// connName names the connections of this package in CLIENT LIST. It is no name of a keyway that
// serves; see guard.ParseConnection.
const connName = "keyway:switch"

// retryPause is the time between two attempts at something that a node refuses for the moment.
const retryPause = 20 * time.Millisecond

// connection is one connection to a node or a replica. It is used for one attempt only.
type connection struct {
	*redis.Conn
	node  *Node
	addr  string
	named error // why the connection has no name
}

// attempt calls try with a new connection until it succeeds, ctx ends, or trying again is of no
// use. Another process that flips the node may end the connection.
func (n *Node) attempt(ctx context.Context, try func(c *connection) error) error {
	var last error
	for {
		err := n.once(ctx, n.Addr, try)
		var e *move.Error
		if !errors.As(err, &e) || !e.Temporary {
			return err
		}
		if last == nil || !isEndOf(err) {
			last = err // otherwise it only says that the time is over
		}
		if pause(ctx, retryPause); ctx.Err() != nil {
			return last
		}
	}
}

// isEndOf reports whether an error comes from the end of a context.
func isEndOf(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// once calls try with a new connection.
func (n *Node) once(ctx context.Context, addr string, try func(c *connection) error) error {
	c, hangUp := n.connect(ctx, addr)
	defer hangUp()
	if c.named = c.ClientSetName(ctx, connName).Err(); c.named != nil && !control.IsReply(c.named) {
		return c.failed("connecting", c.named)
	}
	return try(c)
}

// connect returns a connection, which is dialed for the first command and ends with ctx.
func (n *Node) connect(ctx context.Context, addr string) (c *connection, hangUp func()) {
	client := control.NewClient(control.Options{
		Addr: addr, Account: n.Account, Dial: n.ConnectTimeout, Reply: -1, // only ctx bounds a reply
	})
	stop := context.AfterFunc(ctx, func() { client.Close() }) // the library obeys only ctx's deadline
	c = &connection{Conn: client.Conn(), node: n, addr: addr}
	return c, func() {
		stop()
		c.Close()
		client.Close()
	}
}

// records returns the texts of the libraries of the register, by name.
func (c *connection) records(ctx context.Context) (map[string]string, error) {
	q := redis.FunctionListQuery{LibraryNamePattern: register.Pattern, WithCode: true}
	libraries, err := c.FunctionList(ctx, q).Result()
	if err != nil {
		return nil, c.failed("asking for FUNCTION LIST", err)
	}
	texts := map[string]string{}
	for _, l := range libraries {
		texts[l.Name] = l.Code
	}
	return texts, nil
}

// create creates a library of the register unless there is one of that name. The first content
// stays.
func (c *connection) create(ctx context.Context, code string) error {
	name := register.NameIn([]byte(code))
	sent, err := c.write(ctx, "creating the record "+name, []any{"FUNCTION", "LOAD", code})
	if err == nil && sent[0].Err() != nil && !exists(sent[0].Err()) {
		err = c.failed("creating the record "+name, sent[0].Err())
	}
	return err
}

// exists reports whether FUNCTION LOAD has found a library of that name.
func exists(err error) bool { return strings.Contains(err.Error(), "already exists") }

// send sends commands in one write, and returns them with their replies. The error is one of the
// connection.
func (c *connection) send(ctx context.Context, doing string, commands ...[]any) ([]*redis.Cmd, error) {
	var sent []*redis.Cmd
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its error
		for _, args := range commands {
			sent = append(sent, p.Do(ctx, args...))
		}
		return nil
	})
	for _, cmd := range sent {
		if err := cmd.Err(); err != nil && !control.IsReply(err) {
			return nil, c.failed(doing, err)
		}
	}
	return sent, nil
}

// remedies say what to do about the replies of a node that begin with a text.
var remedies = []struct{ text, remedy string }{
	{"NOPERM", "give backend.username this right with ACL SETUSER"},
	{"NOAUTH", "set backend.password"},
	{"WRONGPASS", "correct backend.username and backend.password"},
	{"READONLY", "it has become a replica: name its master"},
	{"NOREPLICAS", "it has too few replicas: bring them back, or lower its min-replicas-to-write"},
	{"MISCONF", "it cannot save its data: see its log, or set its stop-writes-on-bgsave-error to no"},
	{"BUSY", "wait until its script ends, or end it: SCRIPT KILL"},
	{"LOADING", "wait until it has loaded its data"},
	{"ERR unknown command", "it needs Redis 7.0 or Valkey, with this command not renamed"},
	{"ERR unknown subcommand", "it needs Redis 7.0 or Valkey, with this command not renamed"},
}

// failed returns the error of something that was done over the connection.
func (c *connection) failed(doing string, err error) error {
	e := &move.Error{Node: c.node.Name, Addr: c.addr, Doing: doing, Err: err}
	if !control.IsReply(err) {
		e.Temporary, e.Remedy = true, "start the node, or repair the network"
		return e
	}
	for _, r := range remedies {
		if strings.HasPrefix(err.Error(), r.text) {
			e.Remedy = c.node.Remedy(r.remedy)
		}
	}
	for _, text := range []string{"BUSY ", "LOADING ", "NOREPLICAS ", "MASTERDOWN "} {
		e.Temporary = e.Temporary || strings.HasPrefix(err.Error(), text)
	}
	return e
}

// refused returns the error of something that the registers do not allow.
func (n *Node) refused(doing, remedy, format string, args ...any) error {
	return &move.Error{Node: n.Name, Addr: n.Addr, Doing: doing, Err: fmt.Errorf(format, args...), Remedy: remedy}
}
