package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// Node is one server. The zero value has no clock; use New.
type Node struct {
	ID uint64 // of the server, among others
	// Clock returns the node's time in nanoseconds since 1970.
	Clock func() int64
	// Scripts are the scripts that EVAL knows, by their text.
	Scripts map[string]Script
	Hooks   Hooks
	// LFU makes the node count how often keys are used. Otherwise it knows since when they are idle.
	LFU bool
	// MaxMemory is from how many bytes on the node refuses commands that need memory, as with
	// the policy noeviction; 0: never.
	MaxMemory int

	data      *Data
	libraries map[string]string // the texts of functions, by name
	cached    map[string]string // the texts of scripts, by SHA-1
	conns     []*Conn           // those that are open, by id
	blocked   []*Conn           // those that wait, in the order in which they began to
	lastID    int64
	scanSeed  uint64 // of this process: the order in which SCAN walks
	stream    stream
	writer    *Conn // whose command is executed now
}

// Hooks are called while a node executes commands. Each may be nil.
type Hooks struct {
	// Redirect returns the error for keys that the node does not serve now, or nil.
	Redirect func(keys []string, asking bool) []byte
	// Refuse returns an error for a command on keys that the node serves, or nil.
	Refuse func(c *Conn, args []string) []byte
	// Executing sees each command on keys immediately before it is executed, also in
	// transactions, scripts, and at the end of a wait.
	Executing func(c *Conn, args, keys []string)
	// Changed sees each key after it was created, changed or deleted. c is nil if it expired.
	Changed func(c *Conn, key string, before, after bool)
	// Loaded sees each library that FUNCTION LOAD has created.
	Loaded func(name, code string)
	// Popped sees each element that BLPOP or LPOP takes.
	Popped func(key, elem string)
	// Unknown sees commands and scripts that the model does not have.
	Unknown func(args []string)
}

// Script is what a script does. call executes a command and returns its reply.
type Script func(call func(args ...string) []byte, keys, args []string) []byte

// New returns an empty node.
func New(clock func() int64) *Node {
	return &Node{
		Clock: clock, data: NewData(), libraries: map[string]string{}, cached: map[string]string{},
		scanSeed: 1, Scripts: map[string]Script{},
	}
}

// Data returns the node's keys.
func (n *Node) Data() *Data { return n.data }

// SetData replaces the node's keys. Nodes may share them.
func (n *Node) SetData(d *Data) { n.data = d }

// ForgetScripts empties the cache of scripts.
func (n *Node) ForgetScripts() { n.cached = map[string]string{} }

// Open returns a new connection. deliver gets the replies of commands that waited; hangUp is called
// when the node closes the connection by itself.
func (n *Node) Open(deliver func(reply []byte), hangUp func()) *Conn {
	n.lastID++
	c := &Conn{ID: n.lastID, node: n, used: n.now(), deliver: deliver, hangUp: hangUp, Epoch: -1}
	n.conns = append(n.conns, c)
	return c
}

// runID returns the run_id that INFO shows, which differs from one process to the next. It is the master_replid, too.
func (n *Node) runID() string { return fmt.Sprintf("%08x%08x%024x", n.ID, n.scanSeed, 0) }

// Incarnation returns the beginnings of the run_id and the master_replid.
func (n *Node) Incarnation() string { return n.runID()[:16] + n.runID()[:16] }

// Restart ends all connections, as the end of the process does, and forgets what is not saved:
// scripts, and where SCAN has been.
func (n *Node) Restart() {
	for _, c := range slices.Clone(n.conns) {
		n.kill(c)
	}
	n.ForgetScripts()
	n.scanSeed++
}

// kill closes a connection. What it has sent and the node has not executed is lost.
func (n *Node) kill(c *Conn) {
	if c.closed {
		return
	}
	c.Close()
	c.hangUp()
}

// Serve ends the waits that are over by now. Call it at each step of the clock.
func (n *Node) Serve() {
	n.expire()
	for _, c := range slices.Clone(n.blocked) {
		if !slices.Contains(n.blocked, c) {
			continue
		}
		if reply := c.wait(c); reply != nil {
			n.unblock(c, reply)
		}
	}
}

func (n *Node) unblock(c *Conn, reply []byte) {
	c.wait = nil
	n.blocked = slices.DeleteFunc(n.blocked, func(o *Conn) bool { return o == c })
	c.deliver(reply)
}

// now returns the node's time in milliseconds.
func (n *Node) now() int64 { return n.Clock() / 1e6 }

func errorReply(text string) []byte { return resp.AppendError(nil, text) }

const (
	wrongType  = "WRONGTYPE Operation against a key holding the wrong kind of value"
	notInteger = "ERR value is not an integer or out of range"
	syntax     = "ERR syntax error"
	noMemory   = "OOM command not allowed when used memory > 'maxmemory'."
)

// Execute is what a connection of its own would do: the command takes effect at once, between
// two commands of others.
func (n *Node) Execute(args ...string) []byte {
	c := n.Open(func([]byte) {}, func() {})
	defer c.Close()
	return c.Do(args)
}

// Do executes a command and returns its reply. It returns nil if the command waits; deliver gets
// the reply later. Call it neither while the connection waits nor after it has ended.
func (c *Conn) Do(args []string) []byte {
	n := c.node
	n.writer, c.used = c, n.now()
	defer func() { n.writer = nil }()
	n.expire()
	reply := c.process(args)
	n.Serve()
	if c.closing {
		c.closing = false
		c.deliver(reply)
		n.kill(c)
		return nil
	}
	return reply
}

// process executes or queues a command (server.c, processCommand).
func (c *Conn) process(args []string) []byte {
	n := c.node
	asking := c.asking
	c.asking = false
	name := strings.ToUpper(args[0])
	row, known := commands[name]
	if !known {
		n.unknown(args)
		c.spoil()
		return errorReply("ERR unknown command '" + args[0] + "', with args beginning with: " + begin(args[1:]))
	}
	if row.arity > 0 && len(args) != row.arity || len(args) < -row.arity {
		c.spoil()
		return errorReply("ERR wrong number of arguments for '" + strings.ToLower(name) + "' command")
	}
	if name == "OBJECT" && len(args) != 3 { // whose subcommands have arities of their own
		c.spoil()
		return errorReply("ERR wrong number of arguments for 'object|" + strings.ToLower(args[1]) + "' command")
	}
	if c.multi && name == "EXEC" {
		return c.exec()
	}
	keys := row.keysOf(args)
	if len(keys) > 0 && n.Hooks.Redirect != nil {
		if reply := n.Hooks.Redirect(keys, asking || c.multi && c.multiAsking); reply != nil {
			c.spoil()
			return reply
		}
	}
	if (row.needsMemory || c.multi && !isControl(name)) && n.isFull() { // a queue takes memory, too
		c.spoil()
		return errorReply(noMemory)
	}
	if len(keys) > 0 && name != "WATCH" && n.Hooks.Refuse != nil {
		if reply := n.Hooks.Refuse(c, args); reply != nil {
			c.spoil()
			return reply
		}
	}
	if c.multi && !isControl(name) {
		c.queue = append(c.queue, slices.Clone(args))
		return resp.AppendSimple(nil, "QUEUED")
	}
	if name == "MULTI" {
		c.multiAsking = asking
	}
	return c.run(args)
}

// isControl reports whether a command is executed inside MULTI instead of queued.
func isControl(name string) bool {
	switch name {
	case "EXEC", "DISCARD", "MULTI", "WATCH", "QUIT", "RESET":
		return true
	}
	return false
}

// run executes a command that may be executed.
func (c *Conn) run(args []string) []byte {
	row := commands[strings.ToUpper(args[0])]
	if keys := row.keysOf(args); len(keys) > 0 && !row.calls {
		c.node.executing(c, args, keys)
	}
	reply := row.run(c, args)
	if row.writes {
		c.written = c.node.stream.end()
	}
	return reply
}

func (n *Node) executing(c *Conn, args, keys []string) {
	if n.Hooks.Executing != nil {
		n.Hooks.Executing(c, args, keys)
	}
}

func (n *Node) unknown(args []string) {
	if n.Hooks.Unknown != nil {
		n.Hooks.Unknown(args)
	}
}

// begin returns arguments as the error of an unknown command shows them.
func begin(args []string) string {
	b := ""
	for _, a := range args {
		b += "'" + a + "' "
	}
	return b
}

func number(s string) (int64, bool) {
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil && strconv.FormatInt(v, 10) == s
}
