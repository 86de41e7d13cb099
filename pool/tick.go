package pool

import (
	"fmt"
	"time"
)

// Busy reports whether Tick has anything to watch: unanswered requests, or a connection
// that is not ready.
func (c *Conn) Busy() bool {
	return c.fifo.n > 0 || c.state != Ready && c.state != Closed
}

// Tick does what is due at the time now: it fails greetings and requests that take too
// long, dials after a back-off, and sends integrity checks.
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
		if c.attempts > 0 && now-c.since >= int64(minLife) {
			c.attempts = 0
		}
		if c.unchecked > 0 && c.fifo.n > 0 && now-c.checkedAt >= maxUnchecked {
			c.sendCheck(now)
		}
	}
	c.expire(now)
}

// greetingTimeout returns how long an attempt to connect may take. A node that executes
// a slow command answers a greeting as late as any request, so a greeting gets at least
// the request timeout. It gets only the connect timeout if requests have just timed out or
// an attempt has failed, and so does dialing.
func (c *Conn) greetingTimeout() time.Duration {
	if c.state == Dialing || c.silent || c.attempts > 0 {
		return c.set.ConnectTimeout
	}
	return max(c.set.ConnectTimeout, c.set.RequestTimeout)
}

// expire fails overdue requests. A timeout measures silence. No request is overdue while
// bytes of a reply or request pass, reading is paused, or the node answers BUSY because
// of a script. The connection ends if an overdue request was not completely written, or
// the node has sent nothing for a whole request timeout: later requests would wait in
// vain.
func (c *Conn) expire(now int64) {
	if c.writeProgress || c.readPaused {
		c.writeProgress = false
		c.lastProgress = now
	}
	if now-c.lastProgress < int64(c.set.RequestTimeout) {
		return
	}
	for i := 0; i < c.fifo.n; i++ {
		e := c.fifo.at(i)
		if e.to == nil || e.deadline == 0 || e.deadline > now {
			continue
		}
		c.Stats.Timeouts++
		reason := fmt.Sprintf("no answer within %s", c.set.RequestTimeout)
		written := e.pos+uint64(e.len) <= c.queue.written
		if c.state != Ready || !written || now-c.lastReceived >= int64(c.set.RequestTimeout) {
			if c.state == Down { // requests have waited too long for the back-off to end
				c.drop(Failure{Reason: c.reason})
				return
			}
			c.silent = true
			c.fail(now, reason)
			return
		}
		to := e.to
		e.to = nil
		to.Failed(c, e.frame(), Failure{Reason: reason, Sent: true, Timeout: true, Midway: i == 0 && c.midReply})
	}
}
