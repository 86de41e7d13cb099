package model

import (
	"maps"
	"slices"

	"github.com/keyway-proxy/keyway/resp"
)

func multi(c *Conn, _ []string) []byte {
	if c.multi {
		return errorReply("ERR MULTI calls can not be nested")
	}
	c.multi = true
	return resp.AppendOK(nil)
}

func discard(c *Conn, _ []string) []byte {
	if !c.multi {
		return errorReply("ERR DISCARD without MULTI")
	}
	c.Discard()
	return resp.AppendOK(nil)
}

func watch(c *Conn, args []string) []byte {
	if c.multi {
		return errorReply("ERR WATCH inside MULTI is not allowed")
	}
	if c.watched == nil {
		c.watched = map[string]int{}
	}
	for _, k := range args[1:] {
		if _, is := c.watched[k]; !is {
			c.watched[k] = c.node.data.versions[k]
		}
	}
	return resp.AppendOK(nil)
}

func unwatch(c *Conn, _ []string) []byte {
	c.watched = nil
	return resp.AppendOK(nil)
}

// exec executes what was queued after MULTI (multi.c, execCommand).
func (c *Conn) exec() []byte {
	n, queue, broken, watched, asking := c.node, c.queue, c.broken, c.watched, c.multiAsking
	c.Discard()
	needsMemory := false
	for _, args := range queue {
		row := commands[upper(args[0])]
		needsMemory = needsMemory || row.needsMemory
		keys := row.keysOf(args)
		if len(keys) == 0 || n.Hooks.Redirect == nil {
			continue
		}
		if reply := n.Hooks.Redirect(keys, asking); reply != nil {
			return reply
		}
	}
	if needsMemory && n.isFull() {
		return errorReply("EXECABORT Transaction discarded because of: " + noMemory)
	}
	if broken {
		return errorReply("EXECABORT Transaction discarded because of previous errors.")
	}
	for _, k := range slices.Sorted(maps.Keys(watched)) {
		if n.data.versions[k] != watched[k] {
			return c.protocol().AppendNullArray(nil)
		}
	}
	reply := resp.AppendArray(nil, len(queue))
	c.inBlock = true
	for _, args := range queue {
		reply = append(reply, c.run(args)...)
	}
	c.inBlock = false
	return reply
}

func execAlone(*Conn, []string) []byte { return errorReply("ERR EXEC without MULTI") }
