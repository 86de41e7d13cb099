package engine

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/retry"
	"github.com/keyway-proxy/keyway/router"
)

// scripts are the scripts that clients have sent, and what the nodes know of them.
type scripts struct {
	w       *Worker
	Cache   *lua.Cache
	keyless []byte // Options.Keyless
	lookups map[lookup][]func(exists []byte, ok bool)
}

// Record remembers the script of an EVAL, and warns of a script without keys. w.Keys
// must contain the command's keys.
func (sc *scripts) Record(cmd *command.Command, a command.Args) {
	if cmd.Is(command.TakesScript) {
		sc.Learn(a.Arg(1))
	}
	if len(sc.w.Keys) == 0 {
		sc.warnKeyless(cmd, a)
	}
}

// Learn makes every worker remember a script.
func (sc *scripts) Learn(text []byte) {
	if sc.Cache.Add(text) && sc.w.Options.Workers > 1 {
		text = bytes.Clone(text)
		sc.w.Siblings.Tell(func(o *Worker) { o.Scripts.Cache.Add(text) })
	}
}

// Forget makes every worker forget all scripts (SCRIPT FLUSH).
func (sc *scripts) Forget() {
	sc.Cache.Clear()
	sc.w.Siblings.Tell(func(o *Worker) { o.Scripts.Cache.Clear() })
}

// AsEval returns an EVALSHA as the EVAL of its script, or nil if it goes to n as it is. With n
// nil, no node is known to have the script. The result is valid until the next call of AsEval.
func (sc *scripts) AsEval(cmd *command.Command, n *Node, a command.Args) []byte {
	w := sc.w
	node := lua.NoNode
	if n != nil {
		node = n.Ordinal
	}
	frame := sc.Cache.AppendEval(w.Frame[:0], cmd, node, a)
	if len(frame) == 0 {
		return nil
	}
	w.Frame = w.Buffers.Scratch(frame)
	return frame
}

// onNoScript handles the error NOSCRIPT. The node may have lost the script, by SCRIPT FLUSH
// for example, or may never have had it. But a script can return this error too, so keyway
// asks the node whether it has the script. Only if the script is missing, and so cannot have
// run, keyway sends the text. onNoScript returns false if the client gets the error.
func (sc *scripts) onNoScript(c *Call, conn *pool.Conn, frame, reply []byte) bool {
	var p resp.Parser
	_, st, err := p.Next(frame, &sc.w.Inputs.Limits)
	if err != nil || st != resp.Ready || !command.EqualFold(p.Arg(0), c.Request.Command.Name) {
		return false // it was sent as EVAL
	}
	sha := string(p.Arg(1))
	sc.Cache.Lacks(c.Node.Ordinal, sha)
	if sc.w.Options.Workers < 2 && sc.Cache.Text(p.Arg(1)) == nil || sentAfter(c.Request.Session, c) {
		// No worker knows the script, or the call, sent again, would be executed after a
		// later command of the same client.
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	c.Deadline = sc.w.Deadline() // the node has answered, perhaps after another script
	c.raiseBarrier()
	beginCheck(c.Request.Session, c)
	if s := c.Request.Session; s.Has(OfNodes) {
		conn = QuestionConn(c.Node, s)
	}
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
func (sc *scripts) answerChecked(c *Call, reply []byte) {
	if s := c.Request.Session; s != nil {
		endCheck(s, c)
	}
	c.SettleFor(reply)
}

// sendAsEval sends an EVALSHA that the node could not execute as EVAL, if this worker knows
// the script. Otherwise the client gets reply, the node's error.
func (sc *scripts) sendAsEval(c *Call, frame, reply []byte) {
	var p resp.Parser
	p.Next(frame, &sc.w.Inputs.Limits)
	full := sc.AsEval(c.Request.Command, nil, &p)
	if full == nil || c.Request.Session == nil {
		sc.answerChecked(c, reply)
		return
	}
	endCheck(c.Request.Session, c)
	n := c.Node
	if sc.w.isStale(c) {
		if !sc.w.PlaceAgain(c, frame) {
			return
		}
		if n = sc.w.target(c); n == nil {
			c.Settle(reply)
			return
		}
	}
	sc.w.Stats.NoScript++
	c.sentAsEval = true
	how := plain
	if c.asking {
		how = behindAsking
	}
	c.start(n, full, how)
}

// find looks for a script on all workers, and then calls done, whether any worker has
// it or not. A sibling may just have learned the script, with its message to this worker
// still on the way.
func (sc *scripts) find(sha string, done func()) {
	if sc.w.Options.Workers < 2 || sc.Cache.Text([]byte(sha)) != nil {
		done()
		return
	}
	sc.w.Siblings.Ask(func(o *Worker) any { return o.Scripts.Cache.Text([]byte(sha)) }, func(answers []any) {
		for _, answer := range answers {
			if text := answer.([]byte); text != nil {
				sc.Cache.Add(text)
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
	sc.w.Ask(conn, deadline, func(exists []byte, ok bool) {
		waiting := sc.lookups[l]
		delete(sc.lookups, l)
		for _, done := range waiting {
			done(exists, ok)
		}
	}, "SCRIPT", "EXISTS", sha)
}

// confirm checks a script's error reply which says that the node did not execute the script.
// The question goes over the same connection, unless the rules of a user of the nodes may forbid it.
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
	c *Call, conn *pool.Conn, frame, reply []byte, proven func(answer, frame, reply []byte) bool,
) bool {
	w := sc.w
	exists := existsOf(c, frame)
	if exists == nil {
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	c.raiseBarrier()
	beginCheck(c.Request.Session, c)
	asked := &Probe{Done: func(answer []byte, ok bool) {
		s := c.Request.Session
		if s == nil {
			c.Request.Unfinished--
			w.freeIfDone(c.Request)
			return
		}
		endCheck(s, c)
		if ok {
			c.Node.refusals.Record(w.Now, answer)
		}
		switch {
		case c.isOvertaken:
			w.Stats.Overtaken++
		case ok && proven(answer, frame, reply):
			return
		}
		w.retries.failOvertaken(s, c, frame)
		if !ok {
			c.Node.CountUnknown()
			reply = resp.AppendError(nil, errtext.ConnectionEnded(c.Node.Label(), "while its error was looked into"))
		}
		c.Settle(reply)
	}}
	if s := c.Request.Session; s.Has(OfNodes) {
		conn = QuestionConn(c.Node, s)
	}
	c.Node.asMaster(conn, func() {
		if c.asking {
			conn.SendAsking(nil, asked, exists, w.Now, c.replyBy())
		} else {
			conn.Send(asked, exists, w.Now, c.replyBy())
		}
	})
	return true
}

// delay queues a script for a node that currently refuses all commands, instead of sending
// it, and returns true if it did so. If the node refused the script and recovered at once,
// keyway could not prove that the script was refused.
func (q *retries) delay(c *Call, n *Node, frame []byte) bool {
	c.Node = n
	return c.Group >= 0 && !c.replica && n.refusals.OfAll(q.w.Now-retry.MaxBackoff) &&
		q.putOff(c, frame, n.refusals.Reply())
}

// probe sends EXISTS for the keys of the first waiting script of a session, before the
// session retries its calls. While the node refuses EXISTS, keyway does not send the script,
// so that no error of the script has to be checked. probe returns true if the session has to
// wait for the reply.
func (q *retries) probe(s *Session) bool {
	w := q.w
	i := slices.IndexFunc(s.Retry, func(c *Call) bool { return c.Request.Command.Unproven() })
	if i < 0 {
		return false
	}
	c := s.Retry[i]
	n, exists := w.OwnerOf(c.Group), existsOf(c, c.frame)
	if n == nil || exists == nil || QuestionConn(n, s).ConnectError() != "" {
		return false
	}
	t := s.RareState // if the client leaves, its session loses this state
	t.probing = true
	conn, asked := QuestionConn(n, s), &Probe{Done: func(answer []byte, ok bool) {
		t.probing = false
		if ok && n.refusals.Record(w.Now, answer) {
			t.retryAt = w.Now + w.Links.Rand.Int64N(retry.MaxBackoff)
		} else {
			t.probed = true
		}
	}}
	n.asMaster(conn, func() { conn.Send(asked, exists, w.Now, w.Deadline()) })
	return true
}

// existsOf returns an EXISTS for the keys of a script, or nil if the script has no keys.
func existsOf(c *Call, frame []byte) []byte {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return nil
	}
	keys := c.Request.Command.Keys(&p, nil)
	if len(keys) == 0 {
		return nil
	}
	exists := resp.AppendBulkString(resp.AppendArray(nil, 1+len(keys)), "EXISTS")
	for _, k := range keys {
		exists = resp.AppendBulk(exists, p.Arg(k))
	}
	return exists
}

// KeylessPlace returns where a script, function or module command without keys runs. It
// is the place of one fixed key, so each such command finds what the previous one has
// left, whichever client, thread or keyway sends it.
func (sc *scripts) KeylessPlace() (group int32, id router.NodeID) {
	w := sc.w
	group, id = w.Table.Place(sc.keyless)
	if id != router.None || w.Table.Slotted() {
		return group, id
	}
	for i, n := range w.Table.Nodes { // no range rule contains the key
		if n.Master && (id == router.None || n.Name < w.Table.Nodes[id].Name) {
			id = router.NodeID(i)
		}
	}
	return int32(id), id // without slots, a group is a node
}

// warnKeyless logs, once for each script, that a script without KEYS may write. Keyway
// looks for a key on the node that its name selects, which may be another one.
func (sc *scripts) warnKeyless(cmd *command.Command, a command.Args) {
	w := sc.w
	if len(w.Masters) < 2 || cmd.Has(command.Module) || cmd.Has(readOnly) || !sc.Cache.MayWrite(cmd, a) {
		return
	}
	w.Stats.Keyless++
	name := resp.Printable([]byte(lua.Name(cmd, a)))
	if len(name) > 64 {
		name = name[:64]
	}
	if !sc.Cache.Warn(name) {
		return
	}
	w.Siblings.Tell(func(o *Worker) { o.Scripts.Cache.Warn(name) })
	w.Ready.Notes = append(w.Ready.Notes, fmt.Sprintf("%s %s has no KEYS and may write; "+
		"keys that it makes are found by name only if they belong to the node of scripts.keyless",
		cmd.Upper(), name))
}
