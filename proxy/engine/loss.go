package engine

import (
	"bytes"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
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
	node          *Node // set if hash is oneKey or anyKey
}

const (
	oneKey = iota // at least one key: reads without keys, such as DBSIZE, may see the write
	anyKey        // possibly any key: all reads may see the write
)

// isHarmless reports whether the call may be executed twice, since it only reads.
func (c *Call) isHarmless() bool {
	if c.Block != nil {
		return !c.Block.mayWrite()
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
		c.eachCommand(frame, func(cmd *command.Command, keys []uint64) {
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
	c.eachCommand(frame, func(cmd *command.Command, keys []uint64) {
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
func (c *Call) eachCommand(frame []byte, f func(cmd *command.Command, keys []uint64)) {
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

// eachFrame calls f for the call's command, or for each command of its transaction. cmd is
// nil if the command is unknown.
func (lc *learnedCommands) eachFrame(c *Call, frame []byte, f func(cmd *command.Command, a command.Args)) {
	if c.Block != nil {
		frame = c.Block.Frames[c.Block.Ends[0]:] // behind MULTI
	}
	var p resp.Parser
	for len(frame) > 0 {
		n, st, err := p.Next(frame, &resp.DefaultLimits)
		if err != nil || st != resp.Ready {
			f(nil, nil)
			return
		}
		frame = frame[n:]
		cmd := c.Request.Command
		if c.Block != nil {
			if len(frame) == 0 {
				return // EXEC
			}
			cmd = lc.CommandOf(&p)
		}
		f(cmd, &p)
	}
}

// CommandOf returns the command that a frame contains, nil if it is unknown.
func (lc *learnedCommands) CommandOf(a command.Args) *command.Command {
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
	c.Refuse(reason)
}

// forgetReceived drops the received part of a reply, since the call is sent again.
func (c *Call) forgetReceived() {
	w := c.Worker()
	r := c.Request
	if r.Merge != nil {
		r.Session.Parked -= len(r.Merge.Replies[c.index])
		r.Merge.Replies[c.index] = r.Merge.Replies[c.index][:0]
		return
	}
	r.Session.Parked -= r.reply.Len()
	r.reply.Release(&w.Buffers)
}
