package proxy

import (
	"bytes"
	"cmp"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

const (
	maxHops  = 5                             // redirects of one command, as Redis's own clients allow
	retryMin = int64(5 * time.Millisecond)   // the shortest back-off of a retry, in nanoseconds
	retryMax = int64(100 * time.Millisecond) // the longest
	// minRetried is how many retries a node gets per tick at least. The retry budget is a
	// fifth of the calls that wait for the node or are in flight to it.
	minRetried = 16
	// maxWaiting bounds the memory of the calls that wait to be sent again to one node.
	maxWaiting = 64 << 20
	// waitingCost is the memory that a waiting call takes besides its bytes.
	waitingCost = 512
)

// retries are the calls that wait to be sent again.
type retries struct {
	w        *Worker
	sessions []*Session // those with such calls
	spare    []*Session
	failover int64 // how long a call waits for the successor of a dead node, in nanoseconds
	maxPause int64 // how long a call waits for a node that refuses it, in nanoseconds
	// lostWrites are the writes in flight on connections that have ended in this turn; see
	// loss.go.
	lostWrites map[lostKey]struct{}
}

// refused reports whether reply, to a plain command, is a refusal for now (such as
// CLUSTERDOWN, but no redirect). If so, it records the refusal.
func (n *node) refused(now int64, reply []byte) bool {
	if !notHere(reply) || isRedirect(reply) {
		return false
	}
	n.refusal, n.refusalAt = append(n.refusal[:0], reply...), now
	return true
}

// refusedAll reports whether reply is an error that Redis gives to all commands
// (cluster.c, getNodeByQuery; server.c, processCommand), and the latest refusal of a plain
// command by the node, at time since or later, was the same error.
func (n *node) refusedAll(since int64, reply []byte) bool {
	all := bytes.HasPrefix(reply, []byte("-LOADING ")) || bytes.HasPrefix(reply, []byte("-MASTERDOWN ")) ||
		string(reply) == "-CLUSTERDOWN The cluster is down\r\n"
	return all && n.refusalAt >= since && bytes.Equal(n.refusal, reply)
}

// redirection parses a redirect, such as "-MOVED 3999 127.0.0.1:6381" or ASK. An empty host
// means the host of the node that answered, which is from (cluster specification, "MOVED
// Redirection"). IPv6 addresses in redirects have no brackets.
func redirection(reply []byte, from string) (ask bool, slot int32, target string, ok bool) {
	text, _ := resp.ErrorText(reply)
	f := strings.Split(string(text), " ")
	if len(f) != 3 || f[0] != "MOVED" && f[0] != "ASK" {
		return false, 0, "", false
	}
	n, err := strconv.ParseUint(f[1], 10, 14)
	if err != nil {
		return false, 0, "", false
	}
	colon := strings.LastIndexByte(f[2], ':')
	if colon < 0 {
		return false, 0, "", false
	}
	host, port := f[2][:colon], f[2][colon+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false, 0, "", false
	}
	if host == "" || host == "?" {
		if host, _, err = net.SplitHostPort(from); err != nil {
			return false, 0, "", false
		}
	}
	return f[0] == "ASK", int32(n), net.JoinHostPort(strings.Trim(host, "[]"), port), true
}

// follow sends the call to the target of a redirect, if the topology knows that node.
// Otherwise the call waits for a topology that does.
func (c *call) follow(frame []byte, reply []byte, ask bool, target string) {
	w := c.worker()
	if ask {
		c.node.asked++
	} else {
		c.node.moved++
		w.ready.Refresh = true
	}
	id, known := w.table.ByAddr(target)
	if !known {
		w.ready.Refresh = true
		if !w.retries.putOff(c, frame, reply) {
			text := errtext.NotExecuted(c.node.label(), "it redirects to "+target+", which the topology does not know")
			c.settle(resp.AppendError(w.scratch[:0], text))
		}
		return
	}
	if waitsBefore(c.req.sess, c, w.nodes[id]) {
		// An earlier call to the same group has not been sent there yet. This call must
		// not overtake it.
		if !w.retries.putOff(c, frame, reply) {
			c.settle(resp.AppendError(w.scratch[:0], errtext.NotExecuted(c.node.label(), "its slot is moving")))
		}
		return
	}
	if c.hops++; c.hops > maxHops {
		w.stats.NotExecuted++
		c.settle(resp.AppendError(w.scratch[:0], errtext.TooManyHops(c.node.name)))
		return
	}
	if !ask && w.table.SlotOwner(c.group) != id {
		w.moveSlot(c.group, id)
	}
	c.resend(frame, w.nodes[id], ask)
}

// resend sends a call again. The client's later commands wait until the call is finished.
func (c *call) resend(frame []byte, n *node, ask bool) {
	c.raiseBarrier()
	recordTarget(c.req.sess, c, n)
	if c.req.cmd.Unproven() {
		var p resp.Parser
		_, st, err := p.Next(frame, &resp.DefaultLimits)
		if err == nil && st == resp.Ready && command.EqualFold(p.Arg(0), c.req.cmd.Name) {
			if full := n.w.scripts.asEval(c.req.cmd, n, &p); full != nil {
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

// raiseBarrier makes the client's later commands wait until the call is finished.
func (c *call) raiseBarrier() {
	if !c.redirected {
		c.redirected = true
		s := c.req.sess
		s.redirecting++
		t := s.allocRareState()
		if t.moving == nil {
			t.moving = map[int32]moving{}
		}
		m := t.moving[c.group]
		m.calls++
		t.moving[c.group] = m
	}
}

// moving describes a client's calls for one group of keys that are sent again.
type moving struct {
	calls  int        // sent again and not finished
	target *pool.Conn // the connection of all of them; nil: they use several, or some wait
}

// recordTarget records the node to which a call is sent again; nil: the call waits.
func recordTarget(s *Session, c *call, n *node) {
	m := s.moving[c.group]
	var conn *pool.Conn
	if n != nil {
		conn = n.conn(s)
	}
	if m.calls > 1 && m.target != conn {
		conn = nil
	}
	m.target = conn
	s.moving[c.group] = m
}

// arrived records that a call that was sent again is finished.
func arrived(s *Session, c *call) {
	c.redirected = false
	s.redirecting--
	m := s.moving[c.group]
	if m.calls--; m.calls > 0 {
		s.moving[c.group] = m
	} else {
		delete(s.moving, c.group)
	}
}

// waitsBefore reports whether c, sent to target, could overtake an earlier call of the
// client to c's group. Such a call waits in keyway, or is in flight to another node, or is
// in flight to target over another connection, which was retired meanwhile.
func waitsBefore(s *Session, c *call, target *node) bool {
	others, conn := s.moving[c.group], target.conn(s)
	if c.redirected {
		others.calls--
	}
	if len(s.away) == 0 && (others.calls == 0 || others.target == conn) {
		return false // a short cut: the line may have thousands of requests
	}
	for _, calls := range [2][]*call{s.retry, s.away} {
		for _, other := range calls {
			if other.group == c.group && other.req.seq < c.req.seq {
				return true
			}
		}
	}
	if s.redirecting == 0 {
		return false // the node's replies come in order, so all earlier calls there are finished
	}
	elsewhere := func(other *call) bool {
		return other.group == c.group && !other.replica &&
			(other.node != target || other.redirected && others.target != conn)
	}
	for r := s.line.head; r != nil && r != c.req; r = r.next {
		switch {
		case r.unfinished == 0:
		case r.merge == nil:
			if elsewhere(&r.call) {
				return true
			}
		default: // some of its calls may be finished; waiting for the others does no harm
			for i := range r.merge.replies {
				if elsewhere(r.merge.calls[i]) {
					return true
				}
			}
		}
	}
	return false
}

// sentAfter reports whether the client has sent a later call to c's group, other than a
// read from a replica.
func sentAfter(s *Session, c *call) bool {
	for r := c.req.next; r != nil; r = r.next {
		if r.merge == nil {
			if r.call.group == c.group && r.unfinished > 0 && !r.call.replica {
				return true
			}
			continue
		}
		for i := range r.merge.replies {
			if other := r.merge.calls[i]; other.group == c.group && !other.replica {
				return true
			}
		}
	}
	return false
}

// beginCheck adds a call to the away list while keyway checks the call's error.
func beginCheck(s *Session, c *call) {
	t := s.allocRareState()
	t.away = append(t.away, c)
	c.isOvertaken = false
}

// endCheck removes a call from the away list.
func endCheck(s *Session, c *call) {
	if i := slices.Index(s.away, c); i >= 0 {
		s.away = slices.Delete(s.away, i, i+1)
	}
}

// weight returns the memory that a call takes while it waits, in bytes.
func (c *call) weight(frame []byte) int {
	n := len(frame) + waitingCost
	if c.block != nil {
		n += len(c.block.frames)
	}
	return n
}

// mayWait reports whether a call may wait to be sent again: the time limit since the call
// was first sent has not passed, and the calls that wait already do not take too much memory.
// Short refusals, as in a failover, are retried silently. If a node refuses for longer than
// limit, only as many calls wait as the node's retry budget allows, to notice when it
// recovers. Other clients get the error at once.
func (q *retries) mayWait(c *call, frame []byte, limit int64) bool {
	w := q.w
	n := c.node
	if c.tries == 0 {
		c.waitUntil = c.deadline - int64(w.o.Backend.RequestTimeout) + limit // the time of the first attempt plus limit
	}
	if w.now-n.putOffAt > 2*retryMax {
		n.servedAt = w.now // no call has waited lately, so the refusals begin now
	}
	n.putOffAt = w.now
	lasts := w.now-n.servedAt > limit
	return w.now+retryMin < c.waitUntil && n.waitingBytes+c.weight(frame) <= maxWaiting &&
		(!lasts || n.waiting < n.retryShare())
}

// putOff queues the call to be sent again later, if the call may wait. Otherwise it returns
// false and counts the call as not executed.
func (q *retries) putOff(c *call, frame, reply []byte) bool {
	if !q.mayWait(c, frame, q.maxPause) {
		q.w.stats.NotExecuted++
		return false
	}
	q.wait(c, frame, reply)
	return true
}

// wait queues the call to be sent again later. reply is the error that the client gets if
// keyway gives the call up before that.
func (q *retries) wait(c *call, frame, reply []byte) {
	n := c.node
	n.waiting++
	n.waitingBytes += c.weight(frame)
	n.retried++
	s := c.req.sess
	s.allocRareState()
	c.raiseBarrier()
	recordTarget(s, c, nil)
	c.waiting = true
	c.hops = 0 // the nodes may agree by then
	if c.tries < math.MaxUint8 {
		c.tries++
	}
	c.frame = append(c.frame[:0], frame...)
	c.lastErr = append(c.lastErr[:0], reply...)
	if len(s.retry) == 0 {
		q.sessions = append(q.sessions, s)
	}
	// The calls keep the order of their first attempts, whatever order they came back in.
	at, _ := slices.BinarySearchFunc(s.retry, c, func(a, b *call) int { return cmp.Compare(a.req.seq, b.req.seq) })
	s.retry = slices.Insert(s.retry, at, c)
	wait := min(retryMin<<min(c.tries, 8), retryMax)
	s.retryAt = q.w.now + q.w.set.Rand.Int64N(wait) + 1
}

// failOvertaken fails queued retries that a later command of the client, by, to the same group
// has just overtaken: sent again now, they would be executed out of order. The client gets
// the node's last error, which says that they were not executed. Calls whose error is being
// checked are only marked as overtaken.
func (q *retries) failOvertaken(s *Session, by *call) {
	for _, c := range s.away {
		c.isOvertaken = c.isOvertaken || c.group == by.group && c.req.seq < by.req.seq
	}
	if len(s.retry) == 0 || by.group < 0 {
		return
	}
	kept := s.retry[:0]
	var lost []*call
	for _, c := range s.retry {
		if c.group == by.group && c.req.seq < by.req.seq {
			lost = append(lost, c)
		} else {
			kept = append(kept, c)
		}
	}
	s.retry = kept
	for _, c := range lost {
		q.w.stats.NotExecuted++
		q.w.stats.Overtaken++
		c.settle(q.finalError(c))
	}
}

// finalError returns the error for a call that will not be sent again: the node's last error,
// reworded if it was a redirect. A client that takes keyway for one Redis cannot handle
// MOVED and ASK.
func (q *retries) finalError(c *call) []byte {
	if bytes.HasPrefix(c.lastErr, []byte("-MOVED ")) || bytes.HasPrefix(c.lastErr, []byte("-ASK ")) {
		text := errtext.NotExecuted(c.node.label(), "it redirects to a node that the topology does not know")
		return resp.AppendError(q.w.scratch[:0], text)
	}
	return c.lastErr
}

// retryShare returns the node's retry budget: how many calls may be sent again per tick.
func (n *node) retryShare() int {
	busy := n.waiting
	for _, conn := range n.conns {
		busy += conn.InFlight()
	}
	return max(minRetried, busy/5)
}

// waitsNoMore removes a call from its node's count of waiting calls, if it waits.
func (c *call) waitsNoMore() {
	if c.waiting {
		c.waiting = false
		c.node.waiting--
		c.node.waitingBytes -= c.weight(c.frame)
	}
}

// tick sends calls again that have waited long enough, in the order of their first
// attempts, once the client has no other calls in flight.
func (q *retries) tick() {
	if len(q.sessions) == 0 {
		return
	}
	for _, n := range q.w.nodes {
		n.mayRetry = n.retryShare()
	}
	due := q.sessions
	q.sessions = q.spare[:0]
	for _, s := range due {
		switch {
		case len(s.retry) == 0:
		case q.w.now < s.retryAt:
			q.sessions = append(q.sessions, s)
		case s.inflight > len(s.retry) || s.scouting || !s.scouted && q.scout(s):
			if q.giveUpOverdue(s); len(s.retry) > 0 {
				q.sessions = append(q.sessions, s)
			}
		default:
			s.scouted = false
			q.retry(s)
		}
	}
	clear(due)
	q.spare = due
}

// retry sends a session's waiting calls again, up to the retry budgets of their nodes.
func (q *retries) retry(s *Session) {
	calls := s.retry
	s.retry = nil
	for i, c := range calls {
		owner := q.w.target(c)
		if owner != nil && !c.isOverdue(q.w.now) {
			if owner.mayRetry == 0 {
				if len(s.retry) == 0 {
					q.sessions = append(q.sessions, s)
				}
				s.retry = append(s.retry, calls[i:]...)
				return
			}
			owner.mayRetry--
		}
		q.tryAgain(c, owner) // may queue c again
	}
}

// giveUpOverdue answers the overdue calls of a session that cannot retry yet.
func (q *retries) giveUpOverdue(s *Session) {
	var kept []*call
	for _, c := range s.retry {
		if !c.isOverdue(q.w.now) {
			kept = append(kept, c)
		}
	}
	overdue := s.retry
	s.retry = kept
	for _, c := range overdue {
		if c.isOverdue(q.w.now) {
			q.giveUp(c)
		}
	}
}

// isOverdue reports whether a call has waited as long as it may, or whether its blocking
// command has timed out.
func (c *call) isOverdue(now int64) bool { return now >= c.waitUntil || c.isTimedOut(now) }

// isTimedOut reports whether the timeout that the client gave in a blocking command has
// passed.
func (c *call) isTimedOut(now int64) bool { return c.timeout > 0 && now >= c.timeout }

// giveUp ends a call that is overdue.
func (q *retries) giveUp(c *call) {
	if c.isTimedOut(q.w.now) { // no element came: null, as from Redis
		c.settleNull()
		return
	}
	q.w.stats.NotExecuted++
	c.settle(q.finalError(c))
}

// tryAgain sends a waiting call to owner: the current owner of its slot, or its node's
// successor. If owner is nil, there is no such node, and the call waits longer or fails.
func (q *retries) tryAgain(c *call, owner *node) {
	w := q.w
	c.waitsNoMore()
	if c.isOverdue(w.now) {
		q.giveUp(c)
		return
	}
	if owner == nil {
		w.ready.Refresh = true
		if c.tries > 4 && !w.mayGetOwner() || !q.putOff(c, c.frame, c.lastErr) {
			c.settle(q.finalError(c))
		}
		return
	}
	c.resend(c.frame, owner, false)
}
