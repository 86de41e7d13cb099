package proxy

import (
	"bytes"
	"math"

	"github.com/keyway-proxy/keyway/pool"
)

// largeFrame is the size from which a request has a connection of its own while it
// lasts. No node refuses a smaller one: proto-max-bulk-len and
// client-query-buffer-limit are 1 MB at least. One that a node refuses ends its
// connection, and one that takes long to pass holds up what is behind it: with a
// connection of its own it harms only itself.
const largeFrame = 1 << 20

// large receives the reply to a large request.
type large struct {
	call *call
	to   pool.Receiver
	conn *pool.Conn
}

// holdLarge reports whether a large command must wait for its client's earlier ones,
// which go over other connections.
func (s *Session) holdLarge(size int) bool {
	if size < largeFrame || s.inflight == 0 {
		return false
	}
	s.set(held)
	return true
}

// goLarge gives the call a connection of its own, and lets its client's later
// commands wait for it. Where too many have one, it shares. So it does if earlier
// commands of its client are on their way.
func (w *Worker) goLarge(c *call, n *node) {
	s := c.req.sess
	if c.replica || s.inflight > c.req.parts || n.exclusive >= w.o.Exclusive {
		return
	}
	l := &large{call: c, to: c}
	if c.txn != nil {
		l.to = execReply{c}
	}
	c.goAlone(l)
	w.fence(c)
}

func (l *large) take(w *Worker, n *node, frame []byte) trip {
	c := l.call
	s := c.req.sess
	if why := n.conn(s).Refusing(); why != "" {
		return trip{refusal: why}
	}
	if !c.req.cmd.Has(readOnly) {
		s.wrote.add(n.ordinal)
	}
	l.conn = n.takeExclusive(w, s)
	// The request is carried out to its end, even if its client leaves.
	n.waits = append(n.waits, inUse{conn: l.conn, sess: s, until: math.MaxInt64})
	return trip{conn: l.conn, frame: frame, deadline: c.deadline}
}

func (l *large) finished() {}

func (l *large) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	if p.Last {
		// After a protocol error the node closes the connection.
		l.call.node.release(conn, !bytes.HasPrefix(p.Bytes, []byte("-ERR Protocol error")))
	}
	l.to.Reply(conn, frame, p)
}

func (l *large) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	l.call.node.release(conn, false)
	l.to.Failed(conn, frame, f)
}
