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
	l      *locks
	g      *group
	op     *quorum.Op
	call   *engine.Call
	s      *engine.Session
	cmd    quorum.Command
	reply  reply
	frame  []byte // the client's command, for the slow log
	isOver bool   // the client has its reply
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
	r.call.Request.RecordIfSlow(r.frame)
	w := r.l.w
	if r.op.Verdict == quorum.Failed {
		r.remember()
		r.call.SettleFor(resp.AppendError(w.Scratch[:0], r.op.Reason))
		return
	}
	if r.cmd.Kind == quorum.Acquire && r.op.Verdict != quorum.Yes {
		r.remember()
	}
	r.call.SettleFor(r.reply(r.op, w.Scratch[:0], r.s.Protocol()))
}

// remember keeps a failed attempt, so that the client can continue it.
func (r *running) remember() {
	if r.cmd.Kind == quorum.Acquire && !r.s.HasLeft() {
		failedAttempt.Set(r.s, &attempt{r.cmd.Key, r.cmd.Token, r.cmd.ID})
	}
}

// send sends a command to a node, whose reply goes to the operation.
func (r *running) send(send quorum.Send) {
	w, m := r.l.w, r.g.members[send.Node]
	reason := m.conn.ConnectError()
	if reason == "" && m.conn.Full() {
		reason = "too many commands wait for its answers"
	}
	if reason != "" {
		r.op.Lost(send, reason, w.Now)
		return
	}
	sent := w.Now
	m.conn.Send(&engine.Probe{Done: func(reply []byte, ok bool) {
		if ok {
			m.took.Observe(w.Now - sent)
			r.op.Answer(send, reply, w.ExactNow())
		} else {
			r.op.Lost(send, m.conn.Reason(), w.Now)
		}
		r.pass()
	}}, send.Frame, w.Now, w.Deadline())
}

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
