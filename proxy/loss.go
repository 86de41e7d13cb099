package proxy

import (
	"bytes"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
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

// lostKey is what a session may have written: a key, by its hash, or keys of a node.
type lostKey struct {
	session, hash uint64
	node          *node // hash is oneKey or anyKey
}

const (
	oneKey = iota // one at least: reads without keys, such as DBSIZE, may see that
	anyKey        // perhaps: all reads may see that
)

// isHarmless reports whether the call may be executed twice.
func (c *call) isHarmless() bool {
	if c.txn != nil {
		return !c.txn.mayWrite()
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
	if !c.isHarmless() {
		c.eachPart(frame, func(cmd *command.Command, keys []uint64) {
			if cmd != nil && cmd.Has(readOnly) || len(keys) == 0 && !mayWriteAny(cmd) {
				return
			}
			lost[lostKey{session: s.id, hash: oneKey, node: c.node}] = struct{}{}
			if len(keys) == 0 {
				lost[lostKey{session: s.id, hash: anyKey, node: c.node}] = struct{}{}
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
			c.passed = true
		}
	}
	sees(lostKey{session: s.id, hash: anyKey, node: c.node})
	c.eachPart(frame, func(cmd *command.Command, keys []uint64) {
		for _, key := range keys {
			sees(lostKey{session: s.id, hash: key})
		}
		if len(keys) == 0 && (cmd == nil || cmd.Has(readOnly)) {
			sees(lostKey{session: s.id, hash: oneKey, node: c.node})
		}
	})
}

// mayWriteAny reports whether a command without keys may write: nil is one that is
// not known. Others without keys, such as PUBLISH, write none.
func mayWriteAny(cmd *command.Command) bool {
	return cmd == nil || cmd.Unproven() || cmd.Has(command.Write)
}

// eachPart calls f for the call's command, or for each of its transaction's, with the
// hashes of its keys. cmd is nil if it is not known.
func (c *call) eachPart(frame []byte, f func(cmd *command.Command, keys []uint64)) {
	w := c.worker()
	if c.txn != nil {
		frame = c.txn.block[c.txn.ends[0]:] // behind MULTI
	}
	var p resp.Parser
	var at []int
	var keys []uint64
	for len(frame) > 0 {
		n, st, err := p.Next(frame, &resp.DefaultLimits)
		if err != nil || st != resp.Ready {
			f(nil, nil)
			return
		}
		frame = frame[n:]
		cmd := c.req.cmd
		if c.txn != nil {
			if len(frame) == 0 {
				return // EXEC
			}
			cmd = w.commandOf(&p)
		}
		at, keys = at[:0], keys[:0]
		if cmd != nil {
			at = cmd.Keys(&p, at)
		}
		for _, i := range at {
			keys = append(keys, w.hash(p.Arg(i)))
		}
		f(cmd, keys)
	}
}

// commandOf is the command that a frame holds, nil if it is not known.
func (w *Worker) commandOf(a command.Args) *command.Command {
	cmd := command.Lookup(a.Arg(0))
	if cmd == nil {
		return w.learned[string(bytes.ToLower(a.Arg(0)))]
	}
	if a.Len() > 1 {
		if sub := cmd.Sub(a.Arg(1)); sub != nil {
			return sub
		}
	}
	return cmd
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
	if !c.asking {
		n = w.target(c)
	}
	if n == nil || len(c.req.sess.retry) > 0 { // an earlier command waits
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

// target is the node that a call goes to when it is sent again, nil if there is none at
// the moment. A part of a command for all masters goes to its own node, or to the one
// that has taken its place: that has a group of keys that was the other's.
func (w *Worker) target(c *call) *node {
	switch {
	case c.group >= 0:
		return w.ownerOf(c.group)
	case c.req.cmd.Handling == command.AnyMaster:
		n, _ := w.anyMaster(c.req.sess)
		return n
	case slices.Contains(w.masters, c.node):
		return c.node
	}
	return w.ownerOf(c.node.group)
}

// noteGroups remembers a group of keys that each master owns.
func (w *Worker) noteGroups() {
	for i, n := range w.nodes {
		if !w.table.Slotted() {
			n.group = int32(i)
		}
	}
	for slot := int32(slots.Count - 1); slot >= 0 && w.table.Slotted(); slot-- {
		if id := w.table.SlotOwner(slot); id != router.None {
			w.nodes[id].group = slot
		}
	}
}

// unreachable ends a call that was surely not executed, since its node cannot be
// reached; or it waits for the node that takes the other's place.
func (w *Worker) unreachable(c *call, frame []byte, reason string) {
	if c.group < 0 && c.isRepeatable() {
		if n := w.target(c); n != nil && n != c.node && n.conn(c.req.sess).Refusing() == "" {
			w.resend(c, frame, n, false)
			return
		}
	}
	if w.mayFailOver(c, reason) && w.mayWait(c, frame, w.failover) {
		w.ready.Refresh = true
		w.wait(c, frame, resp.AppendError(nil, errNotExecuted(c.node, reason)))
		return
	}
	w.refuse(c, reason)
}

// mayFailOver reports whether another node may soon serve the call's keys.
func (w *Worker) mayFailOver(c *call, reason string) bool {
	if w.failover <= 0 || c.replica || !c.isRepeatable() || !w.table.Changes() {
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
	owner := w.target(c)
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
	r.sess.parked -= r.reply.Len()
	r.reply.Release(&w.buffers)
}
