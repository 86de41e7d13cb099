package move

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transfer"
)

const (
	// replyTimeout is the longest wait for one reply. DUMP and RESTORE of a hash of 100 MB
	// take seconds.
	replyTimeout = time.Minute
	// idLength is the length of a server's run ID.
	idLength = 40
)

// Options name a node and the account to use there.
type Options struct {
	Name, Addr string
	control.Account
	ConnectTimeout time.Duration
	// Epoch, if not 0, is the epoch of the layout in which keys may move. In a later one, nothing may
	// move any more: what this process takes for a key's new node is its former one then.
	Epoch int64
	// Durable says when keys count as moved that move to the node.
	Durable transfer.Durability
}

// Node is a server that keys move from or to. All its methods may be called from several
// goroutines.
type Node struct {
	Name, Addr string
	// ID is the run ID of the server when Open asked it. Two addresses with one ID are one
	// server, from which nothing must be moved to itself.
	ID      string
	Version string

	cluster     bool // the server is part of a Redis Cluster
	evicts      bool // the server may evict keys that do not expire
	hasReplicas bool
	lfu         bool // the server counts how often keys are used, not when
	o           Options
	client      *redis.Client // of database 0

	mu        sync.Mutex
	databases map[int]*redis.Client // for questions; see database
	arrived   []arrival             // see remember
	seenID    string                // the run ID of the server that was checked last

	announced struct {
		name  string
		admit func(clients string) error // nil: Announce was not called
		lock  chan struct{}              // for one who holds it while the node answers; others obey their contexts
		by    *connection                // open since it has looked at the clients
	}
}

// Open connects to a node and asks what it is. A node that is not a master is an error, and
// so is a cluster's node whose slots are moving: its keys are on two nodes. Close
// closes its connections. Errors are *Error.
func Open(ctx context.Context, o Options) (*Node, error) {
	n := &Node{Name: o.Name, Addr: o.Addr, o: o, databases: map[int]*redis.Client{}}
	n.announced.lock = make(chan struct{}, 1)
	n.client = n.database(0)
	if err := n.identify(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) identify(ctx context.Context) error {
	text, err := n.client.Info(ctx).Result()
	if err != nil {
		return n.failed("asking for INFO", err)
	}
	fields := map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if field, value, ok := strings.Cut(line, ":"); ok {
			fields[field] = value
		}
	}
	n.ID, n.Version = fields["run_id"], fields["redis_version"]
	if v := fields["valkey_version"]; v != "" {
		n.Version = v
	}
	n.cluster = fields["redis_mode"] == "cluster" || fields["server_mode"] == "cluster"
	n.hasReplicas = fields["connected_slaves"] != "" && fields["connected_slaves"] != "0"
	n.evicts = strings.HasPrefix(fields["maxmemory_policy"], "allkeys-")
	n.seenID = n.ID
	n.lfu = strings.Contains(fields["maxmemory_policy"], "lfu")
	switch {
	case len(n.ID) != idLength:
		return &Error{
			Node: n.Name, Addr: n.Addr, Doing: "reading run_id from INFO", Err: fmt.Errorf("it is %q", n.ID),
			Remedy: "name the Redis server itself: without its run ID, two addresses may be one server",
		}
	case fields["role"] != "master":
		return &Error{
			Node: n.Name, Addr: n.Addr, Doing: "reading role from INFO", Err: fmt.Errorf("it is a %s", fields["role"]),
			Remedy: "name its master " + fields["master_host"] + ":" + fields["master_port"],
		}
	}
	if !n.cluster {
		return nil
	}
	view, err := n.client.Do(ctx, "CLUSTER", "NODES").Text()
	if err != nil {
		return n.failed("asking for CLUSTER NODES", err)
	}
	for line := range strings.Lines(view) {
		if strings.Contains(line, "myself") && strings.Contains(line, " [") {
			return &Error{
				Node: n.Name, Addr: n.Addr, Doing: "reading CLUSTER NODES",
				Err:    errors.New("some of its slots are moving"),
				Remedy: "wait until that has ended, or end it with redis-cli --cluster fix",
			}
		}
	}
	return nil
}

// InCluster reports whether the node is part of a Redis Cluster, which executes only
// transactions whose keys are in one slot.
func (n *Node) InCluster() bool { return n.cluster }

// open returns a client of a database.
func (n *Node) open(db int) *redis.Client {
	return control.NewClient(control.Options{
		Addr: n.o.Addr, Account: n.o.Account, DB: db,
		Dial: n.o.ConnectTimeout, Reply: replyTimeout, Connections: 1000,
	})
}

// Close closes the node's connections.
func (n *Node) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.databases {
		c.Close()
	}
	if n.announced.by != nil {
		n.announced.by.Close()
	}
}

// Libraries returns the code of the clients' libraries of functions by name. There are none if the node
// does not say: Redis before 7.0, or a user without that right.
func (n *Node) Libraries(ctx context.Context) (map[string]string, error) {
	all, err := n.client.FunctionList(ctx, redis.FunctionListQuery{WithCode: true}).Result()
	if err != nil && !control.IsReply(err) {
		return nil, n.failed("asking for FUNCTION LIST", err)
	}
	codes := map[string]string{}
	for _, l := range all {
		if !register.IsRecord([]byte(l.Name)) {
			codes[l.Name] = l.Code
		}
	}
	return codes, nil
}

// Load loads a library of functions that the node does not have.
func (n *Node) Load(ctx context.Context, name, code string) error {
	if err := n.client.FunctionLoad(ctx, code).Err(); err != nil {
		return n.failed("loading library "+name, err)
	}
	return nil
}

// Databases returns the databases that have keys, in the order of their numbers.
func (n *Node) Databases(ctx context.Context) ([]info.Database, error) {
	text, err := n.client.Info(ctx, "keyspace").Result()
	if err != nil {
		return nil, n.failed("asking for INFO keyspace", err)
	}
	return info.Databases(text), nil
}

// Ping returns the time that the node takes to answer.
func (n *Node) Ping(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := n.client.Ping(ctx).Err()
	return time.Since(began), err
}

// connect opens a connection that may move keys of a database. The caller closes it.
func (n *Node) connect(ctx context.Context, db int) (*connection, error) {
	c, err := n.dial(ctx, db)
	if err != nil {
		return nil, err
	}
	if err = n.present(ctx, c); err == nil {
		err = n.reopened(ctx, c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// isInEpoch returns an error if the node is in another epoch than keys may move in. The connection has
// its name by then, so a change of the layout finds and ends it, if it does not find the change.
func (n *Node) isInEpoch(ctx context.Context, c *connection) error {
	if n.o.Epoch == 0 {
		return nil
	}
	libraries, err := c.FunctionList(ctx, redis.FunctionListQuery{LibraryNamePattern: register.Pattern}).Result()
	if err != nil {
		return n.failed("asking for FUNCTION LIST", err)
	}
	epoch := int64(0)
	for _, l := range libraries {
		epoch = max(epoch, register.Entering(l.Name))
	}
	if epoch == n.o.Epoch {
		return nil
	}
	return &Error{
		Node: n.Name, Addr: n.Addr, Doing: "looking at its register", Temporary: epoch < n.o.Epoch,
		Err:    fmt.Errorf("the node is in epoch %d of the layout; keys move only in epoch %d", epoch, n.o.Epoch),
		Remedy: "see whether the layout has been changed again meanwhile: then it is that change that moves keys",
	}
}

// dial opens a connection to a database, and names it.
func (n *Node) dial(ctx context.Context, db int) (c *connection, err error) {
	client := n.open(db)
	c = &connection{Conn: client.Conn(), node: n, client: client}
	if err := c.Ping(ctx).Err(); err != nil {
		c.Close()
		if db != 0 && (strings.Contains(err.Error(), "DB index") || strings.Contains(err.Error(), "SELECT is not")) {
			return nil, &Error{
				Node: n.Name, Addr: n.Addr, Doing: fmt.Sprintf("selecting database %d", db), Err: err,
				Remedy: "raise databases in its configuration, or empty this database on the other nodes",
			}
		}
		return nil, n.failed("connecting", err)
	}
	if n.announced.name != "" {
		if err := c.ClientSetName(ctx, n.announced.name).Err(); err != nil {
			c.Close()
			return nil, n.failed("naming a connection", err)
		}
	}
	if err := n.isInEpoch(ctx, c); err != nil {
		c.Close()
		return nil, err
	}
	text, err := c.Info(ctx, "server").Result()
	if err == nil {
		c.runID, err = runIDOf(text)
	}
	if err != nil {
		c.Close()
		return nil, n.failed("asking for INFO", err)
	}
	return c, nil
}

// connection is one connection to a node. After an error of the network it fails for good,
// so a WATCH and its EXEC never travel over different connections.
type connection struct {
	*redis.Conn
	node   *Node
	client *redis.Client
	runID  string // of the server that it leads to
}

func (c *connection) Close() {
	c.Conn.Close()
	c.client.Close()
}

// exchange sends the commands of a step in one pipeline, and passes all replies to the batch. It
// returns an error only if the connection failed.
func (c *connection) exchange(ctx context.Context, step transfer.Step, b *transfer.Batch) error {
	raw := make([]*redis.RawCmd, 0, step.Replies)
	var p resp.Parser
	for frames := step.Frames; len(frames) > 0; {
		n, _, err := p.Next(frames, &noLimits)
		if err != nil || n == 0 {
			return fmt.Errorf("a command for node %s cannot be sent: %w", c.node.Name, err)
		}
		args := make([]any, p.Len())
		for i := range args {
			args[i] = p.Arg(i)
		}
		raw, frames = append(raw, redis.NewRawCmd(ctx, args...)), frames[n:]
	}
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, cmd := range raw {
			_ = p.Process(ctx, cmd) // a pipeline keeps it, and fails as a whole
		}
		return nil
	})
	if err != nil {
		return c.node.failed("moving keys", err)
	}
	for _, cmd := range raw {
		b.Reply(cmd.Val())
	}
	return nil
}

// noLimits is for commands of transfer, whose values come from a node.
var noLimits = resp.Limits{
	MaxArgs: math.MaxInt32, MaxBulk: math.MaxInt32, MaxRequest: math.MaxInt32, MaxInline: math.MaxInt32,
}

// replyError is an error reply of a node.
type replyError string

// Error implements error.
func (e replyError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (e replyError) RedisError() {}
