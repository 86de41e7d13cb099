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

// scripts are the scripts that clients have sent, and what the nodes know of them.
type scripts struct {
	w       *Worker
	cache   *lua.Cache
	keyless []byte // Options.Keyless
	lookups map[lookup][]func(exists []byte, ok bool)
}

// note remembers the script of an EVAL, and warns of a script without keys. w.keys
// must contain the command's keys.
func (sc *scripts) note(cmd *command.Command, a command.Args) {
	if cmd.Is(command.TakesScript) {
		sc.learn(a.Arg(1))
	}
	if len(sc.w.keys) == 0 {
		sc.warnKeyless(cmd, a)
	}
}

// learn makes every worker remember a script.
func (sc *scripts) learn(text []byte) {
	if sc.cache.Add(text) && sc.w.o.Workers > 1 {
		text = bytes.Clone(text)
		sc.w.siblings.tell(func(o *Worker) { o.scripts.cache.Add(text) })
	}
}

func (sc *scripts) forget() {
	sc.cache.Clear()
	sc.w.siblings.tell(func(o *Worker) { o.scripts.cache.Clear() })
}

// recordKnown records which scripts of a SCRIPT EXISTS keyway knows.
func recordKnown(w *Worker, m *merger, a command.Args) {
	m.perArgument = w.scripts.cache.AppendKnown(m.perArgument, a)
}

// scriptsExist is the ending of SCRIPT EXISTS.
func scriptsExist(_ *Worker, dst []byte, r *request) []byte {
	return lua.AppendExists(dst, r.cmd.Merge(nil, r.merge.replies, 0), r.merge.perArgument)
}

// asEval returns an EVALSHA as the EVAL of its script, or nil if it goes to n as it is. With n
// nil, no node is known to have the script. The result is valid until the next call of asEval.
func (sc *scripts) asEval(cmd *command.Command, n *node, a command.Args) []byte {
	w := sc.w
	node := lua.NoNode
	if n != nil {
		node = n.ordinal
	}
	frame := sc.cache.AppendEval(w.frame[:0], cmd, node, a)
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
func (sc *scripts) onNoScript(c *call, conn *pool.Conn, frame, reply []byte) bool {
	var p resp.Parser
	_, st, err := p.Next(frame, &sc.w.inputs.limits)
	if err != nil || st != resp.Ready || !command.EqualFold(p.Arg(0), c.req.cmd.Name) {
		return false // it was sent as EVAL
	}
	sha := string(p.Arg(1))
	sc.cache.Lacks(c.node.ordinal, sha)
	if sc.w.o.Workers < 2 && sc.cache.Text(p.Arg(1)) == nil || sentAfter(c.req.sess, c) {
		// No worker knows the script, or the call, sent again, would be executed after a
		// later command of the same client.
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	c.raiseBarrier()
	beginCheck(c.req.sess, c)
	sc.askExists(conn, sha, c.replyBy(), func(exists []byte, ok bool) {
		if !ok || !bytes.Equal(exists, []byte("*1\r\n:0\r\n")) {
			sc.answerChecked(c, reply)
			return
		}
		sc.find(sha, func() { sc.sendAsEval(c, frame, reply) })
	})
	return true
}

// answerChecked answers a call with the node's error, after the check of that error.
func (sc *scripts) answerChecked(c *call, reply []byte) {
	if s := c.req.sess; s != nil {
		endCheck(s, c)
	}
	c.settleFor(reply)
}

// sendAsEval sends an EVALSHA that the node could not execute as EVAL, if this worker knows
// the script. Otherwise the client gets reply, the node's error.
func (sc *scripts) sendAsEval(c *call, frame, reply []byte) {
	var p resp.Parser
	p.Next(frame, &sc.w.inputs.limits)
	full := sc.asEval(c.req.cmd, nil, &p)
	if full == nil || c.req.sess == nil {
		sc.answerChecked(c, reply)
		return
	}
	endCheck(c.req.sess, c)
	sc.w.stats.NoScript++
	c.sentAsEval = true
	how := plain
	if c.asking {
		how = behindAsking
	}
	c.start(c.node, full, how)
}

// find looks for a script on all workers, and then calls done, whether any worker has
// it or not. A sibling may just have learned the script, with its message to this worker
// still on the way.
func (sc *scripts) find(sha string, done func()) {
	if sc.w.o.Workers < 2 || sc.cache.Text([]byte(sha)) != nil {
		done()
		return
	}
	sc.w.siblings.ask(func(o *Worker) any { return o.scripts.cache.Text([]byte(sha)) }, func(answers []any) {
		for _, answer := range answers {
			if text := answer.([]byte); text != nil {
				sc.cache.Add(text)
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
func (sc *scripts) askExists(conn *pool.Conn, sha string, deadline int64, done func(exists []byte, ok bool)) {
	l := lookup{conn, sha}
	if sc.lookups[l] = append(sc.lookups[l], done); len(sc.lookups[l]) > 1 {
		return
	}
	sc.w.ask(conn, deadline, func(exists []byte, ok bool) {
		waiting := sc.lookups[l]
		delete(sc.lookups, l)
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
func (sc *scripts) confirm(
	c *call, conn *pool.Conn, frame, reply []byte, proven func(answer, frame, reply []byte) bool,
) bool {
	w := sc.w
	exists := existsOf(c, frame)
	if exists == nil {
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	c.raiseBarrier()
	beginCheck(c.req.sess, c)
	asked := &probe{done: func(answer []byte, ok bool) {
		s := c.req.sess
		if s == nil {
			c.req.unfinished--
			w.freeIfDone(c.req)
			return
		}
		endCheck(s, c)
		if ok {
			c.node.refused(w.now, answer)
		}
		switch {
		case c.isOvertaken:
			w.stats.Overtaken++
		case ok && proven(answer, frame, reply):
			return
		}
		w.retries.failOvertaken(s, c)
		if !ok {
			w.stats.UnknownOutcome++
			reply = resp.AppendError(nil, errtext.ConnectionEnded(c.node.label(), "while its error was looked into"))
		}
		c.settle(reply)
	}}
	c.node.asMaster(conn, func() {
		if c.asking {
			conn.SendAsking(nil, asked, exists, w.now, c.replyBy())
		} else {
			conn.Send(asked, exists, w.now, c.replyBy())
		}
	})
	return true
}

// delay queues a script for a node that currently refuses all commands, instead of sending
// it, and returns true if it did so. If the node refused the script and recovered at once,
// keyway could not prove that the script was refused.
func (q *retries) delay(c *call, n *node, frame []byte) bool {
	c.node = n
	return c.group >= 0 && !c.replica && n.refusedAll(q.w.now-retryMax, n.refusal) && q.putOff(c, frame, n.refusal)
}

// scout sends EXISTS for the keys of the first waiting script of a session, before the
// session retries its calls. While the node refuses EXISTS, keyway does not send the script,
// so that no error of the script has to be checked. scout returns true if the session has to
// wait for the reply.
func (q *retries) scout(s *Session) bool {
	w := q.w
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
func (sc *scripts) keylessPlace() (group int32, id router.NodeID) {
	w := sc.w
	group, id = w.table.Place(sc.keyless)
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
func (sc *scripts) warnKeyless(cmd *command.Command, a command.Args) {
	w := sc.w
	if len(w.masters) < 2 || cmd.Has(command.Module) || cmd.Has(readOnly) || !sc.cache.MayWrite(cmd, a) {
		return
	}
	w.stats.Keyless++
	name := resp.Printable([]byte(lua.Name(cmd, a)))
	if len(name) > 64 {
		name = name[:64]
	}
	if !sc.cache.Warn(name) {
		return
	}
	w.siblings.tell(func(o *Worker) { o.scripts.cache.Warn(name) })
	w.ready.Notes = append(w.ready.Notes, fmt.Sprintf("%s %s has no KEYS and may write; "+
		"keys that it makes are found by name only if they belong to the node of scripts.keyless",
		cmd.Upper(), name))
}
