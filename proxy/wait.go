package proxy

import (
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

const (
	maxExclusive  = 256 // WAITs at a time on one node
	idleExclusive = 4   // connections kept for the next ones
)

// wait answers WAIT numreplicas timeout for the client's own writes.
//
// Redis measures WAIT against the replication offset after the last command of
// the connection it came on (replication.c, waitCommand). The client's writes
// went over the shared connection, where WAIT would hold up everybody; on
// another one it would count from nothing and lie. So WAIT goes on a connection
// of its own behind a PING: the PING comes after the client's writes, which
// have been answered, so its offset is theirs or later. The count can be too
// low, when others write much; it is never too high.
func wait(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if _, ok := resp.ParseInt(a.Arg(1)); !ok {
		return w.answerError(s, cmd, errNotInteger)
	}
	timeout, ok := resp.ParseInt(a.Arg(2))
	if !ok || timeout > 1<<40 {
		return w.answerError(s, cmd, "ERR timeout is not an integer or out of range") // timeout.c
	}
	if timeout < 0 {
		return w.answerError(s, cmd, errTimeoutNeg)
	}
	if s.inflight > 0 {
		// Its own writes must be answered first.
		s.set(held)
		return false
	}
	var nodes []*node
	for _, n := range w.nodes {
		if s.wrote.has(n.ordinal) {
			nodes = append(nodes, n)
		}
	}
	ping := len(nodes) > 0
	if !ping {
		n, _ := w.anyMaster(s)
		if n == nil {
			return w.answerError(s, cmd, errNoMasters)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if n.exclusive >= maxExclusive {
			return w.answerError(s, cmd, errWaitBusy)
		}
	}
	deadline := int64(0)
	if timeout > 0 {
		deadline = w.now + timeout*1e6 + int64(w.o.Backend.RequestTimeout)
	}
	r := w.newRequest(s, cmd)
	r.kind = merged
	r.merge = w.getMerger(len(nodes))
	r.parts = len(nodes)
	s.set(held | blocked) // what the client sends next waits, as in Redis
	for i, n := range nodes {
		c := r.merge.call(r, i)
		c.group, c.node = -1, n
		s.inflight++
		conn := n.takeExclusive(w)
		if ping {
			conn.Send(&probe{done: func([]byte, bool) {}}, []byte("*1\r\n$4\r\nPING\r\n"), w.now, deadline)
		}
		conn.Send(&exclusive{call: c, conn: conn}, a.Frame(), w.now, deadline)
		n.waits = append(n.waits, wait1{conn, r})
	}
	return true
}

// wait1 is one exclusive connection in use, and for whom.
type wait1 struct {
	conn *pool.Conn
	req  *request
}

// exclusive is the receiver of a call on a connection that is its client's
// alone.
type exclusive struct {
	call *call
	conn *pool.Conn
}

func (e *exclusive) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	n := e.call.node
	if p.Last {
		n.release(e.conn, true)
	}
	e.call.Reply(conn, frame, p)
}

func (e *exclusive) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	e.call.node.release(e.conn, false)
	e.call.Failed(conn, frame, f)
}

// takeExclusive returns a connection for one client's use.
func (n *node) takeExclusive(w *Worker) *pool.Conn {
	n.exclusive++
	for len(n.idle) > 0 {
		c := n.idle[len(n.idle)-1]
		n.idle = n.idle[:len(n.idle)-1]
		if c.State() == pool.Ready {
			return c
		}
		c.Close(w.now, "lost while idle")
	}
	return w.set.Conn(n.addr, n)
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
	if well && len(n.idle) < idleExclusive && c.State() == pool.Ready && c.InFlight() == 0 {
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
	for _, c := range n.idle {
		c.Close(now, reason)
	}
	for _, wt := range slices.Clone(n.waits) { // failing takes itself off the list
		wt.conn.Close(now, reason)
	}
}

// tickExclusive watches the exclusive connections: their deadlines, and
// clients that have left.
func (w *Worker) tickExclusive() {
	for _, n := range w.nodes {
		for i := len(n.waits) - 1; i >= 0 && i < len(n.waits); i-- {
			if wt := n.waits[i]; wt.req.sess == nil {
				w.doomed = append(w.doomed, wt.conn)
			} else {
				wt.conn.Tick(w.now)
			}
		}
	}
	for len(w.doomed) > 0 {
		c := w.doomed[len(w.doomed)-1]
		w.doomed = w.doomed[:len(w.doomed)-1]
		c.Close(w.now, "no longer needed")
	}
}
