package answers

import (
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/resp"
)

// Clients do not see the nodes' register, which consists of libraries of functions, and cannot
// change it.

const (
	errNoFunction  = "ERR Function not found"                             // script.c
	errNoLibrary   = "ERR Library not found"                              // functions.c
	errFlushMode   = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option" // functions.c
	errPolicy      = "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
	errDump        = "ERR DUMP payload version or checksum are wrong"
	errReserved    = "ERR keyway: names that begin with keyway_ are keyway's own; choose another name"
	errStrangeDump = "ERR keyway: the payload is of a kind that keyway cannot read; restore it on each node directly"
	errNoDump      = "ERR keyway: the node's dump is of a kind that keyway cannot read; ask the node directly"
)

// hideFunction refuses FCALL of a record.
func hideFunction(_ *engine.Worker, a command.Args) string {
	if register.IsRecord(a.Arg(1)) {
		return errNoFunction
	}
	return ""
}

// hideLibrary refuses FUNCTION DELETE of a record.
func hideLibrary(_ *engine.Worker, a command.Args) string {
	if register.IsRecord(a.Arg(2)) {
		return errNoLibrary
	}
	return ""
}

// refuseRecord refuses FUNCTION LOAD [REPLACE] of a library with the name of a record, or with a
// function of that name.
func refuseRecord(_ *engine.Worker, a command.Args) string {
	if register.IsInText(a.Arg(a.Len() - 1)) {
		return errReserved
	}
	return ""
}

// functionList is the ending of FUNCTION LIST.
func functionList(_ *engine.Worker, dst []byte, r *engine.Request) []byte {
	return register.AppendList(dst, r.Merge.Replies[0])
}

// functionDump is the ending of FUNCTION DUMP.
func functionDump(_ *engine.Worker, dst []byte, r *engine.Request) []byte {
	reply := r.Merge.Replies[0]
	payload, ok := resp.Bulk(reply)
	if !ok {
		return append(dst, reply...)
	}
	d, err := register.ReadDump(payload)
	if err != nil {
		return resp.AppendError(dst, errNoDump)
	}
	return resp.AppendBulk(dst, d.Payload)
}

// functionRestore answers FUNCTION RESTORE payload [FLUSH|APPEND|REPLACE]. It leaves out the
// records of the payload. With FLUSH it first restores with REPLACE, and then deletes the
// libraries that the payload does not have, so that a payload that is refused does no harm.
func functionRestore(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	policy := a.Arg(min(a.Len()-1, 3))
	d, err := register.ReadDump(a.Arg(2))
	flush := a.Len() == 4 && command.EqualFold(policy, "flush")
	switch {
	case w.Server.Lacks(cmd):
		return s.AnswerError(cmd, w.Server.Lacked(cmd, a))
	case a.Len() > 4:
		return s.AnswerError(cmd, errtext.SubSyntax("FUNCTION", a.Arg(1)))
	case a.Len() == 4 && !flush && !command.EqualFold(policy, "append") && !command.EqualFold(policy, "replace"):
		return s.AnswerError(cmd, errPolicy)
	case err == register.ErrChecksum:
		return s.AnswerError(cmd, errDump)
	case err != nil:
		return s.AnswerError(cmd, errStrangeDump)
	case flush:
		return deleteOthers(w, s, cmd, d.Clients, "FUNCTION", "RESTORE", string(d.Payload), "REPLACE")
	case d.Records == 0:
		return engine.SendFrameToAllMasters(w, s, cmd, a, a.Frame())
	}
	frame := []string{"FUNCTION", "RESTORE", string(d.Payload)}
	if a.Len() == 4 {
		frame = append(frame, string(policy))
	}
	return engine.SendFrameToAllMasters(w, s, cmd, a, resp.AppendCommand(nil, frame...))
}

// functionFlush answers FUNCTION FLUSH [SYNC|ASYNC].
func functionFlush(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	switch {
	case w.Server.Lacks(cmd):
		return s.AnswerError(cmd, w.Server.Lacked(cmd, a))
	case a.Len() > 3:
		return s.AnswerError(cmd, errtext.SubSyntax("FUNCTION", a.Arg(1)))
	case a.Len() == 3 && !command.EqualFold(a.Arg(2), "sync") && !command.EqualFold(a.Arg(2), "async"):
		return s.AnswerError(cmd, errFlushMode)
	}
	return deleteOthers(w, s, cmd, nil)
}

// deletion deletes clients' libraries on all masters. The client waits until it is done.
type deletion struct {
	w       *engine.Worker
	s       *engine.Session
	cmd     *command.Command
	keep    []string // names
	pending int      // replies that are still to come, and 1 until all masters were asked
	failure string   // the first error
}

// deleteOthers sends each master a command, unless it is empty, and if that succeeds deletes
// all libraries but the records and those to keep. FUNCTION FLUSH would also delete records,
// even such as have appeared since keyway asked for the libraries.
func deleteOthers(
	w *engine.Worker, s *engine.Session, cmd *command.Command, keep []string, before ...string,
) bool {
	if s.Inflight > 0 {
		s.Set(engine.Draining) // its earlier commands finish first
		return false
	}
	for _, n := range w.Masters {
		if reason := n.Conn(s).ConnectError(); reason != "" {
			return s.AnswerError(cmd, errtext.NotExecuted(n.Label(), reason))
		}
	}
	d := &deletion{w: w, s: s, cmd: cmd, keep: keep, pending: 1}
	s.Set(engine.Blocked)
	for _, n := range w.Masters {
		list := func([]byte) { d.ask(n, func(reply []byte) { d.delete(n, reply) }, "FUNCTION", "LIST") }
		if len(before) == 0 {
			list(nil)
		} else {
			d.ask(n, list, before...)
		}
	}
	d.ended()
	return true
}

// ask sends a master a command. If that succeeds, next may ask more.
func (d *deletion) ask(n *engine.Node, next func(reply []byte), args ...string) {
	d.pending++
	conn := n.Conn(d.s)
	d.w.Ask(conn, d.w.Deadline(), func(reply []byte, ok bool) {
		text, isErr := resp.ErrorText(reply)
		switch {
		case !ok:
			d.fail(errtext.ConnectionEnded(n.Label(), conn.Reason()))
		case isErr && string(text) != errNoLibrary: // somebody else has deleted it
			d.fail(string(text))
		case !isErr:
			next(reply)
		}
		d.ended()
	}, args...)
}

// delete deletes the libraries of a reply to FUNCTION LIST.
func (d *deletion) delete(n *engine.Node, list []byte) {
	names, _ := register.Names(list)
	for _, name := range names {
		if !slices.Contains(d.keep, name) {
			d.ask(n, func([]byte) {}, "FUNCTION", "DELETE", name)
		}
	}
}

func (d *deletion) fail(text string) {
	if d.failure == "" {
		d.failure = text
	}
}

// ended counts a reply, and answers the client after the last.
func (d *deletion) ended() {
	if d.pending--; d.pending > 0 || d.s.HasLeft() {
		return
	}
	d.s.Clear(engine.Blocked)
	if d.failure != "" {
		d.s.AnswerError(d.cmd, d.failure)
	} else {
		d.s.Answer(d.cmd, resp.AppendOK(nil))
	}
	d.s.Wake()
}
