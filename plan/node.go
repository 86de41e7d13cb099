package plan

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

// node is a server of one of the layouts, or of both.
type node struct {
	name, addr   string
	side         Side // whose account is used
	as           control.Account
	older, newer router.NodeID // None: not in that layout
	replaces     bool          // another server has the node's keys in the old layout

	client *redis.Client
	conn   *redis.Conn // all questions use one connection, because SELECT belongs to it
	err    error       // the node could not be asked, and the following is incomplete

	info    map[string]string // the fields of INFO
	dbs     []info.Database
	clients []client
	// hidesClients reports that the node does not allow CLIENT LIST.
	hidesClients bool
	keyways      []seen
	found        findings
	probe        probe
	loaded       loaded
	used         used
}

// newNode returns a node of a side, which is in neither layout yet.
func newNode(n router.Node, of Side) *node {
	return &node{name: n.Name, addr: n.Addr, side: of, as: of.Accounts(n), older: router.None, newer: router.None}
}

// source reports whether the old layout places keys on the node.
func (n *node) source() bool { return n.older != router.None }

func (n *node) close() {
	if n.client != nil {
		n.conn.Close()
		n.client.Close()
	}
}

// connName names plan's own connections in CLIENT LIST.
const connName = "keyway:plan"

// connect connects to the node and asks what it is.
func (n *node) connect(ctx context.Context) error {
	if n.addr == "" {
		return topology.ErrNoAddress
	}
	n.client = control.NewClient(control.Options{
		Addr: n.addr, Account: n.as,
		Dial: n.side.Connect, Reply: n.side.Reply, Connections: 1,
	})
	n.conn = n.client.Conn()
	if err := n.conn.Ping(ctx).Err(); err != nil {
		return err
	}
	text, err := n.conn.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("asking for INFO: %w", err)
	}
	n.info = map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if field, value, ok := strings.Cut(line, ":"); ok {
			n.info[field] = value
		}
		n.addModule(line)
	}
	n.dbs = info.Databases(text)
	return nil
}

// inspect connects to the node, and asks what it is, what it can do and who its clients are.
func (n *node) inspect(ctx context.Context) error {
	if err := n.connect(ctx); err != nil {
		return err
	}
	if err := n.askProbe(ctx); err != nil {
		return err
	}
	if err := n.askLoaded(ctx); err != nil {
		return err
	}
	if err := n.askUsed(ctx); err != nil {
		return err
	}
	return n.askClients(ctx)
}

// number returns a numeric field of INFO, or 0.
func (n *node) number(field string) int64 {
	v, _ := strconv.ParseInt(n.info[field], 10, 64)
	return v
}

func (n *node) mode() string {
	if mode := n.info["redis_mode"]; mode != "" {
		return mode
	}
	return n.info["server_mode"] // Valkey's name
}

// version returns the software and version of the node.
func (n *node) version() string {
	if v := n.info["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	return "Redis " + n.info["redis_version"]
}

// user returns the name of the user that is asked about rights.
func (n *node) user() string {
	if n.as.Username == "" {
		return "default"
	}
	return n.as.Username
}

// pipeline sends commands together. Its error is a failure of the connection: the commands
// have their own errors.
func (n *node) pipeline(ctx context.Context, doing string, fill func(p redis.Pipeliner)) error {
	cmds, _ := n.conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		fill(p)
		return nil
	})
	for _, c := range cmds {
		if err := c.Err(); err != nil && !control.IsReply(err) {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	return nil
}
