package transfer_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transfer"
)

// node is a server, with a replica that lags. Its commands are written from the documentation of
// Redis.
type node struct {
	w     *world
	name  string
	life  int   // grows when the replica takes over
	ahead int64 // of its clock
	full  bool  // it refuses commands that take memory
	conns []*conn
	data  map[string]entry

	offset    int64 // of what was written
	replica   map[string]entry
	stream    []write // what the replica has not applied
	confirmed int64
}

type entry struct {
	kind, value string
	expires     int64 // in milliseconds by the node's clock; 0: never
}

// write is a change of a key that travels to the replica.
type write struct {
	key   string
	value entry // of no kind: the key is deleted
	op    *op

	renamed string // the new name of a key that is deleted by this
}

func (n *node) clock() int64 { return n.w.now + n.ahead }

// get returns a key that is there and has not expired: it lives through its last millisecond.
func (n *node) get(key string) (entry, bool) {
	e, ok := n.data[key]
	return e, ok && (e.expires == 0 || n.clock()/1e6 <= e.expires)
}

// deadline returns when an entry expires by the world's clock; 0: never.
func (n *node) deadline(e entry) int64 {
	if e.expires == 0 {
		return 0
	}
	return (e.expires+1)*1e6 - n.ahead
}

// set changes a key for a connection, or deletes it if e has no kind.
func (n *node) set(c *conn, key string, e entry, o *op) {
	if e.kind == "" {
		delete(n.data, key)
	} else {
		n.data[key] = e
	}
	for _, other := range n.conns {
		if _, ok := other.watched[key]; ok {
			other.dirty = true
		}
	}
	n.offset++
	c.offset = n.offset
	n.stream = append(n.stream, write{key: key, value: e, op: o})
	n.w.after(n.w.lag(), n.replicate)
}

// lag returns how long a write takes to the replica.
func (w *world) lag() time.Duration {
	if !w.calm && w.oneIn(3) {
		return w.between(0, 600*time.Millisecond)
	}
	return w.between(time.Millisecond, 30*time.Millisecond)
}

// replicate applies the next write at the replica.
func (n *node) replicate() {
	if len(n.stream) == 0 {
		return
	}
	change := n.stream[0]
	n.stream = n.stream[1:]
	if change.renamed != "" {
		n.replica[change.renamed] = n.replica[change.key]
	}
	if change.value.kind == "" {
		delete(n.replica, change.key)
	} else {
		n.replica[change.key] = change.value
	}
	n.confirmed++
}

// failOver makes the replica the master, and loses what it does not have.
func (n *node) failOver() {
	n.w.logf("%s fails over and loses %d writes", n.name, len(n.stream))
	for _, lost := range n.stream {
		if lost.op != nil {
			lost.op.isLost = true
		}
	}
	n.life++
	n.data, n.stream, n.offset = maps.Clone(n.replica), nil, n.confirmed
	conns := n.conns
	n.conns = nil
	for _, c := range conns {
		c.owner.when(c.close)
	}
}

func (c *conn) null() []byte {
	if c.w.resp3 {
		return []byte("_\r\n")
	}
	return resp.AppendNull(nil)
}

func number(n int64) []byte { return resp.AppendInt(nil, n) }

func failed(text string) []byte { return resp.AppendError(nil, text) }

// execute executes a command. waits says that the reply comes later.
func (n *node) execute(c *conn, args []string) (reply []byte, waits bool) {
	switch name := args[0]; {
	case name == "EXEC":
		return n.exec(c), false
	case name == "MULTI":
		c.multi, c.abort, c.queue = true, false, nil
		return resp.AppendOK(nil), false
	case c.multi:
		if n.full && name == "RESTORE" {
			c.abort = true
			return failed("OOM command not allowed when used memory > 'maxmemory'."), false
		}
		c.queue = append(c.queue, args)
		return resp.AppendSimple(nil, "QUEUED"), false
	case name == "WATCH":
		for _, key := range args[1:] {
			_, c.watched[key] = n.get(key)
		}
		return resp.AppendOK(nil), false
	case name == "UNWATCH":
		c.watched, c.dirty = map[string]bool{}, false
		return resp.AppendOK(nil), false
	case name == "WAIT": // for what this connection has written
		timeout, _ := strconv.Atoi(args[2])
		n.wait(c, args, c.offset, n.w.now+int64(timeout)*1e6)
		return nil, true
	case name == "SYNC": // waits for all that has been written, as long as it takes
		n.wait(c, args, n.offset, n.w.now+int64(time.Hour))
		return nil, true
	}
	return n.run(c, args), false
}

// wait answers when the replica has confirmed an offset, or the time is over.
func (n *node) wait(c *conn, args []string, offset, until int64) {
	c.blocked = true
	switch {
	case c.life != n.life:
	case n.confirmed >= offset && n.w.durable:
		c.answer(args, number(1))
		c.unblock()
	case n.w.now >= until:
		c.answer(args, number(0))
		c.unblock()
	default:
		n.w.after(5*time.Millisecond, func() { n.wait(c, args, offset, until) })
	}
}

func (n *node) exec(c *conn) []byte {
	queue, isDirty := c.queue, c.dirty
	for key, was := range c.watched {
		if _, is := n.get(key); was && !is {
			isDirty = true // it has expired
		}
	}
	isIn := c.multi
	c.multi, c.queue, c.watched, c.dirty = false, nil, map[string]bool{}, false
	switch {
	case !isIn:
		return failed("ERR EXEC without MULTI")
	case c.abort:
		return failed("EXECABORT Transaction discarded because of previous errors.")
	case isDirty && c.w.resp3:
		return []byte("_\r\n")
	case isDirty:
		return []byte("*-1\r\n")
	}
	reply := resp.AppendArray(nil, len(queue))
	for _, args := range queue {
		reply = append(reply, n.run(c, args)...)
	}
	return reply
}

// run executes a command on keys.
func (n *node) run(c *conn, args []string) (reply []byte) {
	defer n.w.check(c, n, args)()
	if !c.copies {
		return n.runForClients(c, args)
	}
	switch args[0] {
	case "TIME":
		micros := n.clock() / 1000
		return resp.AppendCommand(nil, fmt.Sprint(micros/1e6), fmt.Sprint(micros%1e6))
	case "INFO":
		return n.info()
	case "FUNCTION": // RESTORE of nothing, which replicas get
		n.set(c, "", entry{}, nil)
		return resp.AppendOK(nil)
	case "UNLINK":
		count := int64(0)
		for _, key := range args[1:] {
			if _, ok := n.get(key); ok {
				n.set(c, key, entry{}, nil)
				count++
			}
		}
		return number(count)
	case "RESTORE":
		return n.restore(c, args)
	case "OBJECT":
		return number(1)
	}
	return n.about(c, args)
}

// about executes a copier's command about one key.
func (n *node) about(c *conn, args []string) (reply []byte) {
	e, ok := n.get(args[1])
	switch name := args[0]; {
	case name == "EXISTS":
		return number(int64(map[bool]int{true: 1}[ok]))
	case transfer.IsGuard(args[1]):
		return n.guard(c, args)
	case name == "TYPE" && !ok:
		return resp.AppendSimple(nil, "none")
	case name == "TYPE":
		return resp.AppendSimple(nil, e.kind)
	case name == "PEXPIRETIME" && n.w.old || name == "HPEXPIRETIME":
		return failed("ERR unknown command '" + name + "', with args beginning with: ")
	case name == "PEXPIRETIME" || name == "PTTL":
		return n.expiry(e, ok, name == "PTTL")
	case name == "RENAMENX" && !ok:
		return failed("ERR no such key")
	case name == "RENAMENX":
		return n.rename(c, args, e)
	case name == "HGETALL" && !ok:
		return resp.AppendArray(nil, 0)
	case !ok:
		return c.null()
	case name == "DUMP" && e.kind == "hash": // in another order on each node
		return resp.AppendBulkString(nil, e.kind+" "+n.name+" "+e.value)
	case name == "DUMP":
		return resp.AppendBulkString(nil, e.kind+"  "+e.value)
	case name == "GET":
		return resp.AppendBulkString(nil, e.value)
	case name == "HGETALL":
		reply = resp.AppendArray(nil, 4)
		if n.w.resp3 {
			reply = resp.AppendHeader(nil, '%', 2)
		}
		pairs := [][]string{{"name", "x"}, {"value", e.value}}
		if n.name == "n1" {
			slices.Reverse(pairs)
		}
		for _, p := range slices.Concat(pairs...) {
			reply = resp.AppendBulkString(reply, p)
		}
		return reply
	}
	n.w.violated("a copier sends %q", args)
	return failed("ERR unknown")
}

// guard creates or deletes a guard.
func (n *node) guard(c *conn, args []string) []byte {
	_, ok := n.get(args[1])
	switch {
	case args[0] == "SET" && n.full:
		return failed("OOM command not allowed when used memory > 'maxmemory'.")
	case args[0] == "SET":
		n.set(c, args[1], entry{kind: "string"}, nil)
		return resp.AppendOK(nil)
	case ok:
		n.set(c, args[1], entry{}, nil)
	}
	return number(1)
}

func (n *node) info() []byte {
	info := fmt.Sprintf("# Replication\r\nrole:master\r\nmaster_repl_offset:%d\r\n", n.offset)
	if n.w.durable {
		info += fmt.Sprintf("slave0:ip=::1,port=1,state=online,offset=%d,lag=0\r\n", n.confirmed)
	}
	if n.w.resp3 {
		return resp.AppendVerbatim(nil, []byte(info))
	}
	return resp.AppendBulkString(nil, info)
}

func (n *node) restore(c *conn, args []string) []byte {
	expires, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil || expires < 0 || !slices.Contains(args[4:], "ABSTTL") {
		n.w.violated("a copier sends %q", args)
	}
	_, exists := n.get(args[1])
	kind, rest, _ := strings.Cut(args[3], " ")
	_, value, _ := strings.Cut(rest, " ")
	switch {
	case n.full:
		return failed("ERR Bad data format")
	case exists && !slices.Contains(args, "REPLACE"):
		return failed("BUSYKEY Target key name already exists.")
	case expires != 0 && expires <= n.clock()/1e6: // nothing is created
	default:
		n.set(c, args[1], entry{kind, value, expires}, nil)
	}
	return resp.AppendOK(nil)
}

func (n *node) expiry(e entry, ok, relative bool) []byte {
	switch {
	case !ok:
		return number(-2)
	case e.expires == 0:
		return number(-1)
	case relative:
		return number(e.expires - n.clock()/1e6)
	}
	return number(e.expires)
}

func (n *node) rename(c *conn, args []string, e entry) []byte {
	if _, taken := n.get(args[2]); taken {
		return number(0)
	}
	n.set(c, args[1], entry{}, nil)
	n.data[args[2]] = e
	n.stream[len(n.stream)-1].renamed = args[2] // the replica renames as well
	return number(1)
}

// runForClients executes the commands of clients, whose outcome counts as seen when it was sent.
func (n *node) runForClients(c *conn, args []string) []byte {
	if args[0] == "FLUSHALL" {
		for _, key := range slices.Sorted(maps.Keys(n.data)) {
			n.set(c, key, entry{}, nil)
		}
		return resp.AppendOK(nil)
	}
	e, ok := n.get(args[1])
	var o *op
	if c.current != nil {
		o = c.current
		o.executed, o.found = true, ok
		if ok {
			o.got = e.value
		}
	}
	next := entry{kind: "string"}
	if len(args) > 2 {
		next.value = args[2]
	}
	if i := slices.Index(args, "PX"); i > 0 {
		ttl, _ := strconv.ParseInt(args[i+1], 10, 64)
		next.expires = n.clock()/1e6 + ttl
		n.w.deadlines[next.value] = n.deadline(next)
	}
	switch {
	case args[0] == "DEL" && ok:
		n.set(c, args[1], entry{}, o)
		return number(1)
	case args[0] == "DEL":
		return number(0)
	case args[0] == "SET" && ok && slices.Contains(args, "NX"):
		return c.null()
	case args[0] == "SET":
		n.set(c, args[1], next, o)
		return resp.AppendOK(nil)
	case !ok:
		return c.null()
	}
	return resp.AppendBulkString(nil, e.value)
}
