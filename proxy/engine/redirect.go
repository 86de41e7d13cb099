package engine

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/retry"
)

// maxHops bounds the redirects of one command, as Redis's own clients do.
const maxHops = 5

// retries are the calls that wait to be sent again.
type retries struct {
	w        *Worker
	sessions []*Session // those with such calls
	spare    []*Session
	failover int64 // how long a call waits for the successor of a dead node, in nanoseconds
	maxPause int64 // how long a call waits for a node that refuses it, in nanoseconds
	// lostWrites are the writes in flight on connections that have ended in this turn; see
	// Call.WillFail.
	lostWrites map[lostKey]struct{}
}

// follow sends the call to the target of a redirect, if the topology knows that node.
// Otherwise the call waits for a topology that does.
func (c *Call) follow(frame []byte, reply []byte, ask bool, target string) {
	w := c.Worker()
	if ask {
		c.Node.askCount++
	} else {
		c.Node.movedCount++
		w.Ready.Refresh = true
	}
	id, known := w.Table.ByAddr(target)
	if !known {
		w.Ready.Refresh = true
		if !w.retries.putOff(c, frame, reply) {
			text := errtext.NotExecuted(c.Node.Label(), "it redirects to "+target+", which the topology does not know")
			c.Settle(resp.AppendError(w.Scratch[:0], text))
		}
		return
	}
	if waitsBefore(c.Request.Session, c, w.Nodes[id]) {
		// An earlier call to the same group has not been sent there yet. This call must
		// not overtake it.
		if !w.retries.putOff(c, frame, reply) {
			c.Settle(resp.AppendError(w.Scratch[:0], errtext.NotExecuted(c.Node.Label(), "its slot is moving")))
		}
		return
	}
	if c.hops++; c.hops > maxHops {
		w.Stats.NotExecuted++
		c.Settle(resp.AppendError(w.Scratch[:0], errtext.TooManyHops(c.Node.name)))
		return
	}
	if !ask && w.Table.SlotOwner(c.Group) != id {
		w.moveSlot(c.Group, id)
	}
	c.resend(frame, w.Nodes[id], ask)
}

// SendOn sends a call that its node has not executed to the present owner of its keys.
func (c *Call) SendOn(frame []byte) {
	w := c.Worker()
	if !w.PlaceAgain(c, frame) {
		return
	}
	if owner := w.OwnerOf(c.Group); owner != nil {
		c.resend(frame, owner, false)
		return
	}
	unbound := resp.AppendError(nil, errtext.SlotUnbound)
	if w.Ready.Refresh = true; !w.retries.putOff(c, frame, unbound) {
		c.Settle(unbound)
	}
}

// resend sends a call again. The client's later commands wait until the call is finished.
func (c *Call) resend(frame []byte, n *Node, ask bool) {
	c.raiseBarrier()
	if of := n.Worker.Arrivals; of != nil && of.Bring(c, frame) {
		recordTarget(c.Request.Session, c, nil)
		return
	}
	recordTarget(c.Request.Session, c, n)
	if c.Request.Command.Unproven() && !c.Request.Session.Has(OfNodes) {
		var p resp.Parser
		_, st, err := p.Next(frame, &resp.DefaultLimits)
		if err == nil && st == resp.Ready && command.EqualFold(p.Arg(0), c.Request.Command.Name) {
			if full := n.Worker.Scripts.AsEval(c.Request.Command, n, &p); full != nil {
				c.sentAsEval, frame = true, full
			}
		}
	}
	how := plain
	if ask {
		how = behindAsking
	}
	c.start(n, frame, how)
}

// Precedes reports whether a is of an earlier command of their client than b.
func Precedes(a, b *Call) bool { return a.Request.seq < b.Request.seq }

// raiseBarrier makes the client's later commands wait until the call is finished.
func (c *Call) raiseBarrier() {
	if !c.Redirected {
		c.Redirected = true
		s := c.Request.Session
		s.redirecting++
		t := s.AllocRareState()
		if t.moving == nil {
			t.moving = map[int32]moving{}
		}
		m := t.moving[c.Group]
		m.calls++
		t.moving[c.Group] = m
	}
}

// moving describes a client's calls for one group of keys that are sent again.
type moving struct {
	calls  int        // sent again and not finished
	target *pool.Conn // the connection of all of them; nil: they use several, or some wait
}

// recordTarget records the node to which a call is sent again; nil: the call waits.
func recordTarget(s *Session, c *Call, n *Node) {
	m := s.moving[c.Group]
	var conn *pool.Conn
	if n != nil {
		conn = n.Conn(s)
	}
	if m.calls > 1 && m.target != conn {
		conn = nil
	}
	m.target = conn
	s.moving[c.Group] = m
}

// arrived records that a call that was sent again is finished.
func arrived(s *Session, c *Call) {
	c.Redirected = false
	s.redirecting--
	m := s.moving[c.Group]
	if m.calls--; m.calls > 0 {
		s.moving[c.Group] = m
	} else {
		delete(s.moving, c.Group)
	}
}

// changeGroup gives a call another group, also in the session's count of calls that are sent
// again.
func changeGroup(s *Session, c *Call, group int32) {
	if c.Redirected {
		m := s.moving[c.Group]
		if m.calls--; m.calls > 0 {
			s.moving[c.Group] = m
		} else {
			delete(s.moving, c.Group)
		}
		s.moving[group] = moving{calls: s.moving[group].calls + 1}
	}
	c.Group = group
}

// waitsBefore reports whether c, sent to target, could overtake an earlier call of the
// client to c's group. Such a call waits in keyway, or is in flight to another node, or is
// in flight to target over another connection, which was retired meanwhile.
func waitsBefore(s *Session, c *Call, target *Node) bool {
	others, conn := s.moving[c.Group], target.Conn(s)
	if c.Redirected {
		others.calls--
	}
	if len(s.checking) == 0 && (others.calls == 0 || others.target == conn) {
		return false // a short cut: the line may have thousands of requests
	}
	for _, calls := range [2][]*Call{s.Retry, s.checking} {
		for _, other := range calls {
			if other.Group == c.Group && other.Request.seq < c.Request.seq {
				return true
			}
		}
	}
	if s.redirecting == 0 {
		return false // the node's replies come in order, so all earlier calls there are finished
	}
	elsewhere := func(other *Call) bool {
		return other.Group == c.Group && !other.replica &&
			(other.Node != target || other.Redirected && others.target != conn)
	}
	for r := s.line.head; r != nil && r != c.Request; r = r.next {
		switch {
		case r.Unfinished == 0:
		case r.Merge == nil:
			if elsewhere(&r.Call) {
				return true
			}
		default: // some of its calls may be finished; waiting for the others does no harm
			for i := range r.Merge.Replies {
				if elsewhere(r.Merge.Calls[i]) {
					return true
				}
			}
		}
	}
	return false
}

// sentAfter reports whether the client has sent a later call to c's group, other than a
// read from a replica.
func sentAfter(s *Session, c *Call) bool {
	for r := c.Request.next; r != nil; r = r.next {
		if r.Merge == nil {
			if r.Call.Group == c.Group && r.Unfinished > 0 && !r.Call.replica {
				return true
			}
			continue
		}
		for i := range r.Merge.Replies {
			if other := r.Merge.Calls[i]; other.Group == c.Group && !other.replica {
				return true
			}
		}
	}
	return false
}

// beginCheck adds a call to the away list while keyway checks the call's error.
func beginCheck(s *Session, c *Call) {
	t := s.AllocRareState()
	t.checking = append(t.checking, c)
	c.isOvertaken = false
}

// endCheck removes a call from the away list.
func endCheck(s *Session, c *Call) {
	if i := slices.Index(s.checking, c); i >= 0 {
		s.checking = slices.Delete(s.checking, i, i+1)
	}
}

// weight returns the memory that a call takes while it waits, in bytes.
func weight(c *Call, frame []byte) int {
	n := len(frame) + retry.Cost
	if c.Block != nil {
		n += len(c.Block.Frames)
	}
	return n
}

// mayWait reports whether a call may wait to be sent again. limit is how long its node may refuse
// silently, and how long the call may wait after it was first sent; see retry.Node.MayWait.
func (q *retries) mayWait(c *Call, frame []byte, limit int64) bool {
	if c.tries == 0 {
		began := c.Deadline - int64(q.w.Options.Backend.RequestTimeout)
		c.waitUntil = began + limit
	}
	return c.Node.Retries.MayWait(q.w.Now, c.waitUntil, limit, weight(c, frame), c.Node.Shared.InFlight)
}

// putOff queues the call to be sent again later, if the call may wait. Otherwise it returns
// false and counts the call as not executed.
func (q *retries) putOff(c *Call, frame, reply []byte) bool {
	if !q.mayWait(c, frame, q.maxPause) {
		q.w.Stats.NotExecuted++
		return false
	}
	q.wait(c, frame, reply)
	return true
}

// wait queues the call to be sent again later. reply is the error that the client gets if
// keyway gives the call up before that.
func (q *retries) wait(c *Call, frame, reply []byte) {
	n := c.Node
	n.Retries.Add(weight(c, frame))
	n.retryCount++
	s := c.Request.Session
	s.AllocRareState()
	c.raiseBarrier()
	recordTarget(s, c, nil)
	c.Waiting = true
	c.hops = 0 // the nodes may agree by then
	if c.tries < math.MaxUint8 {
		c.tries++
	}
	c.frame = append(c.frame[:0], frame...)
	c.lastErr = append(c.lastErr[:0], reply...)
	if len(s.Retry) == 0 {
		q.sessions = append(q.sessions, s)
	}
	// The calls keep the order of their first attempts, whatever order they came back in.
	bySeq := func(a, b *Call) int { return cmp.Compare(a.Request.seq, b.Request.seq) }
	at, _ := slices.BinarySearchFunc(s.Retry, c, bySeq)
	s.Retry = slices.Insert(s.Retry, at, c)
	s.retryAt = q.w.Now + q.w.Links.Rand.Int64N(retry.Backoff(c.tries)) + 1
}

// failOvertaken fails queued retries that a later command of the client, by, whose frame it
// gets, to the same group has just overtaken: sent again now, they would be executed out of order. The client gets
// the node's last error, which says that they were not executed. Calls whose error is being
// checked are only marked as overtaken.
func (q *retries) failOvertaken(s *Session, by *Call, frame []byte) {
	if len(s.checking)+len(s.Retry) == 0 {
		return
	}
	spread := q.w.regroup(by, frame) != "" // so it has no group that could be compared
	for _, c := range s.checking {
		may := c.Group == by.Group || q.w.isStale(c) || spread
		c.isOvertaken = c.isOvertaken || may && c.Request.seq < by.Request.seq
	}
	if len(s.Retry) == 0 || by.Group < 0 {
		return
	}
	kept := s.Retry[:0]
	var lost []*Call
	for _, c := range s.Retry {
		if (c.Group == by.Group || spread) && c.Request.seq < by.Request.seq {
			lost = append(lost, c)
		} else {
			kept = append(kept, c)
		}
	}
	s.Retry = kept
	for _, c := range lost {
		countGivenUp(c)
		q.w.Stats.Overtaken++
		c.Settle(q.finalError(c))
	}
}

// finalError returns the error for a call that will not be sent again: the node's last error,
// reworded if it was a redirect. A client that takes keyway for one Redis cannot handle
// MOVED and ASK.
func (q *retries) finalError(c *Call) []byte {
	if refusal.IsRedirect(c.lastErr) {
		text := errtext.NotExecuted(c.Node.Label(), "it redirects to a node that the topology does not know")
		return resp.AppendError(q.w.Scratch[:0], text)
	}
	return c.lastErr
}

// waitsNoMore removes a call from its node's count of waiting calls, if it waits.
func (c *Call) waitsNoMore() {
	if c.Waiting {
		c.Waiting = false
		c.Node.Retries.Remove(weight(c, c.frame))
	}
}

// tick sends calls again that have waited long enough, in the order of their first
// attempts, once the client has no other calls in flight.
func (q *retries) tick() {
	if len(q.sessions) == 0 {
		return
	}
	for _, n := range q.w.Nodes {
		n.Retries.Refill(n.Shared.InFlight())
	}
	due := q.sessions
	q.sessions = q.spare[:0]
	for _, s := range due {
		switch {
		case len(s.Retry) == 0:
		case q.w.Now < s.retryAt:
			q.sessions = append(q.sessions, s)
		case int(s.Inflight) > len(s.Retry) || s.probing || !s.probed && q.probe(s):
			if q.giveUpOverdue(s); len(s.Retry) > 0 {
				q.sessions = append(q.sessions, s)
			}
		default:
			s.probed = false
			q.retry(s)
		}
	}
	clear(due)
	q.spare = due
}

// retry sends a session's waiting calls again, up to the retry budgets of their nodes.
func (q *retries) retry(s *Session) {
	calls := s.Retry
	s.Retry = nil
	for i, c := range calls {
		owner := q.w.target(c)
		if owner != nil && !c.isOverdue(q.w.Now) && !owner.Retries.Spend() {
			if len(s.Retry) == 0 {
				q.sessions = append(q.sessions, s)
			}
			s.Retry = append(s.Retry, calls[i:]...)
			return
		}
		q.tryAgain(c, owner) // may queue c again
	}
}

// giveUpOverdue answers the overdue calls of a session that cannot retry yet.
func (q *retries) giveUpOverdue(s *Session) {
	var kept []*Call
	for _, c := range s.Retry {
		if !c.isOverdue(q.w.Now) {
			kept = append(kept, c)
		}
	}
	overdue := s.Retry
	s.Retry = kept
	for _, c := range overdue {
		if c.isOverdue(q.w.Now) {
			q.giveUp(c)
		}
	}
}

// isOverdue reports whether a call has waited as long as it may, or whether its blocking
// command has timed out.
func (c *Call) isOverdue(now int64) bool { return now >= c.waitUntil || c.isTimedOut(now) }

// isTimedOut reports whether the timeout that the client gave in a blocking command has
// passed.
func (c *Call) isTimedOut(now int64) bool { return c.Timeout > 0 && now >= c.Timeout }

// giveUp ends a call that is overdue.
func (q *retries) giveUp(c *Call) {
	if c.isTimedOut(q.w.Now) { // no element came: null, as from Redis
		c.SettleNull()
		return
	}
	ShowUnanswered(q.w, c, c.frame, 0)
	countGivenUp(c)
	c.Settle(q.finalError(c))
}

// countGivenUp counts a call that will not be sent again. An error of the node's own is one of its error replies.
func countGivenUp(c *Call) {
	c.Worker().Stats.NotExecuted++
	if bytes.HasPrefix(c.lastErr, []byte("-"+errtext.NotReached)) {
		c.Node.failed.NotExecuted++
	}
}

// tryAgain sends a waiting call to owner: the current owner of its slot, or its node's
// successor. If owner is nil, there is no such node, and the call waits longer or fails.
func (q *retries) tryAgain(c *Call, owner *Node) {
	w := q.w
	c.waitsNoMore()
	if c.isOverdue(w.Now) {
		q.giveUp(c)
		return
	}
	if owner == nil {
		w.Ready.Refresh = true
		if c.tries > 4 && !w.MayGetOwner() || !q.putOff(c, c.frame, c.lastErr) {
			c.Settle(q.finalError(c))
		}
		return
	}
	c.resend(c.frame, owner, false)
}
