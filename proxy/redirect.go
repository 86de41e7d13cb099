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
func (w *Worker) follow(c *call, frame, reply []byte, ask bool, target string) {
	if ask {
		c.node.asked++
	} else {
		c.node.moved++
		w.ready.Refresh = true
	}
	id, known := w.table.ByAddr(target)
	if !known {
		w.ready.Refresh = true
		if !w.putOff(c, frame, reply) {
			text := errtext.NotExecuted(c.node.label(), "it redirects to "+target+", which the topology does not know")
			w.settle(c, resp.AppendError(w.scratch[:0], text))
		}
		return
	}
	if c.req.sess.waitsBefore(c, w.nodes[id]) {
		// An earlier call to the same group has not been sent there yet. This call must
		// not overtake it.
		if !w.putOff(c, frame, reply) {
			w.settle(c, resp.AppendError(w.scratch[:0], errtext.NotExecuted(c.node.label(), "its slot is moving")))
		}
		return
	}
	if c.hops++; c.hops > maxHops {
		w.stats.NotExecuted++
		w.settle(c, resp.AppendError(w.scratch[:0], errtext.TooManyHops(c.node.name)))
		return
	}
	if !ask && w.table.SlotOwner(c.group) != id {
		w.moveSlot(c.group, id)
	}
	w.resend(c, frame, w.nodes[id], ask)
}

// resend sends a call again. The client's later commands wait until the call is finished.
func (w *Worker) resend(c *call, frame []byte, n *node, ask bool) {
	w.raiseBarrier(c)
	c.req.sess.recordTarget(c, n)
	if c.req.cmd.Unproven() {
		var p resp.Parser
		_, st, err := p.Next(frame, &resp.DefaultLimits)
		if err == nil && st == resp.Ready && command.EqualFold(p.Arg(0), c.req.cmd.Name) {
			if full := w.asEval(c.req.cmd, n, &p); full != nil {
				c.sentAsEval, frame = true, full
			}
		}
	}
	how := plain
	if ask {
		how = behindAsking
	}
	w.start(c, n, frame, how)
}

// raiseBarrier makes the client's later commands wait until the call is finished.
func (w *Worker) raiseBarrier(c *call) {
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
func (s *Session) recordTarget(c *call, n *node) {
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
func (s *Session) arrived(c *call) {
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
func (s *Session) waitsBefore(c *call, target *node) bool {
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
func (s *Session) sentAfter(c *call) bool {
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
func (s *Session) beginCheck(c *call) {
	t := s.allocRareState()
	t.away = append(t.away, c)
	c.isOvertaken = false
}

// endCheck removes a call from the away list.
func (s *Session) endCheck(c *call) {
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
func (w *Worker) mayWait(c *call, frame []byte, limit int64) bool {
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
func (w *Worker) putOff(c *call, frame, reply []byte) bool {
	if !w.mayWait(c, frame, w.maxPause) {
		w.stats.NotExecuted++
		return false
	}
	w.wait(c, frame, reply)
	return true
}

// wait queues the call to be sent again later. reply is the error that the client gets if
// keyway gives the call up before that.
func (w *Worker) wait(c *call, frame, reply []byte) {
	n := c.node
	n.waiting++
	n.waitingBytes += c.weight(frame)
	n.retried++
	s := c.req.sess
	s.allocRareState()
	w.raiseBarrier(c)
	s.recordTarget(c, nil)
	c.waiting = true
	c.hops = 0 // the nodes may agree by then
	if c.tries < math.MaxUint8 {
		c.tries++
	}
	c.frame = append(c.frame[:0], frame...)
	c.lastErr = append(c.lastErr[:0], reply...)
	if len(s.retry) == 0 {
		w.retries = append(w.retries, s)
	}
	// The calls keep the order of their first attempts, whatever order they came back in.
	at, _ := slices.BinarySearchFunc(s.retry, c, func(a, b *call) int { return cmp.Compare(a.req.seq, b.req.seq) })
	s.retry = slices.Insert(s.retry, at, c)
	wait := min(retryMin<<min(c.tries, 8), retryMax)
	s.retryAt = w.now + w.set.Rand.Int64N(wait) + 1
}

// failOvertaken fails queued retries that a later command of the client, by, to the same group
// has just overtaken: sent again now, they would be executed out of order. The client gets
// the node's last error, which says that they were not executed. Calls whose error is being
// checked are only marked as overtaken.
func (w *Worker) failOvertaken(s *Session, by *call) {
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
		w.stats.NotExecuted++
		w.stats.Overtaken++
		w.settle(c, w.finalError(c))
	}
}

// finalError returns the error for a call that will not be sent again: the node's last error,
// reworded if it was a redirect. A client that takes keyway for one Redis cannot handle
// MOVED and ASK.
func (w *Worker) finalError(c *call) []byte {
	if bytes.HasPrefix(c.lastErr, []byte("-MOVED ")) || bytes.HasPrefix(c.lastErr, []byte("-ASK ")) {
		text := errtext.NotExecuted(c.node.label(), "it redirects to a node that the topology does not know")
		return resp.AppendError(w.scratch[:0], text)
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

// tickRetries sends calls again that have waited long enough, in the order of their first
// attempts, once the client has no other calls in flight.
func (w *Worker) tickRetries() {
	if len(w.retries) == 0 {
		return
	}
	for _, n := range w.nodes {
		n.mayRetry = n.retryShare()
	}
	due := w.retries
	w.retries = w.retrySpare[:0]
	for _, s := range due {
		switch {
		case len(s.retry) == 0:
		case w.now < s.retryAt:
			w.retries = append(w.retries, s)
		case s.inflight > len(s.retry) || s.scouting || !s.scouted && w.scout(s):
			if w.giveUpOverdue(s); len(s.retry) > 0 {
				w.retries = append(w.retries, s)
			}
		default:
			s.scouted = false
			w.retry(s)
		}
	}
	clear(due)
	w.retrySpare = due
}

// retry sends a session's waiting calls again, up to the retry budgets of their nodes.
func (w *Worker) retry(s *Session) {
	calls := s.retry
	s.retry = nil
	for i, c := range calls {
		owner := w.target(c)
		if owner != nil && !c.isOverdue(w.now) {
			if owner.mayRetry == 0 {
				if len(s.retry) == 0 {
					w.retries = append(w.retries, s)
				}
				s.retry = append(s.retry, calls[i:]...)
				return
			}
			owner.mayRetry--
		}
		w.tryAgain(c, owner) // may queue c again
	}
}

// giveUpOverdue answers the overdue calls of a session that cannot retry yet.
func (w *Worker) giveUpOverdue(s *Session) {
	var kept []*call
	for _, c := range s.retry {
		if !c.isOverdue(w.now) {
			kept = append(kept, c)
		}
	}
	overdue := s.retry
	s.retry = kept
	for _, c := range overdue {
		if c.isOverdue(w.now) {
			w.giveUp(c)
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
func (w *Worker) giveUp(c *call) {
	if c.isTimedOut(w.now) { // no element came: null, as from Redis
		w.settleNull(c)
		return
	}
	w.stats.NotExecuted++
	w.settle(c, w.finalError(c))
}

// tryAgain sends a waiting call to owner: the current owner of its slot, or its node's
// successor. If owner is nil, there is no such node, and the call waits longer or fails.
func (w *Worker) tryAgain(c *call, owner *node) {
	c.waitsNoMore()
	if c.isOverdue(w.now) {
		w.giveUp(c)
		return
	}
	if owner == nil {
		w.ready.Refresh = true
		if c.tries > 4 && !w.mayGetOwner() || !w.putOff(c, c.frame, c.lastErr) {
			w.settle(c, w.finalError(c))
		}
		return
	}
	w.resend(c, c.frame, owner, false)
}
