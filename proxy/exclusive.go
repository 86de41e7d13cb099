package proxy

import (
	"slices"

	"github.com/keyway-proxy/keyway/pool"
)

// idleExclusive is how many idle exclusive connections to a node are kept for reuse.
const idleExclusive = 4

const errTooManyHeld = "ERR keyway: too many clients hold a connection of their own to this node " +
	"(BLPOP, WATCH, WAIT...); raise backend.exclusive, or ulimit -n"

// exclusives are a node's exclusive connections.
type exclusives struct {
	idle      []*pool.Conn // unused
	waits     []inUse      // in use
	exclusive int          // the number of those in use
}

// inUse is an exclusive connection and the client that uses it.
type inUse struct {
	conn  *pool.Conn
	sess  *Session
	by    alone // the receiver of the reply, if unblockWait looks for it
	until int64 // if the client leaves: when the connection is closed
}

// hasRoom reports whether the limits allow one more connection to the node besides the
// shared ones: an exclusive or a retired one.
func (n *node) hasRoom() bool {
	return n.exclusive+len(n.retired.conns) < n.w.o.Exclusive && n.w.o.HasRoom()
}

// takeExclusive returns a connection that only use.sess uses until release.
func (n *node) takeExclusive(use inUse) *pool.Conn {
	use.conn = n.idleOrNew(use.sess)
	return n.lend(use)
}

// lend records who uses a connection, and counts it.
func (n *node) lend(use inUse) *pool.Conn {
	n.exclusive++
	n.waits = append(n.waits, use)
	return use.conn
}

// idleOrNew returns an idle connection in the session's state, or else a new one. It closes
// idle connections that it finds lost.
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

// takeForRunning returns a connection for a command about the script that is running, such
// as SCRIPT KILL. A node that is busy with a script answers neither SELECT nor ROLE, so the
// connection's greeting has neither.
func (n *node) takeForRunning(use inUse) *pool.Conn {
	c := n.w.set.Conn(n.addr, n)
	c.RESP3 = use.sess.has(resp3)
	use.conn = c
	return n.lend(use)
}

// release ends the use of an exclusive connection. If well is true and the connection can
// be reused, it becomes idle; otherwise it is closed.
func (n *node) release(c *pool.Conn, well bool) {
	for i := range n.waits {
		if n.waits[i].conn == c {
			n.waits = append(n.waits[:i], n.waits[i+1:]...)
			n.exclusive--
			break
		}
	}
	if well && len(c.NextWrite()) == 0 && c.Master == n.sentinel && len(n.idle) < idleExclusive &&
		c.State() == pool.Ready && c.InFlight() == 0 {
		n.idle = append(n.idle, c)
		return
	}
	n.w.doomed = append(n.w.doomed, &c.Link)
}

// close closes every connection to the node. The requests on them fail.
func (n *node) close(now int64, reason string) {
	n.w.scripts.cache.Forget(n.ordinal)
	for _, c := range n.conns {
		c.Close(now, reason)
	}
	for _, c := range n.retired.conns {
		c.Close(now, reason)
	}
	for _, c := range n.idle {
		c.Close(now, reason)
	}
	for _, f := range n.w.features {
		f.closeNode(n, reason)
	}
	for _, use := range slices.Clone(n.waits) { // a failing request removes its entry from n.waits
		use.conn.Close(now, reason)
	}
}

// tickExclusive checks the deadlines on exclusive connections, and closes those whose
// client has left too long ago.
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

// closeDoomed closes the connections in w.doomed.
func (w *Worker) closeDoomed() {
	for len(w.doomed) > 0 {
		c := w.doomed[len(w.doomed)-1]
		w.doomed = w.doomed[:len(w.doomed)-1]
		c.Close(w.now, "no longer needed")
	}
}
