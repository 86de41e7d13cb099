package proxy

import (
	"math"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// wait answers WAIT numreplicas timeout, and WAITAOF numlocal numreplicas timeout,
// for the client's own writes.
//
// Redis measures WAIT against the replication offset after the last write of the
// connection it came on (replication.c, waitCommand). The client's writes
// went over the shared connection, where WAIT would hold up everybody; on
// another one it would count from nothing and lie. So WAIT goes on a connection
// of its own behind a write that changes nothing: that comes after the client's
// writes, which have been answered, so its offset is theirs or later. The count can
// be too low, when others write much; it is never too high.
func wait(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	replicas, ok := resp.ParseInt(a.Arg(1))
	if !ok {
		return w.answerError(s, cmd, errNotInteger)
	}
	if a.Len() > 3 || replicas <= 0 {
		replicas = math.MaxInt64 // WAITAOF counts files too, and WAIT 0 all replicas: earlier answers do not help
	}
	timeout, ok := resp.ParseInt(a.Arg(a.Len() - 1))
	if !ok || timeout > 1<<40 {
		return w.answerError(s, cmd, errTimeoutBad)
	}
	if timeout < 0 {
		return w.answerError(s, cmd, errTimeoutNeg)
	}
	if s.inflight > 0 {
		// Its own writes must be answered first.
		s.set(held)
		return false
	}
	s.reopenSynced(replicas)
	w.followWrites(s)
	var nodes []*node
	for _, n := range w.nodes {
		if n.master == nil && s.wrote.has(n.ordinal) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		n, _ := w.anyMaster(s)
		if n == nil {
			return w.answerError(s, cmd, errNoMasters)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if !n.hasRoom() {
			return w.answerError(s, cmd, errTooManyHeld)
		}
	}
	deadline := int64(0)
	if timeout > 0 {
		deadline = w.now + timeout*1e6 + int64(w.o.Backend.RequestTimeout)
	}
	how := howAlone{take: (*node).takeExclusive, deadline: deadline, behindWrites: true, replicas: replicas}
	w.askEach(s, cmd, a.Frame(), nodes, how)
	return true
}

// followWrites takes what the client has written to a node that is a replica by now for
// written to its master, and what it has written to one that is gone for written to each
// master: it is there, on whichever has taken the node's place. A replica would refuse
// WAIT, as long as the client stays.
func (w *Worker) followWrites(s *Session) {
	var here ordinals
	for _, n := range w.nodes {
		here.add(n.ordinal)
		if n.master != nil && s.wrote.has(n.ordinal) {
			s.wrote.remove(n.ordinal)
			s.wrote.add(n.master.ordinal)
		}
	}
	if s.wrote.low&^here.low == 0 {
		return
	}
	s.wrote.low &= here.low
	for _, n := range w.masters {
		s.wrote.add(n.ordinal)
	}
}

// synced is what earlier WAITs have answered: replicas have the client's writes to
// these nodes, which it has not written to since.
type synced struct {
	nodes    ordinals
	replicas int64 // of each of the nodes, at least
}

// reopenSynced makes a WAIT for so many replicas ask about all of the client's
// writes, unless it can ask about the latest alone: a client that waits after each
// write asks one node, however many it has written to.
func (s *Session) reopenSynced(replicas int64) {
	known := s.synced
	if known == nil {
		return
	}
	if replicas > known.replicas || s.wrote == (ordinals{}) || s.wrote.hasAll(known.nodes) {
		s.wrote.addAll(known.nodes)
		s.synced = nil
	}
}

// countSynced takes note that so many replicas of a node have the client's writes, if
// that is all it asked for. It returns how many have all that it ever wrote, as far
// as is known.
func (s *Session) countSynced(n *node, replicas, asked int64) int64 {
	known := s.synced
	if known != nil {
		replicas = min(replicas, known.replicas)
	}
	if replicas < asked {
		return replicas
	}
	if known == nil {
		known = new(synced)
		s.troubled().synced = known
	}
	known.replicas = replicas
	known.nodes.add(n.ordinal)
	s.wrote.remove(n.ordinal)
	return replicas
}

// restoreNothing is FUNCTION RESTORE of no functions, as FUNCTION DUMP of Redis 7.0
// tells them. It changes nothing, needs no key, and yet is replicated.
var restoreNothing = []string{"FUNCTION", "RESTORE", "\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda"}

// mark writes something over the connection of a WAIT, so that its offset is that
// of the writes before.
func (e *askedAlone) mark(w *Worker, n *node) {
	w.ask(e.conn, e.deadline, func(reply []byte, ok bool) {
		// Redis before 7.2 takes the offset after any command, CLIENT ID too.
		if ok && reply[0] == '-' && !w.server.offsetOfReads() {
			text, _ := resp.ErrorText(reply)
			e.unmarked = errUnmarked(n, string(text))
		}
	}, restoreNothing...)
}

// taker returns a connection to a node for the use of one session alone.
type taker func(*node, inUse) *pool.Conn

// howAlone is how askEach sends a command.
type howAlone struct {
	take         taker
	deadline     int64 // 0: none
	behindWrites bool  // the reply is about the client's writes to the node
	replicas     int64 // that WAIT asks for
}

// askEach sends a command to each of some nodes over connections of its own, on
// which CLIENT ID comes first. What the client sends next waits, as in Redis.
func (w *Worker) askEach(s *Session, cmd *command.Command, frame []byte, nodes []*node, how howAlone) {
	r := w.newRequest(s, cmd)
	r.kind = merged
	r.merge = w.getMerger(len(nodes))
	r.parts = len(nodes)
	s.set(held | blocked)
	for i, n := range nodes {
		c := r.merge.call(r, i)
		c.group = -1
		c.goAlone(&askedAlone{call: c, howAlone: how})
		w.send(s, c, n, frame)
	}
}

// running answers SCRIPT KILL, FUNCTION KILL and FUNCTION STATS, which concern the
// scripts that run just now: Redis listens to nothing more from the connection
// that one came on, which is the shared one, so they go over others.
func running(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) == 0 {
		return w.answerError(s, cmd, errNoMasters)
	}
	for _, n := range w.masters {
		if !n.hasRoom() {
			return w.answerError(s, cmd, errTooManyHeld)
		}
	}
	w.askEach(s, cmd, a.Frame(), w.masters, howAlone{take: (*node).takeForRunning, deadline: w.deadline()})
	return true
}

// askedAlone receives the reply to a command that askEach has sent.
type askedAlone struct {
	howAlone
	call     *call
	conn     *pool.Conn
	nodeID   int64  // of conn among the node's clients; 0: not known yet
	ended    bool   // the node was asked to end it: the connection must not go to another client
	unmarked string // not empty: what the client gets, since the reply would count too many
}

func (e *askedAlone) take(w *Worker, n *node, frame []byte) trip {
	s := e.call.req.sess
	e.conn = e.howAlone.take(n, inUse{sess: s, by: e})
	w.ask(e.conn, e.deadline, func(reply []byte, _ bool) { e.nodeID, _ = resp.Int(reply) }, "CLIENT", "ID")
	if e.behindWrites && s.wrote.has(n.ordinal) {
		e.mark(w, n)
	}
	return trip{conn: e.conn, frame: frame, deadline: e.deadline}
}

func (e *askedAlone) finished() {}

// unblockWait asks the nodes to end the WAIT of a session. It tells whether there
// is one.
func (w *Worker) unblockWait(s *Session, withError bool) (waiting bool) {
	if !s.waits() {
		return false
	}
	how := "TIMEOUT"
	if withError {
		how = "ERROR"
	}
	for _, n := range w.nodes {
		for _, use := range n.waits {
			if e := use.by; use.sess == s && e != nil && e.nodeID != 0 {
				waiting, e.ended = true, true
				w.ask(n.conn(s), w.deadline(), func([]byte, bool) {}, "CLIENT", "UNBLOCK", strconv.FormatInt(e.nodeID, 10), how)
			}
		}
	}
	return waiting
}

func (e *askedAlone) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	n := e.call.node
	if p.Last {
		n.release(e.conn, !e.ended)
	}
	if e.behindWrites && p.Kind == '-' {
		n.w.ready.Refresh = true // it may be a replica by now
	}
	if e.unmarked != "" {
		if !p.Last {
			return
		}
		p.Bytes = resp.AppendError(nil, e.unmarked)
	}
	if s := e.call.req.sess; s != nil && e.behindWrites && s.wrote.has(n.ordinal) {
		if got, ok := resp.Int(p.Bytes); ok {
			p.Bytes = resp.AppendInt(nil, s.countSynced(n, got, e.replicas))
		}
	}
	e.call.Reply(conn, frame, p)
}

func (e *askedAlone) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	e.call.node.release(e.conn, false)
	e.call.Failed(conn, frame, f)
}
