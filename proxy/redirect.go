package proxy

import (
	"bytes"
	"cmp"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

const (
	maxHops  = 5 // redirects of one command, as Redis's own clients allow
	retryMin = 5 * int64(1e6)
	retryMax = 100 * int64(1e6)
	// Of the calls that wait or are under way to a node a fifth may be sent again
	// at each tick, and always minRetried.
	minRetried = 16
	// What waits to be sent again to one node takes no more memory than this.
	maxWaiting = 64 << 20
	// waitingCost is what a waiting call takes besides its bytes.
	waitingCost = 512
)

// refused tells whether the node has refused a plain command, and notes how.
func (n *node) refused(now int64, reply []byte) bool {
	if !notHere(reply) || isRedirect(reply) {
		return false
	}
	n.refusal, n.refusalAt = append(n.refusal[:0], reply...), now
	return true
}

// refusedAll tells whether the node has refused a plain command since then in words
// that mean all commands (cluster.c, getNodeByQuery; server.c, processCommand).
func (n *node) refusedAll(since int64, reply []byte) bool {
	all := bytes.HasPrefix(reply, []byte("-LOADING ")) || bytes.HasPrefix(reply, []byte("-MASTERDOWN ")) || string(reply) == "-CLUSTERDOWN The cluster is down\r\n"
	return all && n.refusalAt >= since && bytes.Equal(n.refusal, reply)
}

// redirection reads "-MOVED 3999 127.0.0.1:6381", or ASK. An empty host is that
// of the node that answered (cluster specification, "MOVED Redirection"); an
// IPv6 address stands without brackets.
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

// follow sends the call on to where the node has pointed, if that is a node
// the topology knows; otherwise it waits for a topology that does.
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
			w.settle(c, resp.AppendError(w.scratch[:0], errNotExecuted(c.node, "it redirects to "+target+", which the topology does not know")))
		}
		return
	}
	if c.req.sess.waitsBefore(c, w.nodes[id]) {
		// An earlier call to the same group is not on its way there yet. This
		// one may not pass it.
		if !w.putOff(c, frame, reply) {
			w.settle(c, resp.AppendError(w.scratch[:0], errNotExecuted(c.node, "its slot is moving")))
		}
		return
	}
	if c.hops++; c.hops > maxHops {
		w.stats.NotExecuted++
		w.settle(c, resp.AppendError(w.scratch[:0], errTooManyHops(c.node)))
		return
	}
	if !ask && w.table.SlotOwner(c.group) != id {
		w.moveSlot(c.group, id)
	}
	w.resend(c, frame, w.nodes[id], ask)
}

// resend sends a call once more; the client's later commands wait for it.
func (w *Worker) resend(c *call, frame []byte, n *node, ask bool) {
	w.fence(c)
	c.req.sess.goes(c, n)
	if c.req.cmd.Unproven() {
		var p resp.Parser
		if _, st, err := p.Next(frame, &resp.DefaultLimits); err == nil && st == resp.Ready && command.EqualFold(p.Arg(0), c.req.cmd.Name) {
			if full := w.inFull(c.req.cmd, n, &p); full != nil {
				c.inFull, frame = true, full
			}
		}
	}
	how := plain
	if ask {
		how = behindAsking
	}
	w.start(c, n, frame, how)
}

// fence holds the client's later commands until the call is finished.
func (w *Worker) fence(c *call) {
	if !c.redirected {
		c.redirected = true
		s := c.req.sess
		s.redirecting++
		t := s.troubled()
		if t.moving == nil {
			t.moving = map[int32]moving{}
		}
		m := t.moving[c.group]
		m.calls++
		t.moving[c.group] = m
	}
}

// moving is what a client has under way once more of one group of keys.
type moving struct {
	calls  int        // redirected and not finished
	target *pool.Conn // that all of them go over; nil: over several, or some wait
}

// goes notes where a call that is sent once more goes; nil: nowhere yet.
func (s *Session) goes(c *call, n *node) {
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

// arrived notes that a call that was sent once more is finished.
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

// waitsBefore tells whether an earlier call of the client to c's group is held
// up here, or on its way to another node than c is about to go to, or to the same node
// over another connection, one that was retired meanwhile.
func (s *Session) waitsBefore(c *call, target *node) bool {
	others, conn := s.moving[c.group], target.conn(s)
	if c.redirected {
		others.calls--
	}
	if len(s.away) == 0 && (others.calls == 0 || others.target == conn) {
		return false // so it need not look for them among thousands
	}
	for _, held := range [2][]*call{s.retry, s.away} {
		for _, other := range held {
			if other.group == c.group && other.req.seq < c.req.seq {
				return true
			}
		}
	}
	if s.redirecting == 0 {
		return false // the node's replies came in order: nothing earlier is left there
	}
	elsewhere := func(other *call) bool {
		return other.group == c.group && !other.replica && (other.node != target || other.redirected && others.target != conn)
	}
	for r := s.line.head; r != nil && r != c.req; r = r.next {
		switch {
		case r.parts == 0:
		case r.merge == nil:
			if elsewhere(&r.call) {
				return true
			}
		default: // some of its parts may have ended; it does no harm to wait for the others
			for i := range r.merge.parts {
				if elsewhere(r.merge.calls[i]) {
					return true
				}
			}
		}
	}
	return false
}

// sentAfter tells whether a later call of the client to c's group has been
// sent already.
func (s *Session) sentAfter(c *call) bool {
	for r := c.req.next; r != nil; r = r.next {
		if r.merge == nil {
			if r.call.group == c.group && r.parts > 0 && !r.call.replica {
				return true
			}
			continue
		}
		for i := range r.merge.parts {
			if other := r.merge.calls[i]; other.group == c.group && !other.replica {
				return true
			}
		}
	}
	return false
}

// lookInto counts a call as away until back.
func (s *Session) lookInto(c *call) {
	t := s.troubled()
	t.away = append(t.away, c)
	c.passed = false
}

func (s *Session) back(c *call) {
	if i := slices.Index(s.away, c); i >= 0 {
		s.away = slices.Delete(s.away, i, i+1)
	}
}

// weight is the memory that a call takes while it waits.
func (c *call) weight(frame []byte) int {
	n := len(frame) + waitingCost
	if c.txn != nil {
		n += len(c.txn.block)
	}
	return n
}

// mayWait reports whether a call may wait to be sent again later: limit, since it was
// first sent, is not over, and what waits already does not take too much memory. A moment in which a node
// refuses all, as in a failover, nobody must notice; when it lasts, clients are told
// at once, and no more wait than it takes to see its end.
func (w *Worker) mayWait(c *call, frame []byte, limit int64) bool {
	n := c.node
	if c.tries == 0 {
		c.waitUntil = c.deadline - int64(w.o.Backend.RequestTimeout) + limit // since it was first sent
	}
	if w.now-n.putOffAt > 2*retryMax {
		n.servedAt = w.now // nothing has waited: this is new
	}
	n.putOffAt = w.now
	lasts := w.now-n.servedAt > limit
	return w.now+retryMin < c.waitUntil && n.waitingBytes+c.weight(frame) <= maxWaiting && (!lasts || n.waiting < n.retryShare())
}

// putOff keeps the call to be sent again later, if it may wait. Otherwise it returns
// false, and counts the call as one that was not executed.
func (w *Worker) putOff(c *call, frame, reply []byte) bool {
	if !w.mayWait(c, frame, w.patience) {
		w.stats.NotExecuted++
		return false
	}
	w.wait(c, frame, reply)
	return true
}

// wait keeps the call to be sent again later. reply is what its client is told if
// that does not come to pass.
func (w *Worker) wait(c *call, frame, reply []byte) {
	n := c.node
	n.waiting++
	n.waitingBytes += c.weight(frame)
	n.retried++
	s := c.req.sess
	s.troubled()
	w.fence(c)
	s.goes(c, nil)
	c.waiting = true
	if c.tries < math.MaxUint8 {
		c.tries++
	}
	c.frame = append(c.frame[:0], frame...)
	c.lastErr = append(c.lastErr[:0], reply...)
	if len(s.retry) == 0 {
		w.retries = append(w.retries, s)
	}
	// In the order they first went, whatever order they came back in.
	at, _ := slices.BinarySearchFunc(s.retry, c, func(a, b *call) int { return cmp.Compare(a.req.seq, b.req.seq) })
	s.retry = slices.Insert(s.retry, at, c)
	wait := min(retryMin<<min(c.tries, 8), retryMax)
	s.retryAt = w.now + w.set.Rand.Int64N(wait) + 1
}

// overtaken gives up the retry of calls that a later command of the client to
// the same group has just overtaken: sent again now, they would act out of
// order. The client gets the node's last word, which says that they were not
// executed.
func (w *Worker) overtaken(s *Session, by *call) {
	for _, c := range s.away {
		c.passed = c.passed || c.group == by.group && c.req.seq < by.req.seq
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
		w.settle(c, w.lastWord(c))
	}
}

// lastWord is what a client is told when a call will not be sent again. MOVED
// and ASK are no answer for a client that takes keyway for one Redis.
func (w *Worker) lastWord(c *call) []byte {
	if bytes.HasPrefix(c.lastErr, []byte("-MOVED ")) || bytes.HasPrefix(c.lastErr, []byte("-ASK ")) {
		return resp.AppendError(w.scratch[:0], errNotExecuted(c.node, "it redirects to a node that the topology does not know"))
	}
	return c.lastErr
}

// retryShare is how many calls may be sent again at one tick.
func (n *node) retryShare() int {
	busy := n.waiting
	for _, conn := range n.conns {
		busy += conn.InFlight()
	}
	return max(minRetried, busy/5)
}

// waitsNoMore takes a call off the count of those that wait, if it is one.
func (c *call) waitsNoMore() {
	if c.waiting {
		c.waiting = false
		c.node.waiting--
		c.node.waitingBytes -= c.weight(c.frame)
	}
}

// tickRetries sends again what has waited long enough, in the order it first
// went, once nothing else of the client is under way.
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

// retry sends again what a session has put off, as much of it as its nodes may be
// sent at this tick.
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
		w.tryAgain(c, owner) // may put it off once more
	}
}

// giveUpOverdue answers the calls whose time is up while they wait for others.
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

// isOverdue reports whether a call has waited to be sent for as long as it may, or as
// its client said that it would.
func (c *call) isOverdue(now int64) bool { return now >= c.waitUntil || c.isTimedOut(now) }

// isTimedOut reports whether a blocking command's own time is up.
func (c *call) isTimedOut(now int64) bool {
	b, blocks := c.alone.(*blocking)
	return blocks && b.until > 0 && now >= b.until
}

// giveUp ends a call that is overdue.
func (w *Worker) giveUp(c *call) {
	if c.isTimedOut(w.now) { // nothing came
		w.settleNull(c)
		return
	}
	w.stats.NotExecuted++
	w.settle(c, w.lastWord(c))
}

// tryAgain sends a call that was put off to the node that owns its slot now, or its
// node's place; nil if none does.
func (w *Worker) tryAgain(c *call, owner *node) {
	c.waitsNoMore()
	if c.isOverdue(w.now) {
		w.giveUp(c)
		return
	}
	if owner == nil {
		w.ready.Refresh = true
		if c.tries > 4 && !w.mayGetOwner() || !w.putOff(c, c.frame, c.lastErr) {
			w.settle(c, w.lastWord(c))
		}
		return
	}
	w.resend(c, c.frame, owner, false)
}
