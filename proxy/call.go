package proxy

import (
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slowlog"
)

// call is one frame sent to one node for a request. It receives its own reply: the
// connection's FIFO points at it until the reply is complete.
type call struct {
	req       *request
	node      *node
	group     int32 // of its keys, -1 for none
	index     int32 // index among the request's calls
	deadline  int64 // when the first attempt must be answered
	waitUntil int64 // while it waits to be sent again: when it gives up
	timeout   int64 // when the timeout of a blocking command ends; 0: none
	alone     alone // receiver of the reply, in the exclusive lane

	lane    lane
	once    bool // it means something only on its connection, such as WATCH
	replica bool // it reads from a replica, and is in the session's reading
	attempts
	reread     bool // sent again because it waited behind a large reply or a script
	redirected bool // counted in the session's redirecting
	waiting    bool // in the session's retry list
	asking     bool // sent behind ASKING
	sentAsEval bool // an EVALSHA that was sent as EVAL

	// A later command of the client was answered while keyway checked this call's error.
	// Or, when the connection ended: this read might see a later write of its client.
	isOvertaken bool

	caching caching
	asked   *askingReply   // receiver of the reply to ASKING
	read    freshness.Read // from a replica
	block   *block         // of an EXEC, which is sent as this block
	frame   []byte         // its copy, valid only while the call waits to be sent again
	lastErr []byte         // the last error, valid only while the call waits to be sent again
}

// attempts count what has happened to a call so far.
type attempts struct {
	hops   uint8 // redirects followed
	tries  uint8 // times that it began to wait to be sent again
	losses uint8 // connections that ended after it was written
}

// Reply receives a piece of the node's reply.
func (c *call) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	r := c.req
	s := r.sess
	if p.First && !p.Last && announcesLarge(p.Bytes) {
		c.worker().largeValues.begins(c, conn, frame)
	}
	if s == nil {
		if p.Last {
			r.unfinished--
			c.worker().freeIfDone(r)
		}
		return
	}
	w := s.w
	failed := false
	if c.replica && p.Whole() && w.table.Clustered() && c.read.Doubtful(p.Bytes) && c.readAgain(frame, true) {
		return
	}
	if p.Kind == '-' {
		failed = true
		if c.asked != nil && c.asked.refusal != nil && isRedirect(p.Bytes) {
			p.Bytes = c.asked.refusal
		}
		if p.Whole() && c.onError(conn, frame, p.Bytes) {
			return
		}
	} else if c.sentAsEval {
		c.sentAsEval = false
		w.scripts.cache.Ran(c.node.ordinal, frame)
	}
	if r.merge != nil {
		r.merge.add(int(c.index), p.Bytes)
		s.parked += len(p.Bytes)
		w.grown += len(p.Bytes)
		s.bound()
	} else {
		r.deliver(p.Bytes)
		if !p.Last && r.begun && s.out.Size() > softOutput {
			w.slowReaders.pause(c, conn)
		}
	}
	if p.Last {
		if r.unfinished == 1 && w.slowLog.IsSlow(w.now-r.start) {
			r.recordSlow(frame)
		}
		if !c.replica {
			w.retries.failOvertaken(s, c)
		}
		if c.tries > 0 {
			c.node.servedAt = w.now
		}
		c.finish(failed)
	}
}

// worker returns the call's worker, even if its client has left.
func (c *call) worker() *Worker { return c.node.w }

// Failed ends the call, or sends it again, when no reply or no more of it will arrive.
func (c *call) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	r := c.req
	w := c.worker()
	if w.table.Changes() {
		w.ready.Refresh = true
	}
	if !f.Timeout {
		w.scripts.cache.Forget(c.node.ordinal) // a restarted node may lack the scripts
	}
	if r.sess == nil {
		r.unfinished--
		w.freeIfDone(r)
		return
	}
	if r.begun {
		// The client has the beginning of the reply, so keyway cannot send an error.
		// Closing the connection shows the client that the reply is incomplete.
		r.sess.kill()
		c.finish(true)
		return
	}
	if c.replica {
		if c.node.lag.Doubt(); c.readAgain(frame, false) {
			return
		}
	}
	c.forgetReceived()
	if c.outlives(conn, frame, f) {
		return
	}
	if f.Sent {
		if w.slowLog.IsSlow(w.now - r.start) {
			r.recordSlow(frame)
		}
		if !c.replica {
			w.retries.failOvertaken(r.sess, c) // the node may have executed it
		}
		w.stats.UnknownOutcome++
		if r.merge != nil {
			r.merge.unknown = true
		}
		c.settle(resp.AppendError(w.scratch[:0], outcomeUnknown(c.node, f)))
		return
	}
	c.unreachable(frame, f.Reason)
}

// recordSlow records a slow request. frame is what was sent to the node, or to
// one of the nodes.
func (r *request) recordSlow(frame []byte) {
	w := r.sess.w
	w.slowLog.Record(slowlog.Slow{
		Command: r.cmd, Frame: frame, Took: w.now - r.start, At: w.wall, Peer: r.sess.peer, Name: r.sess.about.Name,
	})
}

// outcomeUnknown returns the error for a command that the node may have executed.
func outcomeUnknown(n *node, f pool.Failure) string {
	if f.Timeout {
		return errtext.NoReplyYet(n.label(), f.Reason)
	}
	return errtext.ConnectionEnded(n.label(), f.Reason)
}

// refuse ends a call that the node surely did not execute.
func (c *call) refuse(reason string) {
	w := c.worker()
	w.stats.NotExecuted++
	if w.table.Changes() {
		w.ready.Refresh = true
	}
	c.settle(resp.AppendError(w.scratch[:0], errtext.NotExecuted(c.node.label(), reason)))
}

// settle ends a call with a complete reply.
func (c *call) settle(reply []byte) {
	r := c.req
	if s := r.sess; s != nil {
		if r.merge != nil {
			m := r.merge
			s.parked -= len(m.replies[c.index])
			m.replies[c.index] = append(m.replies[c.index][:0], reply...)
			s.parked += len(reply)
		} else {
			r.deliver(reply)
		}
	}
	c.waitsNoMore()
	c.finish(len(reply) > 0 && reply[0] == '-')
}

// abandon ends a call whose client has left while the call waited to be sent again.
func (c *call) abandon() {
	c.waitsNoMore()
	c.req.unfinished--
}

// settleFor is settle for a call whose client may have left.
func (c *call) settleFor(reply []byte) {
	w := c.worker()
	if c.req.sess == nil {
		c.req.unfinished--
		w.freeIfDone(c.req)
		return
	}
	c.settle(reply)
}

// settleNull ends a call with a null: an EXEC as if a watched key had changed, a blocking
// command as if its time were up.
func (c *call) settleNull() {
	var null []byte
	if s := c.req.sess; s != nil {
		null = s.protocol().AppendNullArray(nil)
	}
	c.settleFor(null)
}

var _ pool.Receiver = (*call)(nil)
