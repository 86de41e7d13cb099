package model

import (
	"math"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// list returns a copy of the list of a key, without elements if it is not there, or an error.
func (c *Conn) list(key string) (e *entry, wrong []byte) {
	before := c.node.lookup(key)
	switch {
	case before == nil:
		return &entry{list: []string{}}, nil
	case before.list == nil:
		return nil, errorReply(wrongType)
	}
	return before.clone(), nil
}

func push(right bool) func(*Conn, []string) []byte {
	return func(c *Conn, args []string) []byte {
		e, wrong := c.list(args[1])
		if wrong != nil {
			return wrong
		}
		for _, elem := range args[2:] {
			if right {
				e.list = append(e.list, elem)
			} else {
				e.list = append([]string{elem}, e.list...)
			}
		}
		c.node.put(args[1], e)
		return resp.AppendInt(nil, int64(len(e.list)))
	}
}

// take removes the first or last element of a list, which has one.
func (c *Conn) take(key string, e *entry, left bool) string {
	at := 0
	if !left {
		at = len(e.list) - 1
	}
	elem := e.list[at]
	if left {
		e.list = e.list[1:]
	} else {
		e.list = e.list[:at]
	}
	c.node.put(key, e)
	if c.node.Hooks.Popped != nil {
		c.node.Hooks.Popped(key, elem)
	}
	return elem
}

func pop(left bool) func(*Conn, []string) []byte {
	return func(c *Conn, args []string) []byte {
		e, wrong := c.list(args[1])
		switch {
		case wrong != nil:
			return wrong
		case len(e.list) == 0:
			return c.null()
		}
		return resp.AppendBulkString(nil, c.take(args[1], e, left))
	}
}

func llen(c *Conn, args []string) []byte {
	e, wrong := c.list(args[1])
	if wrong != nil {
		return wrong
	}
	return resp.AppendInt(nil, int64(len(e.list)))
}

func lrange(c *Conn, args []string) []byte {
	from, ok1 := number(args[2])
	to, ok2 := number(args[3])
	if !ok1 || !ok2 {
		return errorReply(notInteger)
	}
	e, wrong := c.list(args[1])
	if wrong != nil {
		return wrong
	}
	size := int64(len(e.list))
	if from < 0 {
		from = max(0, from+size)
	}
	if to < 0 {
		to += size
	}
	if to = min(to, size-1); from > to {
		return resp.AppendArray(nil, 0)
	}
	b := resp.AppendArray(nil, int(to-from+1))
	for _, elem := range e.list[from : to+1] {
		b = resp.AppendBulkString(b, elem)
	}
	return b
}

func blockingPop(left bool) func(*Conn, []string) []byte {
	return func(c *Conn, args []string) []byte {
		seconds, err := strconv.ParseFloat(args[len(args)-1], 64)
		if err != nil || math.IsNaN(seconds) {
			return errorReply("ERR timeout is not a float or out of range")
		}
		if seconds < 0 {
			return errorReply("ERR timeout is negative")
		}
		keys := args[1 : len(args)-1]
		for _, k := range keys {
			if e, wrong := c.list(k); wrong != nil || len(e.list) > 0 {
				return c.takeFirst(keys, left)
			}
		}
		null := func() []byte { return c.protocol().AppendNullArray(nil) }
		if c.inBlock {
			return null()
		}
		return c.await(time.Duration(seconds*float64(time.Second)), func() []byte { return c.look(keys, left) }, null)
	}
}

// look returns the reply to a BLPOP that waits, if there is one now.
func (c *Conn) look(keys []string, left bool) []byte {
	n := c.node
	for _, k := range keys {
		if len(n.data.List(k)) > 0 {
			n.executing(c, []string{map[bool]string{true: "LPOP", false: "RPOP"}[left], k}, []string{k})
			writer := n.writer
			n.writer = c
			defer func() { n.writer = writer }()
			return c.takeFirst([]string{k}, left)
		}
	}
	if n.Hooks.Redirect != nil {
		return n.Hooks.Redirect(keys, false)
	}
	return nil
}

// takeFirst pops from the first key that has a list.
func (c *Conn) takeFirst(keys []string, left bool) []byte {
	for _, k := range keys {
		e, wrong := c.list(k)
		if wrong != nil {
			return wrong
		}
		if len(e.list) > 0 {
			elem := c.take(k, e, left)
			c.written = c.node.stream.end()
			return resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(nil, 2), k), elem)
		}
	}
	return nil
}
