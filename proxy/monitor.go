package proxy

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// MONITOR shows the commands of all keyway's clients, whichever worker they belong to. A
// monitor is a client that has sent MONITOR.

// redacted replaces an argument that must not be shown (server.c,
// redactClientCommandArgument).
var redacted = []byte("(redacted)")

// monitors are the monitors that a worker knows.
type monitors struct {
	own      []*Session // the worker's own
	siblings int        // number of the siblings' monitors
	lines    []byte     // output that siblings have not got yet
	// hidden says not to show the command that is being dispatched: it was rejected, or
	// it is shown later with its outcome.
	hidden bool
}

// include reports whether s, a client of this worker, is a monitor.
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

// stopMonitor ends a client's MONITOR.
func (w *Worker) stopMonitor(s *Session) {
	if i := slices.Index(w.monitors.own, s); i >= 0 {
		w.monitors.own = slices.Delete(w.monitors.own, i, i+1)
		w.tellSiblings(func(o *Worker) { o.monitors.siblings-- })
	}
}

// shown reports whether monitors see the command that was just dispatched. They do not see
// a rejected command. They see a queued command only when EXEC executes it.
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

// showBlock shows monitors the commands that a transaction executes.
func (w *Worker) showBlock(s *Session, t *txn) {
	if w.monitors.none() {
		return
	}
	for i := 1; i <= t.n; i++ { // behind MULTI
		w.showFrame(s, t.shown(i-1))
	}
}

// showWatched shows monitors the EXEC of a client that watches keys. If EXEC has executed
// the commands, it shows these first.
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

// commandOf looks up a command by its name. It returns nil if the table lacks it.
func commandOf(a command.Args) *command.Command {
	cmd := command.Lookup(a.Arg(0))
	if cmd != nil && len(cmd.Subs) > 0 && a.Len() > 1 {
		return cmd.Sub(a.Arg(1))
	}
	return cmd
}

// show shows monitors a command. It redacts passwords, and shows no operators' commands
// (server.c, call: CMD_ADMIN and CMD_SKIP_MONITOR).
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

// tellMonitors sends the siblings the output for their monitors.
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

// appendQuoted appends b in quotes and with escapes, as Redis does (sds.c, sdscatrepr).
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
