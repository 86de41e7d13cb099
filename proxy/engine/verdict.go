package engine

import (
	"bytes"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
)

// Decide says what happens to a call whose node has answered with an error; onError does it.
//
// Only for plain commands does such an error prove that the node executed nothing. A script
// or a module may have written before it returned the same error.

// Verdict says what happens to a call after an error reply.
type Verdict struct {
	Do      outcome
	Refresh bool   // the topology may be out of date
	prove   bool   // first, keyway must prove that the node did not execute the command
	ask     bool   // followed: send ASKING first
	target  string // followed: the address of the node
	text    string // failed: the error for the client
}

// outcome says how the call continues.
type outcome uint8

const (
	delivered  outcome = iota // the client gets the error
	failed                    // the client gets another error: the command was not executed
	reread                    // keyway sends the read to another node than this replica
	sentInFull                // the node lacks the script, so keyway sends the text
	followed                  // keyway sends the call to the node that the redirect names
	retried                   // the call waits to be sent again
	Unwatched                 // WATCH and its EXEC: nothing is watched any more
)

// judge is the receiver of a call that decides about errors itself.
type judge interface {
	// Decide returns the verdict about an error reply.
	Decide(reply []byte) Verdict
}

// Decide returns the verdict about an error reply.
func Decide(w *Worker, c *Call, conn *pool.Conn, reply []byte) Verdict {
	if to, ok := c.alone.(judge); ok {
		return to.Decide(reply)
	}
	code := refusal.Code(reply)
	if c.replica && freshness.Unserved(code) {
		return Verdict{Do: reread, Refresh: code[0] == 'M'} // MOVED, or MASTERDOWN
	}
	if w.isStale(c) && c.isRepeatable() && refusal.CannotServe(reply) { // the keys may have another owner now
		return Verdict{Do: retried, Refresh: true, prove: c.Request.Command.Unproven()}
	}
	switch string(code) {
	case "NOSCRIPT":
		return Verdict{Do: sentInFull}
	case "MOVED", "ASK":
		return decideRedirect(w, c, conn, reply)
	case "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING":
		return decideRefusal(w, c, string(code))
	}
	return Verdict{}
}

func decideRedirect(w *Worker, c *Call, conn *pool.Conn, reply []byte) Verdict {
	unproven := c.Request.Command.Unproven()
	r, ok := refusal.ParseRedirect(reply, conn.Addr)
	switch odd := !ok || r.Slot != c.Group; {
	case unproven && (odd || !w.Table.Clustered()):
		return Verdict{}
	case !w.Table.Clustered():
		return Verdict{Do: failed, text: errtext.NodeIsCluster(c.Node.name, c.Node.Addr)}
	case odd:
		text := errtext.NotExecuted(c.Node.Label(),
			"its redirect makes no sense: "+resp.Printable(bytes.TrimSpace(reply[1:])))
		return Verdict{Do: failed, text: text}
	}
	return Verdict{Do: followed, prove: unproven, ask: r.Ask, target: r.To}
}

func decideRefusal(w *Worker, c *Call, code string) Verdict {
	unproven := c.Request.Command.Unproven()
	switch refresh := code != "TRYAGAIN"; {
	case !w.Table.Changes():
		return Verdict{}
	case c.Group < 0, unproven && code == "READONLY": // EXISTS cannot prove it: a replica does not refuse reads
		return Verdict{Refresh: refresh}
	default:
		return Verdict{Do: retried, Refresh: refresh, prove: unproven}
	}
}

// onError handles an error reply. It returns true if the client must not get the error,
// because the call continues or already has another reply.
func (c *Call) onError(conn *pool.Conn, frame []byte, reply []byte) bool {
	w := c.Worker()
	v := Decide(w, c, conn, reply)
	w.Ready.Refresh = w.Ready.Refresh || v.Refresh
	if v.Do != delivered && (w.journeys.slow != 0 || c.Request.journey != nil) {
		w.journeys.refused(c, frame, conn.WrittenAt(), reply)
	}
	switch v.Do {
	case failed:
		w.Stats.NotExecuted++
		c.Settle(resp.AppendError(w.Scratch[:0], v.text))
		return true
	case reread:
		c.Node.lag.Doubt()
		if !c.readAgain(frame, false) {
			text := errtext.NotExecuted(c.Node.Label(), "the replica answers "+string(refusal.Code(reply)))
			c.Settle(resp.AppendError(w.Scratch[:0], text))
		}
		return true
	case sentInFull:
		return w.Scripts.onNoScript(c, conn, frame, reply)
	case followed, retried:
		if v.prove {
			claim := v // a copy, so that v itself stays off the heap
			return w.Scripts.confirm(c, conn, frame, reply, func(answer, frame, reply []byte) bool {
				return claim.isProven(c, conn, answer, reply) && c.sendOn(frame, reply, &claim)
			})
		}
		if v.Do == retried {
			c.Node.refusals.Record(w.Now, reply)
		}
		return c.sendOn(frame, reply, &v)
	}
	return false
}

// sendOn follows a redirect, or queues the call to be sent again. It returns false if the
// call may not wait.
func (c *Call) sendOn(frame []byte, reply []byte, v *Verdict) bool {
	w := c.Worker()
	if stale := w.isStale(c); stale || v.Do == retried {
		if !w.PlaceAgain(c, frame) {
			return true // it is settled
		}
		waits := w.retries.putOff(c, frame, reply)
		if !waits && stale {
			c.lastErr = append(c.lastErr[:0], reply...)
			c.Settle(w.retries.finalError(c))
		}
		return waits || stale
	}
	c.follow(frame, reply, v.ask, v.target)
	return true
}

// isProven reports whether answer, the node's reply to a plain command for the same keys, proves
// that the node did not execute the script that it answered with reply. For a redirect, answer
// also decides whether ASKING is needed.
func (v *Verdict) isProven(c *Call, conn *pool.Conn, answer, reply []byte) bool {
	if v.Do == retried {
		return bytes.Equal(answer, reply) || c.Node.refusals.Repeats(c.Request.start, reply)
	}
	r, ok := refusal.ParseRedirect(answer, conn.Addr)
	v.ask = r.Ask
	return ok && r.Slot == c.Group && r.To == v.target
}

// outlives and unreachable decide about calls whose connection ends. Calls that were not written, and
// calls that only read, are sent again over the next connection. The node may have
// executed a write that was in flight, so its client gets an error that says so.
//
//	written              not written
//	GET a  SET b 1  GET c | SET d 1  GET e
//	again  unknown  again | again    again      in this order

// maxLosses is how many connections one call may lose. Without this limit, a request that
// makes nodes close the connection would do so forever.
const maxLosses = 5

// lostKey is something that a session may have written: a key, given by its hash, or
// unknown keys of a node.
type lostKey struct {
	session, hash uint64
	node          *Node // set if hash is oneKey or anyKey
}

const (
	oneKey = iota // at least one key: reads without keys, such as DBSIZE, may see the write
	anyKey        // possibly any key: all reads may see the write
)

// isHarmless reports whether the call may be executed twice, since it only reads.
func (c *Call) isHarmless() bool {
	if c.Block != nil {
		return !c.Block.MayWrite()
	}
	return c.Request.Command.Has(readOnly)
}

// isRepeatable reports whether the call means the same on another connection. WATCH, the
// EXEC that follows it, and WAIT do not.
func (c *Call) isRepeatable() bool { return !c.once }

// WillFail finds the reads that must not be sent again. Their client has sent a write to
// the same key behind them, and the second attempt might see that write. The connection
// calls WillFail for its last request first.
func (c *Call) WillFail(frame []byte) {
	s := c.Request.Session
	c.isOvertaken = false
	if s == nil || s.line.n < 2 {
		return
	}
	lost := s.Worker.retries.lostWrites
	if !c.isHarmless() {
		eachCommand(c, frame, func(cmd *command.Command, keys []uint64) {
			if cmd != nil && cmd.Has(readOnly) || len(keys) == 0 && !mayWriteAny(cmd) {
				return
			}
			lost[lostKey{session: s.id, hash: oneKey, node: c.Node}] = struct{}{}
			if len(keys) == 0 {
				lost[lostKey{session: s.id, hash: anyKey, node: c.Node}] = struct{}{}
			}
			for _, key := range keys {
				lost[lostKey{session: s.id, hash: key}] = struct{}{}
			}
		})
		return
	}
	if len(lost) == 0 {
		return
	}
	sees := func(k lostKey) {
		if _, written := lost[k]; written {
			c.isOvertaken = true
		}
	}
	sees(lostKey{session: s.id, hash: anyKey, node: c.Node})
	eachCommand(c, frame, func(cmd *command.Command, keys []uint64) {
		for _, key := range keys {
			sees(lostKey{session: s.id, hash: key})
		}
		if len(keys) == 0 && (cmd == nil || cmd.Has(readOnly)) {
			sees(lostKey{session: s.id, hash: oneKey, node: c.Node})
		}
	})
}

// mayWriteAny reports whether a command without keys may write. nil stands for an unknown
// command. PUBLISH, for example, has no keys and writes none.
func mayWriteAny(cmd *command.Command) bool {
	return cmd == nil || cmd.Unproven() || cmd.Has(command.Write)
}

// eachCommand calls f for the call's command, or for each command of its transaction, with
// the hashes of the command's keys. cmd is nil if the command is unknown.
func eachCommand(c *Call, frame []byte, f func(cmd *command.Command, keys []uint64)) {
	var at []int
	var keys []uint64
	c.Worker().Learned.eachFrame(c, frame, func(cmd *command.Command, a command.Args) {
		at, keys = at[:0], keys[:0]
		if cmd != nil {
			at = cmd.Keys(a, at)
		}
		for _, i := range at {
			keys = append(keys, hashKey(a.Arg(i)))
		}
		f(cmd, keys)
	})
}

// outlives makes another attempt of a call whose connection has ended, or lets the call
// wait for it, if that is harmless. It reports whether the call continues. If a
// connection for this call alone cannot be opened, outlives does not open another one to the
// same node at once.
func (c *Call) outlives(conn *pool.Conn, frame []byte, f pool.Failure) bool {
	w := c.Worker()
	switch {
	case f.Timeout || w.Now >= c.Deadline && c.tries == 0 || c.losses >= maxLosses:
		return false
	case f.Sent && (c.isOvertaken || !c.isHarmless()):
		return false
	case !c.isRepeatable():
		return false
	}
	if !w.PlaceAgain(c, frame) {
		return true // it is settled
	}
	n := c.Node
	if !c.asking {
		n = w.target(c)
	}
	if n == nil || len(c.Request.Session.Retry) > 0 { // no node yet, or an earlier command waits
		if !w.retries.mayWait(c, frame, w.retries.maxPause) {
			return false
		}
		w.retries.wait(c, frame, resp.AppendError(nil, errtext.NotExecuted(c.Node.Label(), f.Reason)))
		return true
	}
	switch {
	case f.Sent:
		c.losses++
	case c.lane == exclusiveLane && n == c.Node && conn.ConnectError() != "":
		return false
	}
	n.retryCount++
	c.resend(frame, n, c.asking)
	return true
}

// unreachable decides about a call that was certainly not executed, since its node cannot
// be reached. The call goes to the node's successor, waits for one, or ends.
//
// If the node refuses the client's user, whose password has changed or who was deleted, the client gets
// the node's error, and is closed, as Redis closes the clients of a user that it deletes.
func (c *Call) unreachable(frame []byte, reason string) {
	w := c.Worker()
	if text, isRefused := strings.CutPrefix(reason, pool.RefusesUser); isRefused && !c.replica {
		w.Stats.NotExecuted++
		s := c.Request.Session
		c.Settle(resp.AppendError(w.Scratch[:0], text))
		s.CloseAfter()
		return
	}
	if c.isRepeatable() && !w.PlaceAgain(c, frame) {
		return
	}
	if (c.Group < 0 || c.placedIn > 0) && c.isRepeatable() {
		if n := w.target(c); n != nil && n != c.Node && n.Conn(c.Request.Session).ConnectError() == "" {
			c.resend(frame, n, false)
			return
		}
	}
	if w.mayFailOver(c, reason) && w.retries.mayWait(c, frame, w.retries.failover) {
		w.Ready.Refresh = true
		w.retries.wait(c, frame, resp.AppendError(nil, errtext.NotExecuted(c.Node.Label(), reason)))
		return
	}
	ShowUnanswered(w, c, frame, 0)
	c.Refuse(reason)
}

// forgetReceived drops the received part of a reply, since the call is sent again.
func (c *Call) forgetReceived() {
	w := c.Worker()
	r := c.Request
	c.received = 0
	if r.journey != nil {
		r.journey.Unreply()
	}
	if r.Merge != nil {
		r.Session.Parked -= len(r.Merge.Replies[c.index])
		r.Merge.Replies[c.index] = r.Merge.Replies[c.index][:0]
		return
	}
	r.Session.Parked -= r.reply.Len()
	r.reply.Release(&w.Buffers)
}
