package proxy

import (
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// call is one frame sent to one node for a request. It is its own receiver:
// the connection's FIFO points at it until the reply is complete.
type call struct {
	req       *request
	node      *node
	group     int32 // of its keys, -1 for none
	part      int32 // of its request
	deadline  int64 // of the first attempt
	waitUntil int64 // while it waits to be sent again
	alone     alone // in the exclusive lane

	lane       lane
	replica    bool  // it reads from a replica, and is in the session's reading
	hops       uint8 // redirects followed
	tries      uint8 // times it was put off
	losses     uint8 // connections that ended under it
	reread     bool  // sent again, since it was behind a large reply or a script
	redirected bool  // counted in the session's redirecting
	waiting    bool  // in the session's retry list
	passed     bool  // overtaken while its error was looked into, or when its connection ended
	asking     bool  // sent behind ASKING
	inFull     bool  // an EVALSHA that was sent as EVAL
	caching    caching
	asked      *askingReply // the reply to that ASKING
	read       replicaRead
	reads      *call  // the next one in its chain of the session's reading
	txn        *txn   // of an EXEC: what goes is its block
	frame      []byte // kept while nothing else keeps it
	lastErr    []byte // the node's last word, while it waits to be sent again
}

// Reply is called with the pieces of the node's reply.
func (c *call) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	r := c.req
	s := r.sess
	if p.First && !p.Last && announcesLarge(p.Bytes) {
		c.worker().largeReply(c, conn, frame)
	}
	if s == nil {
		if p.Last {
			r.parts--
			c.worker().freeIfDone(r)
		}
		return
	}
	w := s.w
	failed := false
	if c.replica && p.Whole() && w.table.Clustered() && c.doubtful(p.Bytes) && w.reread(c, frame, true) {
		return
	}
	if p.Kind == '-' {
		failed = true
		if c.asked != nil && c.asked.refusal != nil && isRedirect(p.Bytes) {
			p.Bytes = c.asked.refusal
		}
		if p.Whole() && w.onError(c, conn, frame, p.Bytes) {
			return
		}
	} else if c.inFull {
		c.inFull = false
		w.hasScript(c.node, frame)
	}
	if r.merge != nil {
		r.merge.add(int(c.part), p.Bytes)
		s.parked += len(p.Bytes)
		w.grown += len(p.Bytes)
		w.bound(s)
	} else {
		w.deliver(r, p.Bytes)
		if !p.Last && r.begun && s.out.Size() > softOutput {
			w.holdBack(c, conn)
		}
	}
	if p.Last {
		if w.now-r.start >= w.slowLog.look && r.parts == 1 {
			w.slow(r, frame)
		}
		if !c.replica {
			w.overtaken(s, c)
		}
		if c.tries > 0 {
			c.node.servedAt = w.now
		}
		w.finish(c, failed)
	}
}

// worker finds the worker of a call whose client has left.
func (c *call) worker() *Worker { return c.node.w }

// Failed is called when there will be no (more of a) reply.
func (c *call) Failed(_ *pool.Conn, frame []byte, f pool.Failure) {
	r := c.req
	w := c.worker()
	if w.table.Changes() {
		w.ready.Refresh = true
	}
	if !f.Timeout {
		c.node.proven = nil // it may have been restarted
	}
	if r.sess == nil {
		r.parts--
		w.freeIfDone(r)
		return
	}
	if r.begun {
		// Part of the reply has left: nothing that could follow it would be
		// the reply. The client must see that it broke off.
		w.kill(r.sess)
		w.finish(c, true)
		return
	}
	if c.replica {
		if c.node.doubt(); w.reread(c, frame, false) {
			return
		}
	}
	w.forgetPart(c)
	if w.outlives(c, frame, f) {
		return
	}
	if f.Sent {
		if w.now-r.start >= w.slowLog.look {
			w.slow(r, frame)
		}
		if !c.replica {
			w.overtaken(r.sess, c) // it may have been executed
		}
		w.stats.UnknownOutcome++
		if r.merge != nil {
			r.merge.unknown = true
		}
		w.settle(c, resp.AppendError(w.scratch[:0], errOutcomeUnknown(c.node, f)))
		return
	}
	w.unreachable(c, frame, f.Reason)
}

// refuse ends a call that was surely not executed.
func (w *Worker) refuse(c *call, reason string) {
	w.stats.NotExecuted++
	if w.table.Changes() {
		w.ready.Refresh = true
	}
	w.settle(c, resp.AppendError(w.scratch[:0], errNotExecuted(c.node, reason)))
}

// settle ends a call with a complete reply.
func (w *Worker) settle(c *call, reply []byte) {
	r := c.req
	if s := r.sess; s != nil {
		if r.merge != nil {
			m := r.merge
			s.parked -= len(m.parts[c.part])
			m.parts[c.part] = append(m.parts[c.part][:0], reply...)
			s.parked += len(reply)
		} else {
			w.deliver(r, reply)
		}
	}
	c.waitsNoMore()
	w.finish(c, len(reply) > 0 && reply[0] == '-')
}

// abandon ends a call of a client that has left, one that no connection knows
// of at the moment.
func (w *Worker) abandon(c *call) {
	c.waitsNoMore()
	c.req.parts--
}
