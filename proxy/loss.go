package proxy

import (
	"bytes"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// This file decides about calls whose connection ends. Calls that were not written, and
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
	node          *node // set if hash is oneKey or anyKey
}

const (
	oneKey = iota // at least one key: reads without keys, such as DBSIZE, may see the write
	anyKey        // possibly any key: all reads may see the write
)

// isHarmless reports whether the call may be executed twice, since it only reads.
func (c *call) isHarmless() bool {
	if c.block != nil {
		return !c.block.mayWrite()
	}
	return c.req.cmd.Has(readOnly)
}

// isRepeatable reports whether the call means the same on another connection. WATCH, the
// EXEC that follows it, and WAIT do not.
func (c *call) isRepeatable() bool { return !c.once }

// WillFail finds the reads that must not be sent again. Their client has sent a write to
// the same key behind them, and the second attempt might see that write. The connection
// calls WillFail for its last request first.
func (c *call) WillFail(frame []byte) {
	s := c.req.sess
	c.isOvertaken = false
	if s == nil || s.line.n < 2 {
		return
	}
	lost := s.w.retries.lostWrites
	if !c.isHarmless() {
		c.eachCommand(frame, func(cmd *command.Command, keys []uint64) {
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
			c.isOvertaken = true
		}
	}
	sees(lostKey{session: s.id, hash: anyKey, node: c.node})
	c.eachCommand(frame, func(cmd *command.Command, keys []uint64) {
		for _, key := range keys {
			sees(lostKey{session: s.id, hash: key})
		}
		if len(keys) == 0 && (cmd == nil || cmd.Has(readOnly)) {
			sees(lostKey{session: s.id, hash: oneKey, node: c.node})
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
func (c *call) eachCommand(frame []byte, f func(cmd *command.Command, keys []uint64)) {
	w := c.worker()
	if c.block != nil {
		frame = c.block.frames[c.block.ends[0]:] // behind MULTI
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
		if c.block != nil {
			if len(frame) == 0 {
				return // EXEC
			}
			cmd = w.learned.of(&p)
		}
		at, keys = at[:0], keys[:0]
		if cmd != nil {
			at = cmd.Keys(&p, at)
		}
		for _, i := range at {
			keys = append(keys, hashKey(p.Arg(i)))
		}
		f(cmd, keys)
	}
}

// of returns the command that a frame contains, nil if it is unknown.
func (lc *learnedCommands) of(a command.Args) *command.Command {
	cmd := command.Lookup(a.Arg(0))
	if cmd == nil {
		return lc.names[string(bytes.ToLower(a.Arg(0)))]
	}
	if a.Len() > 1 {
		if sub := cmd.Sub(a.Arg(1)); sub != nil {
			return sub
		}
	}
	return cmd
}

// outlives makes another attempt of a call whose connection has ended, or lets the call
// wait for it, if that is harmless. It reports whether the call continues. If a
// connection for this call alone cannot be opened, outlives does not open another one to the
// same node at once.
func (c *call) outlives(conn *pool.Conn, frame []byte, f pool.Failure) bool {
	w := c.worker()
	switch {
	case f.Timeout || w.now >= c.deadline && c.tries == 0 || c.losses >= maxLosses:
		return false
	case f.Sent && (c.isOvertaken || !c.isHarmless()):
		return false
	case !c.isRepeatable():
		return false
	}
	n := c.node
	if !c.asking {
		n = w.target(c)
	}
	if n == nil || len(c.req.sess.retry) > 0 { // no node yet, or an earlier command waits
		if !w.retries.mayWait(c, frame, w.retries.maxPause) {
			return false
		}
		w.retries.wait(c, frame, resp.AppendError(nil, errtext.NotExecuted(c.node.label(), f.Reason)))
		return true
	}
	switch {
	case f.Sent:
		c.losses++
	case c.lane == exclusiveLane && n == c.node && conn.ConnectError() != "":
		return false
	}
	n.retried++
	c.resend(frame, n, c.asking)
	return true
}

// target returns the node for the next attempt of a call, nil if there is none at the
// moment. A call of a command for all masters goes to its own node as long as that is a
// master. Then it goes to the successor: the owner of a group of keys that was the node's.
func (rt *routing) target(c *call) *node {
	switch {
	case c.group >= 0:
		return rt.ownerOf(c.group)
	case c.req.cmd.Handling == command.AnyMaster:
		n, _ := rt.anyMaster(c.req.sess)
		return n
	case slices.Contains(rt.masters, c.node):
		return c.node
	}
	return rt.ownerOf(c.node.group)
}

// recordGroups records, for each master, one group of keys that it owns.
func (rt *routing) recordGroups() {
	for i, n := range rt.nodes {
		if !rt.table.Slotted() {
			n.group = int32(i)
		}
	}
	for slot := int32(slots.Count - 1); slot >= 0 && rt.table.Slotted(); slot-- {
		if id := rt.table.SlotOwner(slot); id != router.None {
			rt.nodes[id].group = slot
		}
	}
}

// unreachable decides about a call that was certainly not executed, since its node cannot
// be reached. The call goes to the node's successor, waits for one, or ends.
func (c *call) unreachable(frame []byte, reason string) {
	w := c.worker()
	if c.group < 0 && c.isRepeatable() {
		if n := w.target(c); n != nil && n != c.node && n.conn(c.req.sess).ConnectError() == "" {
			c.resend(frame, n, false)
			return
		}
	}
	if w.mayFailOver(c, reason) && w.retries.mayWait(c, frame, w.retries.failover) {
		w.ready.Refresh = true
		w.retries.wait(c, frame, resp.AppendError(nil, errtext.NotExecuted(c.node.label(), reason)))
		return
	}
	c.refuse(reason)
}

// mayFailOver reports whether another node may soon serve the call's keys.
func (rt *routing) mayFailOver(c *call, reason string) bool {
	if rt.w.retries.failover <= 0 || c.replica || !c.isRepeatable() || !rt.table.Changes() {
		return false
	}
	if strings.HasPrefix(reason, "BUSY ") {
		return false
	}
	if refusal, ok := strings.CutPrefix(reason, "the node refuses: "); ok &&
		!strings.HasPrefix(refusal, "LOADING ") && !strings.HasPrefix(refusal, "MASTERDOWN ") {
		return false // such as a wrong password or database: other nodes would refuse it too
	}
	if rt.private != nil {
		return true // redirects have changed the table: each master's replicas are not known yet
	}
	owner := rt.target(c)
	if owner == nil {
		return rt.mayGetOwner()
	}
	if !owner.sentinel && !rt.table.Clustered() {
		return false
	}
	return len(owner.replicas) > 0 || isRecent(rt.w, owner.followedAt) || rt.looks.awaits(owner)
}

// succession is what decides whether a lost master may get a successor.
type succession struct {
	followedAt int64  // when the table last changed while it had replicas; 0: never
	lostAt     int64  // when a command first found that the master cannot be reached
	losses     uint64 // losses of its first connection until lostAt
}

// looks are the times of the worker's requests for a look at the topology.
type looks struct {
	followedAt int64 // when the table last changed while any node had replicas
	askedAt    int64 // the last request
	doneAt     int64 // the last request that was granted: a later look has ended
}

// awaits reports whether no look at the topology has begun and ended since a master was
// lost, and asks for one. A replica that was attached shortly before may not be known yet.
func (l *looks) awaits(n *node) bool {
	if losses := n.conns[0].Stats.Losses; n.lostAt == 0 || n.losses != losses {
		n.lostAt, n.losses = n.w.now, losses
	}
	if l.askedAt < n.lostAt {
		l.askedAt, n.w.ready.Look = n.w.now, n.w.now
	}
	return l.doneAt < n.lostAt
}

// Looked tells the worker that a look at the topology has ended, with or without success.
// It began after Ready.Look asked for it, at time asked. If it has found another table,
// SetTable has been called before.
func (w *Worker) Looked(asked int64) { w.looks.doneAt = max(w.looks.doneAt, asked) }

// mayGetOwner reports whether slots that have no owner may soon have one.
func (rt *routing) mayGetOwner() bool {
	return rt.table.Orphaned() || isRecent(rt.w, rt.looks.followedAt)
}

// isRecent reports whether a master had replicas so recently that one of them may be about
// to take its place. During a failover, nodes disagree about which replica follows which
// master.
func isRecent(w *Worker, followedAt int64) bool {
	return followedAt > 0 && w.now-followedAt < w.retries.failover
}

// forgetReceived drops the received part of a reply, since the call is sent again.
func (c *call) forgetReceived() {
	w := c.worker()
	r := c.req
	if r.merge != nil {
		r.sess.parked -= len(r.merge.replies[c.index])
		r.merge.replies[c.index] = r.merge.replies[c.index][:0]
		return
	}
	r.sess.parked -= r.reply.Len()
	r.reply.Release(&w.buffers)
}

// ownerOf returns the node that owns a group of keys now, nil if there is none.
func (rt *routing) ownerOf(group int32) *node {
	id := router.NodeID(group) // without slots, a group is a node
	if rt.table.Slotted() && group >= 0 {
		id = rt.table.SlotOwner(group)
	}
	if id < 0 {
		return nil
	}
	return rt.nodes[id]
}
