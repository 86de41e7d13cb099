package proxy

import (
	"slices"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// MONITOR shows the commands of all keyway's clients, whichever worker they belong to. A
// monitor is a client that has sent MONITOR.

// monitors are the monitors that a worker knows.
type monitors struct {
	inactive
	w        *Worker
	own      []*Session // the worker's own
	siblings int        // number of the siblings' monitors
	lines    []byte     // output that siblings have not got yet
}

// addSiblings records that siblings have n monitors more.
func (m *monitors) addSiblings(n int) {
	m.siblings += n
	m.observe()
}

// observe has the worker show its commands as long as there are monitors.
func (m *monitors) observe() {
	if m.w.observer = m; len(m.own) == 0 && m.siblings == 0 {
		m.w.observer = nil
	}
}

func monitor(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.has(monitoring) {
		return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
	}
	s.set(monitoring)
	m := featureOf[*monitors](w)
	m.own = append(m.own, s)
	m.observe()
	return w.siblings.haveAll(s, cmd, func(o *Worker) {
		if o != w {
			featureOf[*monitors](o).addSiblings(1)
		}
	})
}

// leave ends a client's MONITOR.
func (m *monitors) leave(s *Session) {
	if !s.has(monitoring) {
		return
	}
	s.clear(monitoring)
	m.own = slices.DeleteFunc(m.own, func(o *Session) bool { return o == s })
	m.observe()
	m.w.siblings.tell(func(o *Worker) { featureOf[*monitors](o).addSiblings(-1) })
}

// show shows monitors a command.
func (m *monitors) show(s *Session, cmd *command.Command, a command.Args) {
	if !clients.IsShown(cmd) {
		return
	}
	w := m.w
	line := clients.AppendMonitored(w.frame[:0], w.wall, s.db, s.peer, cmd, a)
	for _, to := range m.own {
		to.tell(line)
	}
	if m.siblings > 0 {
		m.lines = append(m.lines, line...)
	}
	w.frame = w.buffers.Scratch(line)
}

// endTurn sends the siblings the output for their monitors.
func (m *monitors) endTurn() {
	if len(m.lines) == 0 {
		return
	}
	lines := m.lines
	m.lines = nil
	m.w.siblings.tell(func(o *Worker) {
		for _, to := range featureOf[*monitors](o).own {
			to.tell(lines)
		}
	})
}
