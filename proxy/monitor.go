package proxy

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// MONITOR shows what keyway's clients send, whichever worker they belong to.

// redacted stands for what must not be shown (server.c, redactClientCommandArgument).
var redacted = []byte("(redacted)")

// monitors is who watches.
type monitors struct {
	own      []*Session
	siblings int    // clients of others that watch
	lines    []byte // for them, since they were last told
	hidden   bool   // the command that is dispatched is not even begun, or shown with its outcome
}

// include reports whether a client of this worker watches.
func (m *monitors) include(s *Session) bool { return slices.Contains(m.own, s) }

func (m *monitors) none() bool { return len(m.own) == 0 && m.siblings == 0 }

func monitor(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if w.monitors.include(s) {
		return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
	}
	w.monitors.own = append(w.monitors.own, s)
	return w.haveAll(s, cmd, func(o *Worker) {
		if o != w {
			o.monitors.siblings++
		}
	})
}

// stopMonitor is for a client that watches no more.
func (w *Worker) stopMonitor(s *Session) {
	if i := slices.Index(w.monitors.own, s); i >= 0 {
		w.monitors.own = slices.Delete(w.monitors.own, i, i+1)
		w.tellSiblings(func(o *Worker) { o.monitors.siblings-- })
	}
}

// shown reports whether those who watch see a command that was dispatched: not one
// that was rejected, and one between MULTI and EXEC only when EXEC carries it out.
func (w *Worker) shown(s *Session) bool {
	switch cmd := s.lastCmd; {
	case w.monitors.hidden:
		return false
	case !s.has(inMulti):
		return true
	default:
		return cmd != nil && cmd.InMulti == command.ActsAtOnce
	}
}

// showBlock has those who watch see what a transaction carries out.
func (w *Worker) showBlock(s *Session, t *txn) {
	if w.monitors.none() {
		return
	}
	for i := 1; i <= t.n; i++ { // behind MULTI
		w.showFrame(s, t.shown(i-1))
	}
}

// showWatched has those who watch see an EXEC of a client that watches keys, and what
// it has carried out, if it has.
func (w *Worker) showWatched(s *Session, t *txn, done bool) {
	if s == nil || w.monitors.none() {
		return
	}
	if done {
		w.showBlock(s, t)
	}
	w.showFrame(s, execFrame)
}

func (w *Worker) showFrame(s *Session, frame []byte) {
	p := w.getParser()
	defer w.putParser(p)
	if _, st, err := p.Next(frame, &w.limits); err == nil && st == resp.Ready {
		w.show(s, commandOf(p), p)
	}
}

// commandOf finds a command by its name, nil if the table lacks it.
func commandOf(a command.Args) *command.Command {
	cmd := command.Lookup(a.Arg(0))
	if cmd != nil && len(cmd.Subs) > 0 && a.Len() > 1 {
		return cmd.Sub(a.Arg(1))
	}
	return cmd
}

// show has those who watch see a command. Passwords are not shown, nor are the
// commands of operators (server.c, call: CMD_ADMIN and CMD_SKIP_MONITOR).
func (w *Worker) show(s *Session, cmd *command.Command, a command.Args) {
	if cmd != nil && cmd.Has(command.Admin) {
		return
	}
	line := append(w.frame[:0], '+')
	line = strconv.AppendInt(line, w.wall.Unix(), 10)
	micros := strconv.Itoa(1e6 + w.wall.Nanosecond()/1000)
	line = append(append(line, '.'), micros[1:]...)
	line = append(line, " ["...)
	line = strconv.AppendInt(line, int64(s.db), 10)
	line = append(line, ' ')
	line = append(line, s.peer...)
	line = append(line, ']')
	for i := range a.Len() {
		arg := a.Arg(i)
		if cmd != nil && cmd.IsSecret(a, i) {
			arg = redacted
		}
		line = appendQuoted(append(line, ' '), arg)
	}
	line = append(line, "\r\n"...)
	for _, m := range w.monitors.own {
		w.tell(m, line)
	}
	if w.monitors.siblings > 0 {
		w.monitors.lines = append(w.monitors.lines, line...)
	}
	w.frame = w.buffers.Scratch(line)
}

// tellMonitors passes on to the siblings what their clients watch for.
func (w *Worker) tellMonitors() {
	if len(w.monitors.lines) == 0 {
		return
	}
	lines := w.monitors.lines
	w.monitors.lines = nil
	w.tellSiblings(func(o *Worker) {
		for _, m := range o.monitors.own {
			o.tell(m, lines)
		}
	})
}

// appendQuoted appends b as Redis shows it to people (sds.c, sdscatrepr).
func appendQuoted(dst, b []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range b {
		if i := bytes.IndexByte([]byte("\\\"\n\r\t\a\b"), c); i >= 0 {
			dst = append(dst, '\\', "\\\"nrtab"[i])
		} else if c < ' ' || c > '~' {
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
