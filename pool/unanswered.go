package pool

import (
	"iter"
	"time"
)

// Unanswered yields the places and receivers of the unanswered requests in their order,
// without tombstones and integrity checks. A place is valid until a request is sent or
// answered. The request at place 0 may already have the first pieces of its reply.
func (c *Conn) Unanswered() iter.Seq2[int, Receiver] {
	return func(yield func(int, Receiver) bool) {
		for i := range c.fifo.n {
			if to := c.fifo.at(i).to; to != nil && to != (integrityCheck{}) && !yield(i, to) {
				return
			}
		}
	}
}

// IsReplySlow reports whether a reply has been arriving for at least the duration d. It
// returns true once for each reply.
func (c *Conn) IsReplySlow(now int64, d time.Duration) bool {
	if !c.midReply || c.replyBegan == 0 || now-c.replyBegan < int64(d) {
		return false
	}
	c.replyBegan = 0
	return true
}

// DropReply turns the request at a place into a tombstone: its reply will be dropped. It
// returns the request's frame.
func (c *Conn) DropReply(place int) (frame []byte) {
	e := c.fifo.at(place)
	e.to, e.deadline = nil, 0
	return e.frame()
}
