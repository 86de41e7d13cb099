package proxy

import (
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// rereadAfter is how long reads wait behind a large reply before they are sent again.
// Most large replies arrive sooner, so the node does not read anything twice.
const rereadAfter = 20 * time.Millisecond

// rereadBehind resends reads that wait on a retired connection behind a large reply or a
// script. They go over the connection that replaced it; the replies on the retired
// connection are dropped. Writes stay, since the node may have executed them.
//
// Either all of a client's commands move or none. A read that moved alone could see a
// later write of its client. It could also run before an earlier write, or after a later
// read. And its client would still have to wait for the command that stays.
//
//	retired  [GET large, of c1] [GET a, c2] [GET b, c3] [SET d, c2] [GET e, c1]
//	fresh    [GET b, c3]
func (w *Worker) rereadBehind(conn *pool.Conn) {
	stay := map[*Session]bool{}
	for place, to := range conn.Unanswered() {
		switch to := to.(type) {
		case *call:
			if place == 0 || !to.mayBeReread() {
				stay[to.req.sess] = true
			}
		case execReply:
			stay[to.req.sess] = true
		}
	}
	var reads []*call
	var frames [][]byte
	for place, to := range conn.Unanswered() {
		if c, ok := to.(*call); ok && !stay[c.req.sess] {
			reads, frames = append(reads, c), append(frames, conn.DropReply(place))
		}
	}
	for i, c := range reads {
		c.reread = true
		c.deadline = w.deadline()
		c.node.retried++
		if key := w.knownLarge(c, frames[i]); key != 0 {
			w.goLarge(c, c.node, key)
		}
		w.resend(c, frames[i], c.node, c.asking)
	}
}

// mayBeReread reports whether a call on a shared connection may be sent again, and its
// first reply dropped. Each call may be reread once: even where many values are large
// without keyway knowing, the node does at most twice the work.
func (c *call) mayBeReread() bool {
	s := c.req.sess
	return s != nil && !c.reread && c.isHarmless() && c.isRepeatable() && len(s.retry) == 0 && len(s.away) == 0
}

// knownLarge returns the hash of the only key in a call's frame if its value is known to
// be large, and 0 otherwise.
func (w *Worker) knownLarge(c *call, frame []byte) uint64 {
	var p resp.Parser
	_, st, err := p.Next(frame, &resp.DefaultLimits)
	if err != nil || st != resp.Ready || p.Len() <= c.req.cmd.Single {
		return 0
	}
	return w.largeRead(c.req.sess, c.req.cmd, &p)
}
