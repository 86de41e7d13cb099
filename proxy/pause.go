package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// pause holds clients' commands up.
type pause struct {
	until int64
	all   bool // not only those that may write
}

// clientPause answers CLIENT PAUSE timeout [WRITE|ALL].
func clientPause(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	p := pause{all: true}
	if a.Len() == 4 {
		switch {
		case command.EqualFold(a.Arg(3), "write"):
			p.all = false
		case !command.EqualFold(a.Arg(3), "all"):
			return w.answerError(s, cmd, "ERR CLIENT PAUSE mode must be WRITE or ALL")
		}
	} else if a.Len() > 4 {
		return w.answerError(s, cmd, errSyntax)
	}
	ms, ok := resp.ParseInt(a.Arg(2))
	switch {
	case !ok || ms > 1<<42:
		return w.answerError(s, cmd, errTimeoutBad)
	case ms < 0:
		return w.answerError(s, cmd, errTimeoutNeg)
	}
	return w.haveAll(s, cmd, func(o *Worker) {
		o.pause = pause{until: max(o.pause.until, o.now+ms*1e6), all: p.all || o.pause.all && o.pause.until > o.now}
	})
}

func clientUnpause(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.haveAll(s, cmd, func(o *Worker) { o.pause = pause{} })
}

// mayReplicate are the commands that are no writes and may yet reach replicas
// (COMMAND's flag may_replicate).
var mayReplicate = map[string]bool{"eval": true, "evalsha": true, "fcall": true, "publish": true, "spublish": true, "pfcount": true}

// paused tells whether the client must wait with the command.
func (w *Worker) paused(s *Session, cmd *command.Command) bool {
	if w.now >= w.pause.until {
		w.pause = pause{}
		return false
	}
	return w.pause.all || cmd.Has(command.Write) || mayReplicate[cmd.Name] || cmd.Name == "exec" && s.has(inMulti) && s.txn.writes
}
