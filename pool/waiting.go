package pool

import (
	"iter"
	"time"
)

// Waiting yields the requests that somebody waits for, in their order, and their places,
// which hold until a request is sent or answered. The one at place 0 may have part of
// its reply.
func (c *Conn) Waiting() iter.Seq2[int, Receiver] {
	return func(yield func(int, Receiver) bool) {
		for i := range c.fifo.n {
			if to := c.fifo.at(i).to; to != nil && to != (fence{}) && !yield(i, to) {
				return
			}
		}
	}
}

// Lingers reports whether a reply has been passing for the duration or longer. It says
// so once for each reply.
func (c *Conn) Lingers(now int64, d time.Duration) bool {
	if !c.mid || c.began == 0 || now-c.began < int64(d) {
		return false
	}
	c.began = 0
	return true
}

// Forget makes the request at a place one whose reply nobody waits for: the reply is
// dropped when it comes. It returns the request.
func (c *Conn) Forget(place int) (frame []byte) {
	e := c.fifo.at(place)
	e.to, e.deadline = nil, 0
	return e.frame()
}
