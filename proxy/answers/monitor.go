package answers

import (
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// MONITOR shows the commands of all keyway's clients, whichever worker they belong to. A
// monitor is a client that has sent MONITOR.

// monitors are the monitors that a worker knows.
type monitors struct {
	engine.Inactive
	w        *engine.Worker
	own      []*engine.Session // the worker's own
	siblings int               // number of the siblings' monitors
	lines    []byte            // output that siblings have not got yet
	askedAt  int64             // see Sweep
}

// mayWatchFor is how often a node is asked whether its users may still send MONITOR.
const mayWatchFor = int64(5 * time.Second)

// addSiblings records that siblings have n monitors more.
func (m *monitors) addSiblings(n int) {
	m.siblings += n
	m.updateObserver()
}

// updateObserver makes the worker show its commands as long as there are monitors.
func (m *monitors) updateObserver() {
	if m.w.Observer = m; len(m.own) == 0 && m.siblings == 0 {
		m.w.Observer = nil
	}
}

func monitor(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	if s.Has(engine.Monitoring) {
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	}
	s.Set(engine.Monitoring)
	m := engine.FeatureOf[*monitors](w)
	m.own = append(m.own, s)
	m.updateObserver()
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) {
		if o != w {
			engine.FeatureOf[*monitors](o).addSiblings(1)
		}
	})
}

// Leave ends a client's MONITOR.
func (m *monitors) Leave(s *engine.Session) {
	if !s.Has(engine.Monitoring) {
		return
	}
	s.Clear(engine.Monitoring)
	m.own = slices.DeleteFunc(m.own, func(o *engine.Session) bool { return o == s })
	m.updateObserver()
	m.w.Siblings.Tell(func(o *engine.Worker) { engine.FeatureOf[*monitors](o).addSiblings(-1) })
}

// Sweep closes monitors whose user was deleted at the nodes, or may not send MONITOR there any more. The
// nodes cannot close them, since what monitors see does not come from there.
func (m *monitors) Sweep() {
	w := m.w
	if w.NodeUsers == nil || w.Now-m.askedAt < mayWatchFor {
		return
	}
	m.askedAt = w.Now
	for _, s := range m.own {
		login := s.Login
		w.NodeUsers.MayListen(s, "MONITOR", nil, func(may bool) {
			if !may && s.Login == login && s.Has(engine.Monitoring) {
				engine.LogUserRefusal(w, s, "its user may not send MONITOR any more", s.User.Name)
				s.Kill()
			}
		})
	}
}

// Show shows monitors a command.
func (m *monitors) Show(s *engine.Session, cmd *command.Command, a command.Args) {
	if !clients.IsShown(cmd) {
		return
	}
	w := m.w
	line := clients.AppendMonitored(w.Frame[:0], w.Wall, s.DB, s.Peer(), cmd, a)
	for _, to := range m.own {
		to.Tell(line)
	}
	if m.siblings > 0 {
		m.lines = append(m.lines, line...)
	}
	w.Frame = w.Buffers.Scratch(line)
}

// EndTurn sends the siblings the output for their monitors.
func (m *monitors) EndTurn() {
	if len(m.lines) == 0 {
		return
	}
	lines := m.lines
	m.lines = nil
	m.w.Siblings.Tell(func(o *engine.Worker) {
		for _, to := range engine.FeatureOf[*monitors](o).own {
			to.Tell(lines)
		}
	})
}
