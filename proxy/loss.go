package proxy

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// What becomes of calls whose connection ends. What was not written goes over the
// next connection, and so does what only reads; a write that was on the way may have
// been executed, so its client is told that nobody knows.
//
//	written              not written
//	GET a  SET b 1  GET c | SET d 1  GET e
//	again  unknown  again | again    again      in this order

// maxLosses is how many connections one call may lose: a request that makes its node
// end the connection must not do so for ever.
const maxLosses = 5

// lostKey is a key that a session may have written: by its hash, or any of a node's.
type lostKey struct {
	session, hash uint64
	any           *node
}

// isHarmless reports whether the call may be executed twice.
func (c *call) isHarmless() bool {
	if c.txn != nil {
		return !c.txn.writes
	}
	return c.req.cmd.Has(readOnly)
}

// isRepeatable reports whether the call means the same over another connection. WATCH,
// the EXEC behind it and WAIT do not.
func (c *call) isRepeatable() bool {
	_, blocks := c.alone.(*blocking)
	return c.lane != exclusiveLane || blocks || c.isLarge()
}

// WillFail finds out which reads cannot be sent again: those behind which their client
// has sent a write to the same key, which they might see. It is called for the last
// request first.
func (c *call) WillFail(frame []byte) {
	s := c.req.sess
	c.passed = false
	if s == nil || s.line.n < 2 {
		return
	}
	lost := s.w.lostWrites
	reads := c.isHarmless()
	if reads && len(lost) == 0 {
		return
	}
	var p resp.Parser
	var keys []int
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err == nil && st == resp.Ready && c.txn == nil {
		keys = c.req.cmd.Keys(&p, nil)
	}
	any := lostKey{session: s.id, any: c.node}
	if reads {
		_, c.passed = lost[any]
	} else if len(keys) == 0 && (c.txn != nil || c.req.cmd.Unproven() || c.req.cmd.Has(command.Write)) {
		lost[any] = struct{}{} // others without keys, such as PUBLISH, write none
	}
	for _, i := range keys {
		k := lostKey{session: s.id, hash: s.w.hash(p.Arg(i))}
		if _, wrote := lost[k]; wrote && reads {
			c.passed = true
		} else if !reads {
			lost[k] = struct{}{}
		}
	}
}

// outlives sends a call again whose connection has ended, if that can do no harm. It
// reports whether the call goes on.
func (w *Worker) outlives(c *call, frame []byte, f pool.Failure) bool {
	switch {
	case f.Timeout || w.now >= c.deadline && c.tries == 0 || c.losses >= maxLosses:
		return false
	case f.Sent && (c.passed || !c.isHarmless()):
		return false
	case !c.isRepeatable():
		return false
	}
	n := c.node
	if c.group >= 0 && !c.asking {
		n = w.ownerOf(c.group)
	}
	if n == nil || len(c.req.sess.retry) > 0 && c.group >= 0 { // an earlier command waits
		if !w.mayWait(c, frame, w.patience) {
			return false
		}
		w.wait(c, frame, resp.AppendError(nil, errNotExecuted(c.node, f.Reason)))
		return true
	}
	if f.Sent {
		c.losses++
	}
	n.retried++
	w.resend(c, frame, n, c.asking)
	return true
}

// unreachable ends a call that was surely not executed, since its node cannot be
// reached; or it waits for the node that takes the other's place.
func (w *Worker) unreachable(c *call, frame []byte, reason string) {
	if w.mayFailOver(c, reason) && w.mayWait(c, frame, w.failover) {
		w.ready.Refresh = true
		w.wait(c, frame, resp.AppendError(nil, errNotExecuted(c.node, reason)))
		return
	}
	w.refuse(c, reason)
}

// mayFailOver reports whether another node may soon serve the call's keys.
func (w *Worker) mayFailOver(c *call, reason string) bool {
	if w.failover <= 0 || c.group < 0 || c.replica || !c.isRepeatable() || !w.table.Changes() {
		return false
	}
	if strings.HasPrefix(reason, "BUSY ") {
		return false
	}
	if said, refused := strings.CutPrefix(reason, "the node refuses: "); refused &&
		!strings.HasPrefix(said, "LOADING ") && !strings.HasPrefix(said, "MASTERDOWN ") {
		return false // a password, a database: no other node would say anything else
	}
	if w.private != nil {
		return true // changed by redirects: who follows whom is not known yet
	}
	owner := w.ownerOf(c.group)
	if owner == nil {
		return w.mayGetOwner()
	}
	return (len(owner.replicas) > 0 || w.isRecent(owner.followedAt)) && (owner.sentinel || w.table.Clustered())
}

// mayGetOwner reports whether slots that have no owner may soon have one.
func (w *Worker) mayGetOwner() bool { return w.table.Orphaned() || w.isRecent(w.followedAt) }

// isRecent reports whether a master had replicas so lately that one of them may be about
// to take its place: while that happens, nodes do not agree about who follows whom.
func (w *Worker) isRecent(followedAt int64) bool {
	return followedAt > 0 && w.now-followedAt < w.failover
}

// forgetPart drops what has come of a reply that will come anew.
func (w *Worker) forgetPart(c *call) {
	r := c.req
	if r.merge != nil {
		r.sess.parked -= len(r.merge.parts[c.part])
		r.merge.parts[c.part] = r.merge.parts[c.part][:0]
		return
	}
	r.sess.parked -= len(r.reply)
	w.unpark(r)
}
