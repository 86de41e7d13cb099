package engine

import (
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slowlog"
)

// Call is one frame sent to one node for a request. It receives its own reply: the
// connection's FIFO points at it until the reply is complete.
type Call struct {
	Request   *Request
	Node      *Node
	Group     int32  // of its keys, -1 for none
	placedIn  uint64 // the LayoutEpoch in which PlaceAgain found the group; 0: dispatch found it
	index     int32  // index among the request's calls
	Deadline  int64  // when the first attempt must be answered
	waitUntil int64  // while it waits to be sent again: when it gives up
	Timeout   int64  // when the timeout of a blocking command ends; 0: none
	alone     alone  // receiver of the reply, in the exclusive lane

	lane    lane
	once    bool // it means something only on its connection, such as WATCH
	replica bool // it reads from a replica, and is in the session's reading
	AttemptCounts
	reread     bool // sent again because it waited behind a large reply or a script
	Redirected bool // counted in the session's redirecting
	Waiting    bool // in the session's retry list
	asking     bool // sent behind ASKING
	sentAsEval bool // an EVALSHA that was sent as EVAL

	// A later command of the client was answered while keyway checked this call's error.
	// Or, when the connection ended: this read might see a later write of its client.
	isOvertaken bool

	caching Caching
	asked   *askingReply   // receiver of the reply to ASKING
	read    freshness.Read // from a replica
	Block   *Block         // of an EXEC, which is sent as this block
	frame   []byte         // its copy, valid only while the call waits to be sent again
	lastErr []byte         // the last error, valid only while the call waits to be sent again
}

// AttemptCounts count what has happened to a call so far.
type AttemptCounts struct {
	hops   uint8 // redirects followed
	tries  uint8 // times that it began to wait to be sent again
	losses uint8 // connections that ended after it was written
}

// Reply receives a piece of the node's reply.
func (c *Call) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	r := c.Request
	s := r.Session
	if p.First && !p.Last && announcesLarge(p.Bytes) {
		c.Worker().largeValues.begins(c, conn, frame)
	}
	if s == nil {
		if r.Merge == nil {
			r.showWitness(p.Bytes)
		}
		if p.Last {
			r.Unfinished--
			c.Worker().freeIfDone(r)
		}
		return
	}
	w := s.Worker
	failed := false
	if c.replica && p.Whole() && w.Table.Clustered() && c.read.Doubtful(p.Bytes) && c.readAgain(frame, true) {
		return
	}
	if p.Kind == '-' {
		failed = true
		if c.asked != nil && c.asked.refusal != nil && refusal.IsRedirect(p.Bytes) {
			p.Bytes = c.asked.refusal
		}
		if p.Whole() && c.onError(conn, frame, p.Bytes) {
			return
		}
	} else if c.sentAsEval {
		c.sentAsEval = false
		w.Scripts.Cache.Ran(c.Node.Ordinal, frame)
	}
	if r.Merge != nil {
		r.Merge.add(int(c.index), p.Bytes)
		s.Parked += len(p.Bytes)
		w.GrownBy += len(p.Bytes)
		s.bound()
	} else {
		r.showWitness(p.Bytes)
		r.deliver(p.Bytes)
		if !p.Last && r.Begun && s.Unsent.Size() > softOutput {
			w.slowReaders.pause(c, conn)
		}
	}
	if p.Last {
		if r.Unfinished == 1 && w.SlowLog.IsSlow(w.Now-r.start) {
			r.recordSlow(frame)
		}
		if !c.replica {
			w.retries.failOvertaken(s, c, frame)
		}
		if c.tries > 0 {
			c.Node.Retries.Served(w.Now)
		}
		c.finish(failed)
	}
}

// Worker returns the call's worker, even if its client has left.
func (c *Call) Worker() *Worker { return c.Node.Worker }

// Failed ends the call, or sends it again, when no reply or no more of it will arrive.
func (c *Call) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	r := c.Request
	w := c.Worker()
	if w.Table.Changes() {
		w.Ready.Refresh = true
	}
	if !f.Timeout {
		w.Scripts.Cache.Forget(c.Node.Ordinal) // a restarted node may lack the scripts
	}
	if r.Session == nil {
		r.Unfinished--
		w.freeIfDone(r)
		return
	}
	if r.Begun {
		// The client has the beginning of the reply, so keyway cannot send an error.
		// Closing the connection shows the client that the reply is incomplete.
		r.Session.Kill()
		c.finish(true)
		return
	}
	if c.replica {
		if c.Node.lag.Doubt(); c.readAgain(frame, false) {
			return
		}
	}
	c.forgetReceived()
	if c.outlives(conn, frame, f) {
		return
	}
	if f.Sent {
		r.RecordIfSlow(frame)
		if !c.replica {
			w.retries.failOvertaken(r.Session, c, frame) // the node may have executed it
		}
		w.Stats.UnknownOutcome++
		if r.Merge != nil {
			r.Merge.unknown = true
		}
		c.Settle(resp.AppendError(w.Scratch[:0], outcomeUnknown(c.Node, f)))
		return
	}
	c.unreachable(frame, f.Reason)
}

// RecordIfSlow records the request if it has taken long and its client is still there. frame
// is as in recordSlow.
func (r *Request) RecordIfSlow(frame []byte) {
	if s := r.Session; s != nil && s.Worker.SlowLog.IsSlow(s.Worker.Now-r.start) {
		r.recordSlow(frame)
	}
}

// recordSlow records a slow request. frame is what was sent to the node, or to
// one of the nodes.
func (r *Request) recordSlow(frame []byte) {
	w := r.Session.Worker
	w.SlowLog.Record(slowlog.Slow{
		Command: r.Command, Frame: frame, Took: w.Now - r.start, At: w.Wall, Peer: r.Session.peer,
		Name: r.Session.About.Name,
	})
}

// outcomeUnknown returns the error for a command that the node may have executed.
func outcomeUnknown(n *Node, f pool.Failure) string {
	if f.Timeout {
		return errtext.NoReplyYet(n.Label(), f.Reason)
	}
	return errtext.ConnectionEnded(n.Label(), f.Reason)
}

// Refuse ends a call that the node surely did not execute.
func (c *Call) Refuse(reason string) {
	w := c.Worker()
	w.Stats.NotExecuted++
	if w.Table.Changes() {
		w.Ready.Refresh = true
	}
	c.Settle(resp.AppendError(w.Scratch[:0], errtext.NotExecuted(c.Node.Label(), reason)))
}

// Settle ends a call with a complete reply.
func (c *Call) Settle(reply []byte) {
	r := c.Request
	if s := r.Session; s != nil {
		if r.Merge != nil {
			m := r.Merge
			s.Parked -= len(m.Replies[c.index])
			m.Replies[c.index] = append(m.Replies[c.index][:0], reply...)
			s.Parked += len(reply)
		} else {
			r.showWitness(reply)
			r.deliver(reply)
		}
	}
	c.waitsNoMore()
	c.finish(len(reply) > 0 && reply[0] == '-')
}

// abandon ends a call whose client has left while the call waited to be sent again.
func (c *Call) abandon() {
	c.waitsNoMore()
	c.Request.Unfinished--
}

// SettleFor is Settle for a call whose client may have left.
func (c *Call) SettleFor(reply []byte) {
	w := c.Worker()
	if r := c.Request; r.Session == nil {
		if r.Merge == nil {
			r.showWitness(reply)
		}
		r.Unfinished--
		w.freeIfDone(r)
		return
	}
	c.Settle(reply)
}

// SettleNull ends a call with a null: an EXEC as if a watched key had changed, a blocking
// command as if its time were up.
func (c *Call) SettleNull() {
	var null []byte
	if s := c.Request.Session; s != nil {
		null = s.Protocol().AppendNullArray(nil)
	}
	c.SettleFor(null)
}

var _ pool.Receiver = (*Call)(nil)
