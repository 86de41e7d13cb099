package proxy

import (
	"slices"

	"github.com/keyway-proxy/keyway/pool"
)

// idleExclusive is how many connections to a node are kept for the next clients.
const idleExclusive = 4

// inUse is an exclusive connection and the client that has it.
type inUse struct {
	conn  *pool.Conn
	sess  *Session
	by    *askedAlone // of WAIT
	until int64       // when the client has left: how long the connection is waited for
}

// hasRoom reports whether one more connection to the node may be kept for one client: its
// own, or a retired one.
func (n *node) hasRoom() bool {
	return n.exclusive+len(n.retired.conns) < n.w.o.Exclusive && n.w.o.HasRoom()
}

// takeExclusive returns a connection for the use of one session alone, until release.
func (n *node) takeExclusive(use inUse) *pool.Conn {
	use.conn = n.idleOrNew(use.sess)
	return n.lend(use)
}

// lend notes who uses a connection.
func (n *node) lend(use inUse) *pool.Conn {
	n.exclusive++
	n.waits = append(n.waits, use)
	return use.conn
}

// idleOrNew returns a connection that nobody uses.
func (n *node) idleOrNew(s *Session) *pool.Conn {
	for i := len(n.idle) - 1; i >= 0; i-- {
		c := n.idle[i]
		switch {
		case c.State() != pool.Ready:
			c.Close(n.w.now, "lost while idle")
		case s.fits(c):
			n.idle = slices.Delete(n.idle, i, i+1)
			return c
		default:
			continue
		}
		n.idle = slices.Delete(n.idle, i, i+1)
	}
	c := n.newConn()
	s.shape(c)
	return c
}

// takeForRunning returns a connection for a command about the script that runs just
// now. A node that is busy with one answers neither SELECT nor ROLE.
func (n *node) takeForRunning(use inUse) *pool.Conn {
	c := n.w.set.Conn(n.addr, n)
	c.RESP3 = use.sess.has(resp3)
	use.conn = c
	return n.lend(use)
}

// release takes a connection back; one that failed, or that the client left
// waiting, is closed.
func (n *node) release(c *pool.Conn, well bool) {
	for i := range n.waits {
		if n.waits[i].conn == c {
			n.waits = append(n.waits[:i], n.waits[i+1:]...)
			n.exclusive--
			break
		}
	}
	if well && len(c.NextWrite()) == 0 && c.Master == n.sentinel && len(n.idle) < idleExclusive && c.State() == pool.Ready && c.InFlight() == 0 {
		n.idle = append(n.idle, c)
		return
	}
	n.w.doomed = append(n.w.doomed, c)
}

// close ends every connection to the node; what waits on them fails.
func (n *node) close(now int64, reason string) {
	for _, c := range n.conns {
		c.Close(now, reason)
	}
	for _, c := range n.retired.conns {
		c.Close(now, reason)
	}
	for _, c := range n.idle {
		c.Close(now, reason)
	}
	n.closeEar()
	for _, s := range n.w.trackers {
		if c := s.tracking.conns[n]; c != nil {
			delete(s.tracking.conns, n)
			c.Close(now, reason)
		}
	}
	if n.feed != nil {
		n.feed.Close(now, reason)
		n.w.hub.Down(n.feed)
		n.feed = nil
	}
	for _, use := range slices.Clone(n.waits) { // failing takes itself off the list
		use.conn.Close(now, reason)
	}
}

// tickExclusive watches the exclusive connections: their deadlines, and
// clients that have left.
func (w *Worker) tickExclusive() {
	for _, n := range w.nodes {
		for i := len(n.waits) - 1; i >= 0 && i < len(n.waits); i-- {
			if use := &n.waits[i]; use.sess.index < 0 && w.now >= use.until {
				n.release(use.conn, false)
			} else {
				use.conn.Tick(w.now)
			}
		}
	}
	w.closeDoomed()
}

// closeDoomed closes the connections that nobody needs any more.
func (w *Worker) closeDoomed() {
	for len(w.doomed) > 0 {
		c := w.doomed[len(w.doomed)-1]
		w.doomed = w.doomed[:len(w.doomed)-1]
		c.Close(w.now, "no longer needed")
	}
}
