package proxy

import (
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// rereadAfter is how long reads wait behind a large reply before they are sent again.
// Most large replies pass sooner, and then the node need not read anything twice.
const rereadAfter = 20 * time.Millisecond

// rereadBehind sends reads again that are behind a large reply, or a script, on a retired
// connection, over the one that has taken its place. The replies that come over the retired one are
// dropped. Writes wait there, since the node may have executed them.
//
// A client's commands go or stay together. A read that went alone could see what its
// client writes behind it, or be executed before a write in front of it, or after a
// read behind it. And its client has to wait anyway for the command that stays.
//
//	retired  [GET large, of c1] [GET a, c2] [GET b, c3] [SET d, c2] [GET e, c1]
//	fresh    [GET b, c3]
func (w *Worker) rereadBehind(conn *pool.Conn) {
	stay := map[*Session]bool{}
	for place, to := range conn.Waiting() {
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
	for place, to := range conn.Waiting() {
		if c, ok := to.(*call); ok && !stay[c.req.sess] {
			reads, frames = append(reads, c), append(frames, conn.Forget(place))
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

// mayBeReread reports whether a call that is under way on a shared connection may be
// sent once more, and its first reply be dropped. It may once: where many values are
// large and not known to be, the node has twice the work at most.
func (c *call) mayBeReread() bool {
	s := c.req.sess
	return s != nil && !c.reread && c.isHarmless() && c.isRepeatable() && len(s.retry) == 0 && len(s.away) == 0
}

// knownLarge returns the hash of the only key of a call's frame, if the value is known
// to be large, and 0 otherwise.
func (w *Worker) knownLarge(c *call, frame []byte) uint64 {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || p.Len() <= c.req.cmd.Single {
		return 0
	}
	return w.largeRead(c.req.sess, c.req.cmd, &p)
}
