package quorum

import (
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/quorum"
)

// member is a node that holds locks, and what waits for it.
type member struct {
	l     *locks
	node  *quorum.Node
	conn  *pool.Conn
	dials uint64 // conn.Stats.Dials at the last look
	look  int64  // when the next look is due
	took  metrics.Histogram

	urgent   []waiting // goes before queue
	queue    []waiting
	queued   int // bytes of the keys and tokens in both
	inFlight int // commands that are written and not answered
	sending  bool

	timeout   time.Duration // the longest of its rules
	busySince int64         // when isBusy became true
	owes      bool          // it has sent nothing for its timeout, or that of a command that waits for it
	suspected int64         // locks.turns when owes became true; 0: it is false
	isSilent  bool          // owes, and that is sure
}

// waiting is a command that has not been written yet.
type waiting struct {
	r    *running
	send quorum.Send
}

const (
	// maxInFlight is how many commands may be written to a node and not answered. The others
	// wait in keyway, where those that are not needed any more cost nothing.
	maxInFlight = 512
	// maxFrees is how many commands that free locks may wait for a node that is silent. Without
	// them a lock stays there until its lease ends.
	maxFrees = 4096
	// maxQueued bounds the keys and tokens that wait for a node, in bytes.
	maxQueued = 32 << 20
)

// add queues a command for the node. It returns the reason if that is not possible.
func (m *member) add(e waiting) (reason string) {
	if reason = m.conn.ConnectError(); reason != "" {
		return reason
	}
	if m.queued > maxQueued || e.send.Frees && m.node.IsSilent() && len(m.queue)+len(m.urgent) >= maxFrees {
		return "too many commands wait for its answers"
	}
	if !m.isBusy() {
		m.busySince = m.l.w.Now
	}
	m.queued += e.r.size()
	if e.send.Urgent || e.send.Whole {
		m.urgent = append(m.urgent, e)
	} else {
		m.queue = append(m.queue, e)
	}
	return ""
}

// take removes the next command.
func (m *member) take() waiting {
	q := &m.queue
	if len(m.urgent) > 0 {
		q = &m.urgent
	}
	e := (*q)[0]
	(*q)[0], *q = waiting{}, (*q)[1:]
	m.queued -= e.r.size()
	return e
}

// next returns the command that take returns next, or nil.
func (m *member) next() *waiting {
	switch {
	case len(m.urgent) > 0:
		return &m.urgent[0]
	case len(m.queue) > 0:
		return &m.queue[0]
	}
	return nil
}

// canWrite reports whether the node can take another command.
func (m *member) canWrite() bool {
	return m.conn.State() == pool.Ready && m.dials == m.conn.Stats.Dials && !m.node.IsSilent() &&
		m.inFlight < maxInFlight && !m.conn.Full()
}

// pump writes what waits, as far as the node can take it.
func (m *member) pump() {
	if m.sending {
		return // a caller does
	}
	m.sending = true
	for e := m.next(); e != nil; e = m.next() {
		switch reason := m.conn.ConnectError(); {
		case !e.r.op.Wants(e.send):
			m.take()
		case reason != "":
			lost := m.take()
			lost.r.op.Lost(lost.send, reason, m.l.w.Now)
			lost.r.pass()
		case m.canWrite():
			m.write(m.take())
		default:
			m.conn.Open(m.l.w.Now)
			m.sending = false
			return
		}
	}
	m.sending = false
}

// write writes a command, whose reply goes to the operation.
func (m *member) write(e waiting) {
	w, sent := m.l.w, m.l.w.Now
	m.l.frame = e.r.op.Frame(m.l.frame[:0], &e.send, sent)
	m.inFlight++
	m.conn.Send(&engine.Probe{Done: func(reply []byte, ok bool) {
		m.inFlight--
		switch {
		case !ok:
			m.lost(e)
		case quorum.LacksScript(reply) && !e.send.Whole:
			e.send.Whole = true
			m.node.RecordAnswer(w.ExactNow())
			if reason := m.add(e); reason != "" {
				e.r.op.Lost(e.send, reason, w.Now)
			}
		default:
			m.took.Observe(w.Now - sent)
			e.r.op.Answer(e.send, reply, w.ExactNow())
		}
		e.r.pass()
		m.pump()
	}}, m.l.frame, sent, w.Deadline())
}

// lost records that a command that was written has no answer.
func (m *member) lost(e waiting) {
	isSilent := m.node.IsSilent() && m.conn.State() == pool.Ready // also without this command
	e.r.op.Lost(e.send, m.conn.Reason(), m.l.w.Now)
	if isSilent {
		m.node.Silence(m.timeout)
	}
}

// dropUnwanted removes what need not be sent any more, while nothing can be sent.
func (m *member) dropUnwanted() {
	m.pump()
	if len(m.queue) == 0 {
		return
	}
	m.queue = slices.DeleteFunc(m.queue, func(e waiting) bool {
		unwanted := !e.r.op.Wants(e.send) || !e.send.Frees && e.r.isOver && m.node.IsSilent()
		if unwanted {
			m.queued -= e.r.size()
		}
		return unwanted
	})
}

// isOverdue reports whether the node has sent nothing for its timeout, although commands wait.
func (m *member) isOverdue() bool {
	return m.isBusy() && m.l.w.Now-max(m.busySince, m.node.Heard()) >= int64(m.timeout)
}

// isBusy reports whether commands wait to be sent or to be answered.
func (m *member) isBusy() bool { return m.inFlight > 0 || m.next() != nil }

// judge decides whether a node that owes an answer is silent: all that it has sent must have been
// read. One turn reads from some sockets only, so several must pass.
func (m *member) judge() {
	m.isSilent = false
	switch {
	case !m.owes:
		m.suspected = 0
	case m.suspected == 0:
		m.suspected = m.l.turns
	case m.l.turns-m.suspected > int64(len(m.l.w.Sessions)/socketsPerTurn):
		m.isSilent = true
		if !m.node.IsSilent() {
			m.node.Missed += uint64(m.inFlight)
			m.node.Silence(m.timeout)
		}
	}
}

// socketsPerTurn is less than the number of sockets from which a turn reads.
const socketsPerTurn = 128

// The reasons why a node does not vote while keyway connects.
const (
	notConnected = "not connected yet"
	notAnswered  = "it has not answered yet"
)

// absence returns why the node does not vote, or "".
func (m *member) absence() string {
	switch reason := m.conn.Reason(); {
	case m.conn.State() == pool.Ready:
		return m.node.Absence
	case reason != "":
		return reason
	}
	return notConnected
}

// lookEvery is how often the nodes are asked whether they have restarted, and for their clock.
// Many threads of many keyways ask less often, so that a node gets looksPerSecond from all of them.
const (
	lookEvery      = int64(time.Second)
	maxLookEvery   = int64(5 * time.Second)
	looksPerSecond = 200
)

func (m *member) lookInterval() int64 {
	lookers := int64(engine.Lookers(m.l.w))
	return min(max(lookEvery, lookers*int64(time.Second)/looksPerSecond), maxLookEvery)
}

// lookAtNode asks the node about itself, when it is time to. On a new connection, it first makes
// the node remember the script.
func (m *member) lookAtNode() {
	w, now, isNew := m.l.w, m.l.w.Now, m.dials != m.conn.Stats.Dials
	if m.conn.State() != pool.Ready || m.conn.Full() || !isNew && now < m.look {
		return
	}
	m.dials, m.look = m.conn.Stats.Dials, now+m.lookInterval()
	ignore := func([]byte, bool) {}
	if isNew {
		m.conn.Send(&engine.Probe{Done: ignore}, quorum.LoadScript, now, w.Deadline())
	}
	m.conn.Send(&engine.Probe{Done: func(reply []byte, ok bool) {
		if !ok {
			return
		}
		if frame := m.node.Looked(reply, now, w.ExactNow()); frame != nil {
			m.conn.Send(&engine.Probe{Done: ignore}, frame, w.Now, w.Deadline())
		}
		m.pump()
	}}, m.node.Look(), now, w.Deadline())
	m.pump()
}
