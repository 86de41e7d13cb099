package proxy

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// noteScript remembers the script of an EVAL, and warns of a script without keys. w.keys
// must contain the command's keys.
func (w *Worker) noteScript(cmd *command.Command, a command.Args) {
	if cmd.Is(command.TakesScript) {
		w.learnScript(a.Arg(1))
	}
	if len(w.keys) == 0 {
		w.warnKeyless(cmd, a)
	}
}

// learnScript makes every worker remember a script.
func (w *Worker) learnScript(text []byte) {
	if w.scripts.Add(text) && w.o.Workers > 1 {
		text = bytes.Clone(text)
		w.tellSiblings(func(o *Worker) { o.scripts.Add(text) })
	}
}

func (w *Worker) forgetScripts() {
	w.scripts.Clear()
	w.tellSiblings(func(o *Worker) { o.scripts.Clear() })
}

// recordKnown records which scripts of a SCRIPT EXISTS keyway knows.
func (w *Worker) recordKnown(m *merger, a command.Args) {
	m.perArgument = w.scripts.AppendKnown(m.perArgument, a)
}

// scriptsExist is the ending of SCRIPT EXISTS.
func scriptsExist(_ *Worker, dst []byte, r *request) []byte {
	return lua.AppendExists(dst, r.cmd.Merge(nil, r.merge.replies, 0), r.merge.perArgument)
}

// asEval returns an EVALSHA as the EVAL of its script, or nil if it goes to n as it is. With n
// nil, no node is known to have the script. The result is valid until the next call of asEval.
func (w *Worker) asEval(cmd *command.Command, n *node, a command.Args) []byte {
	node := lua.NoNode
	if n != nil {
		node = n.ordinal
	}
	frame := w.scripts.AppendEval(w.frame[:0], cmd, node, a)
	if len(frame) == 0 {
		return nil
	}
	w.frame = w.buffers.Scratch(frame)
	return frame
}

// onNoScript handles the error NOSCRIPT. The node may have lost the script, by SCRIPT FLUSH
// for example, or may never have had it. But a script can return this error too, so keyway
// asks the node whether it has the script. Only if the script is missing, and so cannot have
// run, keyway sends the text. onNoScript returns false if the client gets the error.
func (w *Worker) onNoScript(c *call, conn *pool.Conn, frame, reply []byte) bool {
	var p resp.Parser
	_, st, err := p.Next(frame, &w.limits)
	if err != nil || st != resp.Ready || !command.EqualFold(p.Arg(0), c.req.cmd.Name) {
		return false // it was sent as EVAL
	}
	sha := string(p.Arg(1))
	w.scripts.Lacks(c.node.ordinal, sha)
	if w.o.Workers < 2 && w.scripts.Text(p.Arg(1)) == nil || c.req.sess.sentAfter(c) {
		// No worker knows the script, or the call, sent again, would be executed after a
		// later command of the same client.
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	w.raiseBarrier(c)
	c.req.sess.beginCheck(c)
	w.askExists(conn, sha, w.replyBy(c), func(exists []byte, ok bool) {
		if !ok || !bytes.Equal(exists, []byte("*1\r\n:0\r\n")) {
			w.answerChecked(c, reply)
			return
		}
		w.findScript(sha, func() { w.sendAsEval(c, frame, reply) })
	})
	return true
}

// answerChecked answers a call with the node's error, after the check of that error.
func (w *Worker) answerChecked(c *call, reply []byte) {
	if s := c.req.sess; s != nil {
		s.endCheck(c)
	}
	w.settleFor(c, reply)
}

// sendAsEval sends an EVALSHA that the node could not execute as EVAL, if this worker knows
// the script. Otherwise the client gets reply, the node's error.
func (w *Worker) sendAsEval(c *call, frame, reply []byte) {
	var p resp.Parser
	p.Next(frame, &w.limits)
	full := w.asEval(c.req.cmd, nil, &p)
	if full == nil || c.req.sess == nil {
		w.answerChecked(c, reply)
		return
	}
	c.req.sess.endCheck(c)
	w.stats.NoScript++
	c.sentAsEval = true
	how := plain
	if c.asking {
		how = behindAsking
	}
	w.start(c, c.node, full, how)
}

// findScript looks for a script on all workers, and then calls done, whether any worker has
// it or not. A sibling may just have learned the script, with its message to this worker
// still on the way.
func (w *Worker) findScript(sha string, done func()) {
	if w.o.Workers < 2 || w.scripts.Text([]byte(sha)) != nil {
		done()
		return
	}
	w.askSiblings(func(o *Worker) any { return o.scripts.Text([]byte(sha)) }, func(answers []any) {
		for _, answer := range answers {
			if text := answer.([]byte); text != nil {
				w.scripts.Add(text)
			}
		}
		done()
	})
}

// lookup identifies a SCRIPT EXISTS that is in flight.
type lookup struct {
	conn *pool.Conn
	sha  string
}

// askExists asks the node whether it has a script. If the same question is in flight on the
// same connection, its reply serves both callers. This reply is right for the second caller
// too: its EVALSHA went before the question, and any command that loads the script comes
// after it.
func (w *Worker) askExists(conn *pool.Conn, sha string, deadline int64, done func(exists []byte, ok bool)) {
	l := lookup{conn, sha}
	if w.lookups[l] = append(w.lookups[l], done); len(w.lookups[l]) > 1 {
		return
	}
	w.ask(conn, deadline, func(exists []byte, ok bool) {
		waiting := w.lookups[l]
		delete(w.lookups, l)
		for _, done := range waiting {
			done(exists, ok)
		}
	}, "SCRIPT", "EXISTS", sha)
}

// confirm checks a script's error reply which says that the node did not execute the script.
// A script can return any error, and may have written before. So confirm sends a plain
// command (EXISTS) for the same keys to the node, on the same connection, and passes its
// reply to proven, as answer. If answer proves that the script was not executed, because the
// node answered EXISTS in the same way or refused another plain command meanwhile, proven
// continues the call and returns true. Otherwise the client gets the script's reply. confirm
// returns false if the script has no keys.
//
// One case stays open: the script has written, and returns the very address that its slot
// moves to, or exactly Redis's error, in the moment in which the slot moves or the cluster
// goes down.
func (w *Worker) confirm(
	c *call, conn *pool.Conn, frame, reply []byte, proven func(answer, frame, reply []byte) bool,
) bool {
	exists := existsOf(c, frame)
	if exists == nil {
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	w.raiseBarrier(c)
	c.req.sess.beginCheck(c)
	asked := &probe{done: func(answer []byte, ok bool) {
		s := c.req.sess
		if s == nil {
			c.req.unfinished--
			w.freeIfDone(c.req)
			return
		}
		s.endCheck(c)
		if ok {
			c.node.refused(w.now, answer)
		}
		switch {
		case c.isOvertaken:
			w.stats.Overtaken++
		case ok && proven(answer, frame, reply):
			return
		}
		w.failOvertaken(s, c)
		if !ok {
			w.stats.UnknownOutcome++
			reply = resp.AppendError(nil, errtext.ConnectionEnded(c.node.label(), "while its error was looked into"))
		}
		w.settle(c, reply)
	}}
	c.node.asMaster(conn, func() {
		if c.asking {
			conn.SendAsking(nil, asked, exists, w.now, w.replyBy(c))
		} else {
			conn.Send(asked, exists, w.now, w.replyBy(c))
		}
	})
	return true
}

// hold queues a script for a node that currently refuses all commands, instead of sending
// it, and returns true if it did so. If the node refused the script and recovered at once,
// keyway could not prove that the script was refused.
func (w *Worker) hold(c *call, n *node, frame []byte) bool {
	c.node = n
	return c.group >= 0 && !c.replica && n.refusedAll(w.now-retryMax, n.refusal) && w.putOff(c, frame, n.refusal)
}

// scout sends EXISTS for the keys of the first waiting script of a session, before the
// session retries its calls. While the node refuses EXISTS, keyway does not send the script,
// so that no error of the script has to be checked. scout returns true if the session has to
// wait for the reply.
func (w *Worker) scout(s *Session) bool {
	i := slices.IndexFunc(s.retry, func(c *call) bool { return c.req.cmd.Unproven() })
	if i < 0 {
		return false
	}
	c := s.retry[i]
	n, exists := w.ownerOf(c.group), existsOf(c, c.frame)
	if n == nil || exists == nil || n.conn(s).ConnectError() != "" {
		return false
	}
	t := s.rareState // if the client leaves, its session loses this state
	t.scouting = true
	conn, asked := n.conn(s), &probe{done: func(answer []byte, ok bool) {
		t.scouting = false
		if ok && n.refused(w.now, answer) {
			t.retryAt = w.now + w.set.Rand.Int64N(retryMax)
		} else {
			t.scouted = true
		}
	}}
	n.asMaster(conn, func() { conn.Send(asked, exists, w.now, w.deadline()) })
	return true
}

// existsOf returns an EXISTS for the keys of a script, or nil if the script has no keys.
func existsOf(c *call, frame []byte) []byte {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return nil
	}
	keys := c.req.cmd.Keys(&p, nil)
	if len(keys) == 0 {
		return nil
	}
	exists := resp.AppendBulkString(resp.AppendArray(nil, 1+len(keys)), "EXISTS")
	for _, k := range keys {
		exists = resp.AppendBulk(exists, p.Arg(k))
	}
	return exists
}

// keylessPlace returns where a script, function or module command without keys runs. It
// is the place of one fixed key, so each such command finds what the previous one has
// left, whichever client, thread or keyway sends it.
func (w *Worker) keylessPlace() (group int32, id router.NodeID) {
	group, id = w.table.Place(w.keyless)
	if id != router.None || w.table.Slotted() {
		return group, id
	}
	for i, n := range w.table.Nodes { // no range rule contains the key
		if n.Master && (id == router.None || n.Name < w.table.Nodes[id].Name) {
			id = router.NodeID(i)
		}
	}
	return int32(id), id // without slots, a group is a node
}

// warnKeyless logs, once for each script, that a script without KEYS may write. Keyway
// looks for a key on the node that its name selects, which may be another one.
func (w *Worker) warnKeyless(cmd *command.Command, a command.Args) {
	if len(w.masters) < 2 || cmd.Has(command.Module) || cmd.Has(readOnly) || !w.scripts.MayWrite(cmd, a) {
		return
	}
	w.stats.Keyless++
	name := resp.Printable([]byte(lua.Name(cmd, a)))
	if len(name) > 64 {
		name = name[:64]
	}
	if !w.scripts.Warn(name) {
		return
	}
	w.tellSiblings(func(o *Worker) { o.scripts.Warn(name) })
	w.ready.Notes = append(w.ready.Notes, fmt.Sprintf("%s %s has no KEYS and may write; "+
		"keys that it makes are found by name only if they belong to the node of scripts.keyless",
		cmd.Upper(), name))
}
