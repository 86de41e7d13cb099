package model

import (
	"math"
	"strconv"

	"github.com/keyway-proxy/keyway/resp"
)

func get(c *Conn, args []string) []byte {
	e := c.node.lookup(args[1])
	switch {
	case e == nil:
		return c.null()
	case e.list != nil:
		return errorReply(wrongType)
	}
	return resp.AppendBulkString(nil, e.text)
}

func strlen(c *Conn, args []string) []byte {
	e := c.node.lookup(args[1])
	switch {
	case e == nil:
		return resp.AppendInt(nil, 0)
	case e.list != nil:
		return errorReply(wrongType)
	}
	return resp.AppendInt(nil, int64(len(e.text)))
}

// setOptions are the options of SET.
type setOptions struct {
	onlyNew, onlyOld, get, keep bool
	expiry                      int64 // 0: none
}

// set executes SET with its options (t_string.c, setGenericCommand).
func set(c *Conn, args []string) []byte {
	n := c.node
	o, wrong := n.parseSet(args[3:])
	if wrong != "" {
		return errorReply(wrong)
	}
	before := n.lookup(args[1])
	reply := resp.AppendOK(nil)
	if o.get {
		if reply = c.null(); before != nil && before.list != nil {
			return errorReply(wrongType)
		} else if before != nil {
			reply = resp.AppendBulkString(nil, before.text)
		}
	}
	if o.onlyNew && before != nil || o.onlyOld && before == nil {
		if o.get {
			return reply
		}
		return c.null()
	}
	e := &entry{text: args[2], expiry: o.expiry}
	if o.keep && before != nil {
		e.expiry = before.expiry
	}
	n.put(args[1], e)
	n.expire()
	return reply
}

func (n *Node) parseSet(args []string) (o setOptions, wrong string) {
	for i := 0; i < len(args); i++ {
		unit, absolute := int64(1000), false
		switch upper(args[i]) {
		case "NX":
			o.onlyNew = true
			continue
		case "XX":
			o.onlyOld = true
			continue
		case "GET":
			o.get = true
			continue
		case "KEEPTTL":
			o.keep = true
			continue
		case "EX":
		case "PX":
			unit = 1
		case "EXAT":
			absolute = true
		case "PXAT":
			unit, absolute = 1, true
		default:
			return o, syntax
		}
		if i++; i == len(args) || o.expiry > 0 {
			return o, syntax
		}
		v, isNumber := number(args[i])
		if !isNumber {
			return o, notInteger
		}
		if v <= 0 || v > math.MaxInt64/unit {
			return o, "ERR invalid expire time in 'set' command"
		}
		if o.expiry = v * unit; !absolute {
			o.expiry += n.now()
		}
	}
	if o.onlyNew && o.onlyOld || o.keep && o.expiry > 0 {
		return o, syntax
	}
	return o, ""
}

func mget(c *Conn, args []string) []byte {
	b := resp.AppendArray(nil, len(args)-1)
	for _, k := range args[1:] {
		if e := c.node.lookup(k); e == nil || e.list != nil {
			b = c.protocol().AppendNull(b)
		} else {
			b = resp.AppendBulkString(b, e.text)
		}
	}
	return b
}

func mset(c *Conn, args []string) []byte {
	if len(args)%2 == 0 {
		return errorReply("ERR wrong number of arguments for 'mset' command")
	}
	for i := 1; i < len(args); i += 2 {
		c.node.put(args[i], &entry{text: args[i+1]})
	}
	return resp.AppendOK(nil)
}

// incr executes INCR and INCRBY.
func incr(c *Conn, args []string) []byte {
	by := int64(1)
	if len(args) > 2 {
		var isNumber bool
		if by, isNumber = number(args[2]); !isNumber {
			return errorReply(notInteger)
		}
	}
	e := &entry{text: "0"}
	if before := c.node.lookup(args[1]); before != nil {
		if before.list != nil {
			return errorReply(wrongType)
		}
		e = before.clone()
	}
	v, isNumber := number(e.text)
	if !isNumber {
		return errorReply(notInteger)
	}
	if by > 0 && v > math.MaxInt64-by || by < 0 && v < math.MinInt64-by {
		return errorReply("ERR increment or decrement would overflow")
	}
	e.text = strconv.FormatInt(v+by, 10)
	c.node.put(args[1], e)
	return resp.AppendInt(nil, v+by)
}

func appendText(c *Conn, args []string) []byte {
	e := &entry{}
	if before := c.node.lookup(args[1]); before != nil {
		if before.list != nil {
			return errorReply(wrongType)
		}
		e = before.clone()
	}
	e.text += args[2]
	c.node.put(args[1], e)
	return resp.AppendInt(nil, int64(len(e.text)))
}
