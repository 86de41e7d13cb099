package answers

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// keyway answers Valkey's own commands only if the nodes run Valkey. Otherwise it forwards
// them, and the node answers that it does not know the command.

const (
	errLogType   = "ERR type should be one of the following: slow, large-request, large-reply" // commandlog.c
	errLargeLogs = "ERR keyway: COMMANDLOG of large requests and replies is kept by the nodes, not by keyway; " +
		"ask each of them"
	errImportSource = "ERR keyway: 'CLIENT IMPORT-SOURCE' is refused: it marks a connection to a node, " +
		"and keyway's clients share these; import into the nodes directly"
)

// ofValkey wraps a handler of a command that only Valkey has.
func ofValkey(answer engine.Local) engine.Local {
	return func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		if w.Server.Name != "valkey" {
			return engine.SendToAnyMaster(w, s, cmd, a)
		}
		return answer(w, s, cmd, a)
	}
}

// COMMANDLOG with the type slow is Valkey's name for SLOWLOG.
var (
	commandLogGet = ofValkey(func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		return slowType(w, s, cmd, a.Arg(3)) || slowLogGet(w, s, cmd, a)
	})
	commandLogLen = ofValkey(func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		return slowType(w, s, cmd, a.Arg(2)) || slowLogLen(w, s, cmd, a)
	})
	commandLogReset = ofValkey(func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		return slowType(w, s, cmd, a.Arg(2)) || slowLogReset(w, s, cmd, a)
	})
)

// slowType answers a COMMANDLOG with an error unless its type is slow. It returns false if
// the type is slow.
func slowType(w *engine.Worker, s *engine.Session, cmd *command.Command, kind []byte) bool {
	switch {
	case command.EqualFold(kind, "slow"):
		return false
	case command.EqualFold(kind, "large-request"), command.EqualFold(kind, "large-reply"):
		return s.AnswerError(cmd, errLargeLogs)
	}
	return s.AnswerError(cmd, errLogType)
}

// scriptShow answers SCRIPT SHOW sha1, with the script if keyway has seen it, otherwise with
// a node's reply.
var scriptShow = ofValkey(func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if text := w.Scripts.Cache.Text(a.Arg(2)); text != nil {
		return s.Reply(cmd, resp.AppendBulk(w.Scratch[:0], text))
	}
	return engine.SendToAnyMaster(w, s, cmd, a)
})

// importSource answers CLIENT IMPORT-SOURCE ON|OFF. A client of keyway is never an import
// source, so OFF succeeds without effect and ON is refused.
var importSource = ofValkey(func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if command.EqualFold(a.Arg(2), "off") {
		return replyOK(w, s, cmd, a)
	}
	return s.AnswerError(cmd, errImportSource)
})
