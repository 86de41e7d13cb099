package proxy

import (
	"bytes"

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

// paused tells whether the client must wait with the command.
func (w *Worker) paused(s *Session, cmd *command.Command, a command.Args) bool {
	if w.now >= w.pause.until {
		w.pause = pause{}
		return false
	}
	return w.pause.all || w.replicates(cmd, a) || cmd.Is(command.Executes) && s.has(inMulti) && s.txn.writes
}

// replicates reports whether a command may change what replicas have. A script
// that declares its flags does so unless they say no-writes (script.c,
// scriptFlagsToCmdFlags).
func (w *Worker) replicates(cmd *command.Command, a command.Args) bool {
	if cmd.Has(command.Write) || !cmd.Is(command.MayReplicate) {
		return cmd.Has(command.Write)
	}
	switch {
	case cmd.Is(command.TakesScript):
		return !declaresNoWrites(a.Arg(1))
	case cmd.Is(command.TakesSHA):
		return !declaresNoWrites(w.scripts.body(a.Arg(1)))
	}
	return true
}

// declaresNoWrites reads the flags in a script's first line, such as
// #!lua flags=no-writes,allow-stale.
func declaresNoWrites(body []byte) bool {
	line, _, _ := bytes.Cut(body, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return false
	}
	for _, word := range bytes.Fields(line) {
		if flags, ok := bytes.CutPrefix(word, []byte("flags=")); ok {
			for flag := range bytes.SplitSeq(flags, []byte(",")) {
				if string(flag) == "no-writes" {
					return true
				}
			}
		}
	}
	return false
}
