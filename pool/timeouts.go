package pool

import (
	"fmt"
	"strings"
	"time"
)

// Tick does what is due at the time now: it fails attempts to connect and requests that
// take too long, dials after a back-off, and sends integrity checks.
func (c *Conn) Tick(now int64) {
	c.tick(now)
	if c.state == Ready && c.unchecked > 0 && c.fifo.n > 0 && now-c.checkedAt >= maxUnchecked {
		c.sendCheck(now)
	}
	c.expire(now)
}

const noAnswer = "no answer within "

func noAnswerWithin(limit time.Duration) string { return fmt.Sprint(noAnswer, limit) }

// IsNoAnswer reports whether a link has ended for this reason because the node was silent.
func IsNoAnswer(reason string) bool { return strings.HasPrefix(reason, noAnswer) }

// expire fails overdue requests. A timeout measures silence. No request is overdue while
// bytes of a reply or request pass, reading is paused, or the node answers BUSY because
// of a script. The connection ends if an overdue request was not completely written, or
// the node has sent nothing for a whole request timeout: later requests would wait in
// vain.
func (c *Conn) expire(now int64) {
	if c.progress.written || c.readPaused {
		c.progress.written, c.progress.at = false, now
	}
	if now-c.progress.at < int64(c.set.RequestTimeout) {
		return
	}
	for i := 0; i < c.fifo.n; i++ {
		e := c.fifo.at(i)
		if e.to == nil || e.deadline == 0 || e.deadline > now {
			continue
		}
		reason := noAnswerWithin(c.set.RequestTimeout)
		if c.state != Ready && c.reason != "" {
			reason = c.reason // what it waits for
		}
		written := e.end() <= c.queue.written
		if c.state != Ready || !written || now-c.lastReceived >= int64(c.set.RequestTimeout) {
			c.Stats.Timeouts += overdue(c, i, now)
			if c.state == Down { // requests have waited too long for the back-off to end
				c.drop(c.reason)
				return
			}
			c.dialing.silent = true
			c.fail(now, reason)
			return
		}
		c.Stats.Timeouts++
		to := e.to
		e.to = nil
		to.Failed(c, e.frame(), Failure{
			Reason: reason, Sent: true, Timeout: true, Midway: i == 0 && c.midReply, WrittenAt: e.at + e.queued,
		})
	}
}

// overdue returns how many requests are overdue, from one of them on.
func overdue(c *Conn, from int, now int64) (n uint64) {
	for i := from; i < c.fifo.n; i++ {
		if e := c.fifo.at(i); e.to != nil && e.deadline != 0 && e.deadline <= now {
			n++
		}
	}
	return n
}

// SentScript records that the request that was just sent runs a script or function. The
// node may be busy with it for a long time.
func (c *Conn) SentScript(now int64) {
	if c.fifo.n == 0 || c.fifo.at(0).pos >= c.script {
		c.scriptAt = now
	}
	c.script = c.queue.pos
}

// IsStuck reports whether a script is unanswered and the node has sent nothing over this
// connection for the duration silence. Until a script ends, Redis reads nothing more
// from the script's connection, and answers other connections with BUSY.
func (c *Conn) IsStuck(now int64, silence time.Duration) bool {
	return c.state == Ready && !c.readPaused && c.expectsReply() && c.fifo.at(0).pos < c.script &&
		now-max(c.lastReceived, c.scriptAt) >= int64(silence)
}

// IsSilent reports whether the node has sent nothing over this connection for the duration
// silence, although a request has been unanswered for at least that long.
func (c *Conn) IsSilent(now int64, silence time.Duration) bool {
	lastSign := max(c.lastReceived, c.progress.at)
	if c.state != Ready || c.readPaused || !c.expectsReply() || now-lastSign < int64(silence) {
		return false
	}
	for i := range c.fifo.n {
		if e := c.fifo.at(i); e.deadline != 0 {
			return now-(e.deadline-int64(c.set.RequestTimeout)) >= int64(silence)
		}
	}
	return false
}

// PostponeTimeouts postpones all timeouts: no request is overdue until one more request timeout
// has passed. Callers use it when the node has answered BUSY over another connection.
func (c *Conn) PostponeTimeouts(now int64) { c.progress.at = now }
