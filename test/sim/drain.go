package sim

import (
	"bytes"
	"time"

	"github.com/keyway-proxy/keyway/proxy"
)

// draining is when and how keyway stops in a run.
type draining struct {
	at     int64 // 0: it does not
	spread time.Duration
	begun  bool
	left   int // clients that were closed between commands
}

// planDrain makes keyway stop at a random moment.
func (w *world) planDrain() {
	w.drain.at = int64(time.Second) + w.rng.Int64N(int64(2*time.Second))
	w.drain.spread = []time.Duration{0, 300 * time.Millisecond, 1500 * time.Millisecond}[w.rng.IntN(3)]
}

func (w *world) mayDrain() {
	if d := &w.drain; d.at != 0 && !d.begun && w.now >= d.at {
		d.begun = true
		w.logf("keyway stops, and closes the clients within %s", d.spread)
		proxy.Drain(w.workers[0], d.spread)
	}
}

// part closes a client that may leave, like package server, unless it has sent something. The
// client must have the replies to all that it has sent.
func (w *world) part(c *client) (left bool) {
	if b := w.some(c.toProxy); len(c.toProxy) > 0 {
		c.toProxy = c.toProxy[len(b):]
		c.session.Worker.Received(c.session, bytes.Clone(b))
		return false
	}
	if w.now < c.stall {
		return false
	}
	for b := c.session.Output(); len(b) > 0; b = c.session.Output() {
		c.got = append(c.got, b...)
		c.session.Wrote(len(b))
	}
	c.read()
	if len(c.waiting) > 0 {
		w.failf("client %d is closed between commands, and waits for %s", c.id, c.waiting[0].kind)
	}
	w.drain.left++
	w.dismiss(c)
	return true
}

// cut closes a client that got no turn to leave. What it waits for must not have been executed,
// and must not be later.
func (w *world) cut(c *client) {
	for _, q := range c.waiting {
		switch {
		case q.kind == "EXEC":
			c.settle(q.tx, refused)
		case q.elem != "" && q.tx == nil:
			c.pushed[q.keys[0]][q.elem] = refused
		}
	}
	w.dismiss(c)
}

func (w *world) dismiss(c *client) {
	c.open = false
	proxy.Left(c.session, len(c.toProxy) > 0)
	c.session.Worker.Gone(c.session)
	w.logf("client %d is closed with %d commands unanswered", c.id, len(c.waiting))
}

// unclosed reports whether a keyway that stops still has clients.
func (w *world) unclosed() bool { return w.drain.begun && w.workers[0].Clients() > 0 }
