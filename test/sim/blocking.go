package sim

import (
	"fmt"

	"github.com/keyway-proxy/keyway/resp"
)

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
	last := c.popped[q.keys[0]]
	if seqOf(string(elem)) <= last && f != unknown { // which may arrive late
		c.world.failf("client %d: BLPOP %s gives %s after e%d", c.id, q.keys[0], elem, last)
	}
	c.pushed[q.keys[0]][string(elem)] = acked
	c.popped[q.keys[0]] = max(last, seqOf(string(elem)))
	c.delivered[q.keys[0]]++
}

// popped sees each element that a node pops.
func (w *world) popped(key, elem string) {
	w.pops[key]++
	w.poppedElems[key+" "+elem] = true
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
