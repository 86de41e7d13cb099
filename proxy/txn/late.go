package txn

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// Between MULTI and EXEC a client may also send commands that keyway itself answers. In
// the node's block, a PING takes the place of such a command. After the node has executed
// the block, keyway answers the command in that place:
//
//	client   MULTI  SET a 1  CLIENT ID  INCR b  EXEC
//	node     MULTI  SET a 1  PING       INCR b  EXEC    *3 +OK +PONG :2
//	client                                              *3 +OK :7    :2
//
// The pieces of the reply are joined requests in the session's line. An answer that waits
// for other workers or for a node thus keeps its place.

// lateCommand is a command that keyway answers after the node has executed the block.
type lateCommand struct {
	at    int // its index among the transaction's commands
	cmd   *command.Command
	frame []byte
}

var pingFrame = []byte("*1\r\n$4\r\nPING\r\n")

// mayBeLate reports whether keyway answers the command after the block. It does so for its
// own commands and, if there is a single master, for commands that merge all masters'
// replies.
func mayBeLate(w *engine.Worker, cmd *command.Command) bool {
	return cmd.InMulti == command.AnsweredAfter || cmd.InMulti == command.AnsweredAfterAlone && len(w.Masters) == 1
}

// shown returns the i-th command as the client has sent it.
func (t *txn) shown(i int) []byte {
	for _, late := range t.late {
		if late.at == i {
			return late.frame
		}
	}
	return t.Frames[t.Ends[i]:t.Ends[i+1]]
}

// split cuts a block's reply into the piece in front of each late command and the piece
// behind the last one. It returns nil if the node has not executed the block.
func (t *txn) split(reply []byte) (pieces [][]byte) {
	n, rest, ok := resp.Elements(reply)
	if !ok || n != t.Queued {
		return nil
	}
	from := 0
	next := t.late
	for i := range n {
		at := len(reply) - len(rest)
		if _, rest, ok = resp.Split(rest); !ok {
			return nil
		}
		if len(next) > 0 && next[0].at == i {
			pieces = append(pieces, reply[from:at])
			from = len(reply) - len(rest)
			next = next[1:]
		}
	}
	return append(pieces, reply[from:])
}

// answerLate answers the late commands of a transaction whose block the node has executed.
// Behind each of their replies it sends the piece of the block's reply that belongs there.
func answerLate(w *engine.Worker, s *engine.Session, t *txn, rest [][]byte, mute bool) {
	if silenced := mute && !s.Has(engine.Silent); silenced {
		s.Set(engine.Silent)
		defer s.Clear(engine.Silent)
	}
	for i, late := range t.late {
		p := w.Inputs.GetParser()
		_, st, err := p.Next(late.frame, &resp.DefaultLimits)
		if err == nil && st == resp.Ready && !carryOut(w, s, late.cmd, p) {
			s.Clear(engine.Stalled)
			s.AnswerError(late.cmd, errLateStalled)
		}
		w.Inputs.PutParser(p)
		if len(rest[i]) > 0 && !mute {
			s.Tell(rest[i])
		}
	}
}

// carryOut answers a late command. It returns false if the command would have to wait.
func carryOut(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	switch cmd.Handling {
	case command.AllMasters:
		return engine.SendToAllMasters(w, s, cmd, a)
	case command.AnyMaster:
		return engine.SendToAnyMaster(w, s, cmd, a)
	}
	return w.Parts.Handlers[cmd.Action].Answer(w, s, cmd, a)
}

// beforeLate returns the piece of a transaction's reply in front of its first late
// command. after answers the late commands; it is nil if there are none.
func beforeLate(w *engine.Worker, reply []byte, r *engine.Request) (first []byte, after func()) {
	t := r.Merge.About.(*txn)
	if len(t.late) == 0 {
		return reply, nil
	}
	pieces := t.split(bytes.Clone(reply))
	if pieces == nil {
		return reply, nil
	}
	s, mute := r.Session, r.Mute
	return reply[:len(pieces[0])], func() { answerLate(w, s, t, pieces[1:], mute) }
}

// showBlock shows the observer the commands that a transaction executes.
func showBlock(w *engine.Worker, s *engine.Session, t *txn) {
	if w.Observer == nil {
		return
	}
	for i := 1; i <= t.Queued; i++ { // behind MULTI
		showFrame(w, s, t.shown(i-1))
	}
}

// showWatched shows the observer the EXEC of a client that watches keys. If EXEC has executed
// the commands, it shows these first.
func showWatched(w *engine.Worker, s *engine.Session, t *txn, done bool) {
	if s == nil || w.Observer == nil {
		return
	}
	if done {
		showBlock(w, s, t)
	}
	showFrame(w, s, execFrame)
}

func showFrame(w *engine.Worker, s *engine.Session, frame []byte) {
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	if _, st, err := p.Next(frame, &w.Inputs.Limits); err == nil && st == resp.Ready {
		w.Observer.Show(s, w.Learned.CommandOf(p), p)
	}
}

// published is a PUBLISH or SPUBLISH in a transaction.
type published struct {
	at        int // its index among the commands
	cmd       *command.Command
	channel   string
	uncounted int64 // the result of the counter when the transaction was sent
}

// call returns the call for an EXEC that goes to n. If keyway has to edit replies inside
// the transaction's reply, it buffers that reply until it is complete.
func (t *txn) call(w *engine.Worker, r *engine.Request, n *engine.Node) *engine.Call {
	c := &r.Call
	for i := range t.published {
		if p := &t.published[i]; n != nil {
			p.uncounted = w.Counter.Uncounted(n, p.cmd, p.channel)
		}
	}
	if len(t.published)+len(t.late)+len(t.selects) > 0 || t.user.Prefix != nil {
		r.End, r.Merge = execText, w.Mergers.Get(1)
		r.Merge.About = t
		c = r.Merge.Call(r, 0)
	}
	c.Group, c.Block = t.group, &t.Block
	return c
}

// execText is the ending of an EXEC whose reply keyway edits. The late commands' replies
// follow in the line.
func execText(w *engine.Worker, dst []byte, r *engine.Request) []byte {
	dst = appendExecReply(w, dst, r)
	dst, r.Merge.After = beforeLate(w, dst, r)
	return dst
}

// appendExecReply appends the node's reply to EXEC. It turns the node's counts of receivers into numbers
// of clients, and switches the session to the database of the last successful SELECT.
func appendExecReply(w *engine.Worker, dst []byte, r *engine.Request) []byte {
	reply, c := r.Merge.Replies[0], r.Merge.Calls[0]
	n, rest, ok := resp.Elements(reply)
	if !ok {
		return append(dst, reply...)
	}
	t := r.Merge.About.(*txn)
	if n > t.Queued { // the last reply is that of the SELECT which close has added
		n = t.Queued
		dst = resp.AppendArray(dst, n)
	} else {
		dst = append(dst, reply[:len(reply)-len(rest)]...)
	}
	published, selects, db := t.published, t.selects, -1
	for i := range n {
		var one []byte
		one, rest, _ = resp.Split(rest)
		if len(selects) > 0 && selects[0] == i {
			if selects = selects[1:]; len(one) > 0 && one[0] == '+' {
				db = t.database(i)
			}
		}
		if len(published) > 0 && published[0].at == i {
			if count, ok := resp.Int(one); ok {
				p := published[0]
				one = resp.AppendInt(nil, w.Counter.Receivers(c.Node, p.cmd, p.channel, count, p.uncounted))
			}
			published = published[1:]
		}
		if t.user.Prefix == nil {
			dst = append(dst, one...)
		} else {
			dst = t.user.Prefix.AppendReply(dst, one, t.shape(w, i))
		}
	}
	if db >= 0 {
		engine.UseDB(w, r.Session, uint16(db))
	}
	return dst
}

// shape returns where the names are in the reply to the i-th command.
func (t *txn) shape(w *engine.Worker, i int) names.Shape {
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	_, st, err := p.Next(t.Frames[t.Ends[i]:t.Ends[i+1]], &resp.DefaultLimits)
	if err != nil || st != resp.Ready {
		return names.NoNames
	}
	cmd := w.Learned.CommandOf(p)
	if cmd == nil {
		return names.NoNames
	}
	return names.ShapeOf(cmd)
}

// database returns the database that the i-th command, a SELECT, selects, or -1 if it
// cannot be parsed.
func (t *txn) database(i int) int {
	var p resp.Parser
	if _, st, err := p.Next(t.Frames[t.Ends[i]:t.Ends[i+1]], &resp.DefaultLimits); err != nil || st != resp.Ready {
		return -1
	}
	db, _ := resp.ParseInt(p.Arg(1))
	return int(db)
}
