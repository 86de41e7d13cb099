package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Conn is a node's side of a connection.
type Conn struct {
	ID   int64
	Name string // of CLIENT SETNAME
	// Epoch is the highest number among the libraries keyway_<number> when the connection last
	// asked for them; -1: it has not asked.
	Epoch int64
	// Owner is for the caller.
	Owner any

	node    *Node
	used    int64 // when it has sent its last command, in milliseconds
	deliver func([]byte)
	hangUp  func()
	version resp.Version // 0: RESP2
	closed  bool
	closing bool                        // it is closed behind the reply
	wait    func(*Conn) []byte          // returns the reply when the wait is over; nil: it does not wait
	unblock func(withError bool) []byte // the reply if CLIENT UNBLOCK ends the wait
	written int64                       // where the stream was after its last write

	asking, multi, multiAsking, broken bool
	queue                              [][]string
	watched                            map[string]int // the version of each key at the time of WATCH
	inBlock                            bool           // a transaction or script is executed, in which nothing waits
}

// Waits reports whether a command of the connection waits for its reply.
func (c *Conn) Waits() bool { return c.wait != nil }

// Closed reports whether the connection has ended.
func (c *Conn) Closed() bool { return c.closed }

// Close ends the connection, as the node does when the other side has closed it.
func (c *Conn) Close() {
	c.closed, c.wait = true, nil
	isC := func(o *Conn) bool { return o == c }
	c.node.conns = slices.DeleteFunc(c.node.conns, isC)
	c.node.blocked = slices.DeleteFunc(c.node.blocked, isC)
}

func (c *Conn) protocol() resp.Version {
	if c.version == 0 {
		return resp.V2
	}
	return c.version
}

// null returns the reply without a value.
func (c *Conn) null() []byte { return c.protocol().AppendNull(nil) }

// spoil makes EXEC fail, if the connection is in MULTI.
func (c *Conn) spoil() { c.broken = c.broken || c.multi }

// Spoil makes EXEC fail, as the error of a queued command does.
func (c *Conn) Spoil() { c.spoil() }

// Discard ends MULTI and WATCH.
func (c *Conn) Discard() {
	c.multi, c.multiAsking, c.broken, c.queue, c.watched = false, false, false, nil, nil
}

// await makes the connection wait. check returns the reply once there is one.
func (c *Conn) await(timeout time.Duration, check func() []byte, onTimeout func() []byte) []byte {
	n := c.node
	until := n.Clock() + int64(timeout)
	c.unblock = func(withError bool) []byte {
		if withError {
			return errorReply("UNBLOCKED client unblocked via CLIENT UNBLOCK")
		}
		return onTimeout()
	}
	c.wait = func(*Conn) []byte {
		if reply := check(); reply != nil {
			return reply
		}
		if timeout > 0 && n.Clock() >= until {
			return onTimeout()
		}
		return nil
	}
	n.blocked = append(n.blocked, c)
	return nil
}

func hello(c *Conn, args []string) []byte {
	if len(args) > 1 {
		switch args[1] {
		case "2":
			c.version = resp.V2
		case "3":
			c.version = resp.V3
		default:
			return errorReply("NOPROTO unsupported protocol version")
		}
	}
	if len(args) == 4 && strings.EqualFold(args[2], "SETNAME") {
		c.Name = args[3]
	}
	b := c.protocol().AppendMap(nil, 7)
	for _, s := range []string{"server", "redis", "version", "7.0.15", "proto"} {
		b = resp.AppendBulkString(b, s)
	}
	b = resp.AppendInt(b, int64(c.protocol()))
	b = resp.AppendInt(resp.AppendBulkString(b, "id"), c.ID)
	for _, s := range []string{"mode", "standalone", "role", "master", "modules"} {
		b = resp.AppendBulkString(b, s)
	}
	return resp.AppendArray(b, 0)
}

func client(c *Conn, args []string) []byte {
	n := c.node
	switch strings.ToUpper(args[1]) {
	case "ID":
		return resp.AppendInt(nil, c.ID)
	case "SETNAME":
		if strings.ContainsAny(args[2], " \n") {
			return errorReply("ERR Client names cannot contain spaces, newlines or special characters.")
		}
		c.Name = args[2]
		return resp.AppendOK(nil)
	case "GETNAME":
		if c.Name == "" {
			return c.null()
		}
		return resp.AppendBulkString(nil, c.Name)
	case "NO-TOUCH", "NO-EVICT":
		return resp.AppendOK(nil)
	case "LIST":
		text := ""
		for _, o := range n.conns {
			text += o.line()
		}
		return c.protocol().AppendText(nil, []byte(text))
	case "KILL":
		return c.killOthers(args[2:])
	case "UNBLOCK":
		for _, o := range n.blocked {
			if strconv.FormatInt(o.ID, 10) == args[2] {
				n.unblock(o, o.unblock(len(args) > 3 && strings.EqualFold(args[3], "ERROR")))
				return resp.AppendInt(nil, 1)
			}
		}
		return resp.AppendInt(nil, 0)
	}
	n.unknown(args)
	return errorReply("ERR unknown subcommand '" + args[1] + "'. Try CLIENT HELP.")
}

// line returns the connection's line of CLIENT LIST.
func (c *Conn) line() string {
	flags, multi := "N", -1
	if c.multi {
		flags, multi = "x", len(c.queue)
	}
	if c.wait != nil {
		flags = "b"
	}
	return fmt.Sprintf("id=%d addr=10.1.0.1:%d laddr=10.0.0.1:6379 fd=8 name=%s age=0 idle=%d flags=%s "+
		"db=0 sub=0 psub=0 ssub=0 multi=%d user=default redir=-1 resp=%d\n",
		c.ID, 10000+c.ID, c.Name, (c.node.now()-c.used)/1000, flags, multi, c.protocol())
}

// killOthers executes CLIENT KILL with filters.
func (c *Conn) killOthers(filters []string) []byte {
	skipMe, kill := true, []*Conn{}
	for _, o := range c.node.conns {
		fits := true
		for i := 0; i+1 < len(filters); i += 2 {
			switch value := filters[i+1]; strings.ToUpper(filters[i]) {
			case "ID":
				fits = fits && strconv.FormatInt(o.ID, 10) == value
			case "TYPE":
				fits = fits && strings.EqualFold(value, "normal")
			case "USER":
				fits = fits && value == "default"
			case "SKIPME":
				skipMe = !strings.EqualFold(value, "no")
			default:
				return errorReply(syntax)
			}
		}
		if fits {
			kill = append(kill, o)
		}
	}
	count := int64(0)
	for _, o := range kill {
		switch {
		case o != c:
			c.node.kill(o)
		case skipMe:
			continue
		default:
			c.closing = true
		}
		count++
	}
	return resp.AppendInt(nil, count)
}
