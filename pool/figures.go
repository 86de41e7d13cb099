package pool

import "github.com/keyway-proxy/keyway/metrics"

// answered counts replies that took the same time: most requests that are answered together were
// also sent together.
type answered struct {
	at     int64 // time at which the connection got their requests
	n      uint64
	queued int64 // how long the request of the last one was queued
}

// add counts the reply to e. It comes before the reply is delivered.
func (a *answered) add(e *entry, to *metrics.Histogram, now int64) {
	if e.at != a.at {
		a.count(to, now)
		a.at = e.at
	}
	a.n++
	a.queued = e.queued
}

// count moves what is counted to a histogram.
func (a *answered) count(to *metrics.Histogram, now int64) {
	if a.n > 0 {
		to.ObserveMany(now-a.at, a.n)
		a.n = 0
	}
}

// countError counts a reply by its first piece, if it is an error.
func (c *Conn) countError(p Piece) {
	if p.First && p.Kind == '-' {
		c.Stats.Errors.Count(p.Bytes)
	}
}

// WrittenAt returns when the request was completely written whose reply is being delivered. Call it from
// within Receiver.Reply, for the last piece.
func (c *Conn) WrittenAt() int64 { return c.answered.at + c.answered.queued }

// Waiting returns how many requests wait to be sent, including those that are being written.
func (c *Conn) Waiting() int { return c.fifo.unsent() }

// wrote implements traffic.
func (c *Conn) wrote(now int64) {
	f := &c.fifo
	first, written := f.n-f.unsent(), f.n
	if c.queue.written != c.queue.pos {
		written = f.endsBehind(c.queue.written)
	}
	c.Stats.Writes++
	c.Stats.Requests += uint64(f.head + written - f.sent)
	f.sent = f.head + written
	for ; first < written; first++ {
		e := f.at(first)
		if e.at >= now {
			return // as nearly all: the connection got it and the later ones in this turn
		}
		e.queued = now - e.at
	}
}
