package model

import (
	"math"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

func exists(c *Conn, args []string) []byte {
	count := int64(0)
	for _, k := range args[1:] {
		if c.node.data.Has(k) { // this does not count as use
			count++
		}
	}
	return resp.AppendInt(nil, count)
}

func typeOf(c *Conn, args []string) []byte {
	switch e := c.node.data.entries[args[1]]; {
	case e == nil:
		return resp.AppendSimple(nil, "none")
	case e.list != nil:
		return resp.AppendSimple(nil, "list")
	}
	return resp.AppendSimple(nil, "string")
}

// del executes DEL and UNLINK.
func del(c *Conn, args []string) []byte {
	count := int64(0)
	for _, k := range args[1:] {
		if c.node.data.Has(k) {
			c.node.put(k, nil)
			count++
		}
	}
	return resp.AppendInt(nil, count)
}

// ttl executes TTL, PTTL, EXPIRETIME and PEXPIRETIME.
func ttl(unit int64, absolute bool) func(*Conn, []string) []byte {
	return func(c *Conn, args []string) []byte {
		e := c.node.data.entries[args[1]]
		switch {
		case e == nil:
			return resp.AppendInt(nil, -2)
		case e.expiry == 0:
			return resp.AppendInt(nil, -1)
		case absolute:
			return resp.AppendInt(nil, (e.expiry+unit/2)/unit)
		}
		return resp.AppendInt(nil, (max(0, e.expiry-c.node.now())+unit/2)/unit)
	}
}

// expireIn executes EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
func expireIn(unit int64, absolute bool) func(*Conn, []string) []byte {
	return func(c *Conn, args []string) []byte {
		n := c.node
		v, isNumber := number(args[2])
		if !isNumber {
			return errorReply(notInteger)
		}
		if v > math.MaxInt64/unit || v < math.MinInt64/unit || !absolute && v*unit > math.MaxInt64-n.now() {
			return errorReply("ERR invalid expire time in '" + strings.ToLower(args[0]) + "' command")
		}
		v *= unit
		if !absolute {
			v += n.now()
		}
		before := n.lookup(args[1])
		if before == nil {
			return resp.AppendInt(nil, 0)
		}
		if v <= n.now() {
			n.put(args[1], nil)
			return resp.AppendInt(nil, 1)
		}
		e := before.clone()
		e.expiry = v
		n.put(args[1], e)
		return resp.AppendInt(nil, 1)
	}
}

func persist(c *Conn, args []string) []byte {
	before := c.node.lookup(args[1])
	if before == nil || before.expiry == 0 {
		return resp.AppendInt(nil, 0)
	}
	e := before.clone()
	e.expiry = 0
	c.node.put(args[1], e)
	return resp.AppendInt(nil, 1)
}

func renameNX(c *Conn, args []string) []byte {
	n := c.node
	e := n.lookup(args[1])
	switch {
	case e == nil:
		return errorReply("ERR no such key")
	case n.data.Has(args[2]):
		return resp.AppendInt(nil, 0)
	}
	n.put(args[1], nil)
	n.put(args[2], e.clone())
	return resp.AppendInt(nil, 1)
}

func object(c *Conn, args []string) []byte {
	n := c.node
	e := n.data.entries[args[2]]
	const note = "Please note that when switching between policies at runtime LRU and LFU data will take some " +
		"time to adjust."
	switch {
	case e == nil:
		return c.null()
	case strings.EqualFold(args[1], "IDLETIME"):
		if n.LFU {
			return errorReply("ERR An LFU maxmemory policy is selected, idle time not tracked. " + note)
		}
		return resp.AppendInt(nil, (n.Clock()-e.used)/1e9)
	case strings.EqualFold(args[1], "FREQ"):
		if !n.LFU {
			return errorReply("ERR An LFU maxmemory policy is not selected, access frequency not tracked. " + note)
		}
		return resp.AppendInt(nil, min(e.count, 255))
	}
	n.unknown(args)
	return errorReply("ERR unknown subcommand '" + args[1] + "'. Try OBJECT HELP.")
}

func dbsize(c *Conn, _ []string) []byte { return resp.AppendInt(nil, int64(len(c.node.data.entries))) }

func flushAll(c *Conn, _ []string) []byte {
	for _, k := range c.node.data.Keys() {
		c.node.put(k, nil)
	}
	return resp.AppendOK(nil)
}
