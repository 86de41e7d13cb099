package proxy

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// A client speaks RESP2 until it asks for RESP3. keyway has separate connections to the
// nodes for each version and uses those of the client's version, so it passes replies on
// unchanged.

// protocol returns the version of the protocol that the client speaks.
func (s *Session) protocol() resp.Version {
	if s.has(resp3) {
		return resp.V3
	}
	return resp.V2
}

// speak switches the client to another version of the protocol. For RESP3, it first checks
// that a node supports it. Then it calls answer with an error text, or with "" on success.
// It returns false if the command has to wait; it then has no effect.
func speak(w *Worker, s *Session, version int64, answer func(text string)) bool {
	if (version == 3) == s.has(resp3) {
		answer("")
		return true
	}
	if s.inflight > 0 {
		s.set(draining) // earlier commands finish first, over the connections of the old version
		return false
	}
	s.clear(resp3)
	if version == 3 {
		s.set(resp3)
	}
	renewConns(w, s)
	done := func(text string) {
		answer(text)
		s.forgetCached() // behind the answer: it may be a push of the new version
	}
	if version == 2 {
		done("")
		return true
	}
	n, conn := w.anyMaster(s)
	if n == nil || conn.State() == pool.Ready {
		done("")
		return true
	}
	s.set(blocked)
	w.ask(conn, w.deadline(), func(_ []byte, ok bool) {
		if s.index < 0 {
			return
		}
		text := ""
		if why := conn.Reason(); !ok && (strings.Contains(why, "unknown command") || strings.Contains(why, "NOPROTO")) {
			text = errtext.NoProto // older than Redis 6
			s.clear(resp3)
			n.disconnect(conn)
		}
		s.clear(blocked)
		done(text)
		s.wake()
	}, "PING")
	return true
}

// clientReply answers CLIENT REPLY ON|OFF|SKIP.
func clientReply(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	switch how := a.Arg(2); {
	case command.EqualFold(how, "on"):
		s.clear(silent | skipping)
		return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
	case command.EqualFold(how, "off"):
		s.set(silent)
	case command.EqualFold(how, "skip"):
		if !s.has(silent) {
			s.set(skipping)
		}
	default:
		return s.answerError(cmd, errtext.Syntax)
	}
	w.count(cmd, w.now, false)
	return true
}
