package sim

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// wait is a BLPOP that a node has not answered yet.
type wait struct {
	key   string
	until int64
}

// askPop sends a BLPOP from a queue of the client, usually after an RPUSH to it. Without
// the RPUSH the queue may be empty.
func (c *client) askPop(key string) {
	r := c.world.rng
	if r.IntN(4) > 0 {
		q := question{kind: "RPUSH", keys: []string{key}, elem: c.element(), sent: c.world.now}
		c.record(q)
		c.waiting = append(c.waiting, q)
		c.send("RPUSH", key, q.elem)
	}
	c.waiting = append(c.waiting, question{kind: "BLPOP", keys: []string{key}, sent: c.world.now})
	timeouts := []string{"0.05", "0.3", "0"}
	if c.world.drain.at == 0 {
		timeouts = timeouts[:2] // nobody else would end a wait without a timeout
	}
	c.send("BLPOP", key, timeouts[r.IntN(len(timeouts))])
}

// judgePop checks a reply to BLPOP that is not an error.
func (c *client) judgePop(q question, reply []byte) {
	if resp.IsNull(reply) {
		return
	}
	n, rest, _ := resp.Elements(reply)
	first, rest, _ := resp.Split(rest)
	second, _, _ := resp.Split(rest)
	key, _ := resp.Bulk(first)
	elem, _ := resp.Bulk(second)
	f, pushed := c.pushed[q.keys[0]][string(elem)]
	if n != 2 || string(key) != q.keys[0] || !pushed || f == refused {
		c.world.failf("client %d: BLPOP %s is answered with %.80q", c.id, q.keys[0], reply)
	}
	if last := c.popped[q.keys[0]]; seqOf(string(elem)) <= last {
		c.world.failf("client %d: BLPOP %s gives %s after e%d", c.id, q.keys[0], elem, last)
	}
	c.popped[q.keys[0]] = seqOf(string(elem))
	c.delivered[q.keys[0]]++
}

// pop executes a BLPOP. If the list is empty, it returns nil and the command waits.
func (n *node) pop(l *link, key, timeout string) []byte {
	if list := n.lists[key]; len(list) > 0 {
		return n.take(key)
	}
	t, _ := strconv.ParseFloat(timeout, 64)
	l.waits = &wait{key: key, until: n.world.now + int64(t*float64(time.Second))}
	if t == 0 {
		l.waits.until = math.MaxInt64
	}
	return nil
}

func (n *node) take(key string) []byte {
	elem := n.lists[key][0]
	if n.lists[key] = n.lists[key][1:]; len(n.lists[key]) == 0 {
		delete(n.lists, key)
	}
	n.versions[key]++
	n.world.executed++
	n.world.pops[key]++
	n.world.poppedElems[key+" "+elem] = true
	return resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(nil, 2), key), elem)
}

// serveWait answers the link's waiting BLPOP if there is a reply by now. It reports whether
// the node may execute the link's next command.
func (n *node) serveWait(l *link) bool {
	if l.waits == nil {
		return true
	}
	var reply []byte
	switch redirected := n.redirect([]string{l.waits.key}, false); {
	case redirected != nil && len(n.lists[l.waits.key]) == 0:
		reply = redirected
	case len(n.lists[l.waits.key]) > 0:
		reply = n.take(l.waits.key)
	case n.world.now >= l.waits.until:
		reply = []byte("*-1\r\n")
	default:
		return false
	}
	n.world.logf("%s on link %d: BLPOP %s ends with %.60q", n, l.id, l.waits.key, reply)
	l.waits = nil
	l.toProxy = append(l.toProxy, reply...)
	return true
}

// clientCommand answers CLIENT ID and CLIENT UNBLOCK.
func (n *node) clientCommand(l *link, args []string) []byte {
	if args[1] == "ID" {
		return resp.AppendInt(nil, int64(l.id))
	}
	for _, other := range n.world.links {
		if other.node == n && other.open && other.waits != nil && fmt.Sprint(other.id) == args[2] {
			other.waits = nil
			other.toProxy = append(other.toProxy, "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"...)
			return resp.AppendInt(nil, 1)
		}
	}
	return resp.AppendInt(nil, 0)
}

// checkPops fails the run if more elements were popped from a queue than were delivered to
// the client or may have been lost.
func (c *client) checkPops() {
	for key, n := range c.world.pops {
		var id int
		fmt.Sscanf(key, "qc%d:", &id)
		if id != c.id {
			continue
		}
		if lost := n - c.delivered[key]; lost > c.unknownPops[key] {
			c.world.failf("client %d: %d elements of %s were popped, %d delivered, %d pops are unknown",
				c.id, n, key, c.delivered[key], c.unknownPops[key])
		}
	}
}
