package transfer_test

import (
	"fmt"
	"time"

	"github.com/keyway-proxy/keyway/transfer"
)

// op is a client's command, and what it has done.
type op struct {
	client    int
	key       string
	args      []string
	call, end int64
	ended     bool
	executed  bool
	isLost    bool   // a failover has undone it
	found     bool   // the key was there
	got       string // its value
}

// client sends commands one after another, through a keyway that obeys the rule: a command for a
// key goes to its new node only after the old one was proven not to have it.
type client struct {
	w     *world
	id    int
	way   *keyway
	left  int
	conns map[*node]*conn
	then  func() // when it has no more commands
}

// next sends the next command after a while.
func (c *client) next() {
	if c.left--; c.left < 0 {
		if c.then != nil {
			c.then()
		}
		return
	}
	c.w.after(c.w.between(0, 40*time.Millisecond), func() {
		w := c.w
		o := &op{client: c.id, key: w.keys[w.rand.IntN(len(w.keys))]}
		value := fmt.Sprintf("c%d-%d", c.id, c.left)
		lease := fmt.Sprint(w.between(20*time.Millisecond, 300*time.Millisecond).Milliseconds())
		switch w.rand.IntN(8) {
		case 0:
			o.args = []string{"SET", o.key, value}
		case 1:
			o.args = []string{"SET", o.key, "lease " + value, "PX", lease}
		case 2, 3:
			o.args = []string{"SET", o.key, "lease " + value, "PX", lease, "NX"}
		case 4, 5:
			o.args = []string{"DEL", o.key}
		default:
			o.args = []string{"GET", o.key}
		}
		c.do(o)
	})
}

// do gives a command to the client's keyway, or another one if that has died.
func (c *client) do(o *op) {
	o.call = c.w.now
	for c.way == nil || c.way.dead {
		c.way, c.conns = c.w.ways[c.w.rand.IntN(len(c.w.ways))], map[*node]*conn{}
	}
	way := c.way
	c.w.ops = append(c.w.ops, o)
	c.w.after(3*time.Second, func() { c.finish(o) }) // its keyway has died, or is frozen
	way.when(func() { c.prove(way, o) })
}

func (c *client) finish(o *op) {
	if !o.ended {
		o.ended, o.end = true, int64(time.Hour)
		c.way = nil
		c.next()
	}
}

// prove makes sure that the node that the key leaves does not have it.
func (c *client) prove(way *keyway, o *op) {
	from, to := c.w.sides(o.key)
	pull := func() {
		keys := []string{o.key}
		other := c.w.keys[c.w.rand.IntN(len(c.w.keys))]
		if f, t := c.w.sides(other); f == from && t == to && other != o.key {
			keys = append(keys, other)
		}
		way.pull(from, to, keys, func(outcomes []transfer.Key) {
			if outcomes[0].Outcome.IsGone() {
				c.send(way, o)
				return
			}
			way.later(c.w.between(0, 20*time.Millisecond), func() { c.prove(way, o) })
		})
	}
	switch {
	case o.ended:
	case way.absent[o.key]:
		c.send(way, o)
	case c.w.strict: // EXISTS says nothing of the replica
		pull()
	default:
		ask := c.w.connect(from, way, nil)
		ask.copies = true
		ask.do(func(reply []byte) {
			if transfer.ProvesAbsence(reply) {
				way.absent[o.key] = true
				c.send(way, o)
				return
			}
			pull()
		}, "EXISTS", o.key)
	}
}

// send sends the command to the new node. With replicas, it has ended when one has all of it.
func (c *client) send(way *keyway, o *op) {
	if o.ended {
		return
	}
	_, to := c.w.sides(o.key)
	via := c.w.connect(to, way, nil)
	via.current = o
	end := func([]byte) {
		if !o.ended {
			o.ended, o.end = true, c.w.now
			c.next()
		}
	}
	if !c.w.durable {
		via.do(end, o.args...)
		return
	}
	via.do(func([]byte) {}, o.args...)
	via.do(end, "SYNC")
}
