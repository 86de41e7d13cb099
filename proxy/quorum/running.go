package quorum

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/resp"
)

// running is a command that nodes have been asked about.
type running struct {
	l       *locks
	g       *group
	op      *quorum.Op
	call    *engine.Call
	s       *engine.Session
	cmd     quorum.Command
	reply   reply
	frame   []byte   // the client's command, for the slow log
	isOver  bool     // the client has its reply
	attempt *attempt // of an acquisition
}

// reply appends the reply to a command that has ended without an error.
type reply func(o *quorum.Op, dst []byte, v resp.Version) []byte

// shownNode is the node that the table of locks shows for locks that a majority holds.
const shownNode = "quorum"

// start asks the nodes of a group.
func (l *locks) start(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command, how reply,
) {
	req := s.NewRequest(cmd)
	req.Call.Node, req.Call.Group = engine.OutsideNode(l.w, shownNode), -1
	req.Witness(cmd, a, req.Call.Node)
	s.Inflight++
	r := &running{
		l: l, g: g, op: quorum.Begin(&g.Group, c, l.w.Now), call: &req.Call, s: s, cmd: c, reply: how,
		frame: bytes.Clone(a.Frame()),
	}
	if c.Kind == quorum.Acquire {
		r.attempt = &attempt{key: c.Key, token: c.Token, id: c.ID, underWay: true}
		r.attempt.before = lastAttempt.Get(s).withoutEnded()
		lastAttempt.Set(s, r.attempt)
	}
	g.queue = append(g.queue, r)
	r.pass()
}

// pass sends what the command has for the nodes, and replies to the client if it has ended.
func (r *running) pass() {
	for out := r.op.Take(); len(out) > 0; out = r.op.Take() {
		for _, send := range out {
			r.send(send)
		}
	}
	if r.op.Verdict == quorum.Pending || r.isOver {
		return
	}
	r.isOver = true
	r.count()
	r.call.RecordIfSlow(r.frame, 0)
	r.frame = nil // what frees the lock may wait for a silent node much longer
	w := r.l.w
	if r.attempt != nil {
		r.attempt.underWay, r.attempt.failed = false, r.op.Verdict != quorum.Yes
	}
	if r.op.Verdict == quorum.Failed {
		r.call.SettleFor(resp.AppendError(w.Scratch[:0], r.op.Reason))
		return
	}
	r.call.SettleFor(r.reply(r.op, w.Scratch[:0], r.s.Protocol()))
}

// send queues a command for a node.
func (r *running) send(send quorum.Send) {
	m := r.g.members[send.Node]
	if reason := m.add(waiting{r, send}); reason != "" {
		r.op.Lost(send, reason, r.l.w.Now)
		return
	}
	m.pump()
}

// size is the memory of what the nodes are sent.
func (r *running) size() int { return len(r.cmd.Key) + len(r.cmd.Token) + waitingCost }

// waitingCost is the memory of a command that waits, besides its key and token.
const waitingCost = 128

// count counts how the command has ended.
func (r *running) count() {
	stats := &r.l.w.Stats.LockCounters
	switch {
	case r.op.Verdict == quorum.Failed:
		stats.LocksFailed++
	case r.cmd.Kind == quorum.Acquire && r.op.Verdict == quorum.Yes:
		stats.LocksAcquired++
	case r.cmd.Kind == quorum.Acquire:
		stats.LocksRefused++
	case r.cmd.Kind == quorum.Renew && r.op.Verdict == quorum.Yes:
		stats.LocksRenewed++
	case r.cmd.Kind == quorum.Renew:
		stats.LocksLost++
	case r.cmd.Kind == quorum.Release && r.op.Verdict == quorum.Yes:
		stats.LocksReleased++
	case r.cmd.Kind == quorum.Release:
		stats.LocksNotHeld++
	}
}
