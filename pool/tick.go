package pool

import (
	"fmt"
	"time"
)

// Busy tells whether Tick has anything to watch.
func (c *Conn) Busy() bool {
	return c.fifo.n > 0 || c.state != Ready && c.state != Closed
}

// Tick lets time act: greetings that take too long, requests past their
// deadline, a back-off that has ended.
func (c *Conn) Tick(now int64) {
	switch c.state {
	case Idle:
		if c.Stats.Losses > 0 {
			c.dial(now)
		}
	case Down:
		if now >= c.retryAt {
			c.dial(now)
		}
	case Dialing, Greeting:
		if limit := c.greetingTimeout(); now-c.dialedAt >= int64(limit) {
			c.fail(now, fmt.Sprintf("no answer within %s", limit))
		}
	case Ready:
		if c.attempts > 0 && now-c.since >= int64(shortLife) {
			c.attempts = 0
		}
		if c.unfenced > 0 && c.fifo.n > 0 && now-c.fencedAt >= fenceEvery {
			c.sendFence(now)
		}
	}
	c.expire(now)
}

// greetingTimeout is how long an attempt to connect may take. A node that runs a
// slow command answers a greeting as late as any request; one that has just let
// requests time out, or that could not be reached, must be quicker.
func (c *Conn) greetingTimeout() time.Duration {
	if c.state == Dialing || c.silent || c.attempts > 0 {
		return c.set.ConnectTimeout
	}
	return max(c.set.ConnectTimeout, c.set.RequestTimeout)
}

// expire fails overdue requests. Time-outs are about silence: while part of a reply
// or of a request gets through, reading is paused, or the node says that it is busy with
// a script, no request is overdue, and none that waits behind one. If an overdue request
// was never written, or the node has said nothing at all since before it was sent, the
// connection ends: requests behind it would only wait in vain.
func (c *Conn) expire(now int64) {
	if c.taken || c.hold {
		c.taken = false
		c.moved = now
	}
	if now-c.moved < int64(c.set.RequestTimeout) {
		return
	}
	for i := 0; i < c.fifo.n; i++ {
		e := c.fifo.at(i)
		if e.to == nil || e.deadline == 0 || e.deadline > now {
			continue
		}
		c.Stats.Timeouts++
		reason := fmt.Sprintf("no answer within %s", c.set.RequestTimeout)
		if c.state != Ready || e.pos+uint64(e.len) > c.queue.written || now-c.heard >= int64(c.set.RequestTimeout) {
			if c.state == Down { // what waits for the back-off to end has waited for too long
				c.drop(Failure{Reason: c.reason})
				return
			}
			c.silent = true
			c.fail(now, reason)
			return
		}
		to := e.to
		e.to = nil
		to.Failed(c, e.frame(), Failure{Reason: reason, Sent: true, Timeout: true, Midway: i == 0 && c.mid})
	}
}
