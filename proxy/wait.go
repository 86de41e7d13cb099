package proxy

import (
	"math"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// wait answers WAIT numreplicas timeout, and WAITAOF numlocal numreplicas timeout,
// for the client's own writes.
//
// Redis compares the replicas' offsets with the replication offset after the last write of
// WAIT's connection (replication.c, waitCommand). The client's writes went over the shared
// connection, where WAIT would block all clients. On another connection there was no write,
// so WAIT would count every replica. So keyway sends WAIT over a connection of its own,
// behind a write that changes nothing. The client's writes have been answered before, so this
// write's offset is at least theirs. The count is never too high. It may be too low while
// others write much.
func wait(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	replicas, ok := resp.ParseInt(a.Arg(1))
	if !ok {
		return s.answerError(cmd, errtext.NotInteger)
	}
	if a.Len() > 3 || replicas <= 0 {
		// Earlier replies do not help: WAITAOF counts files too, and WAIT 0 all replicas.
		replicas = math.MaxInt64
	}
	timeout, ok := resp.ParseInt(a.Arg(a.Len() - 1))
	if !ok || timeout > 1<<40 {
		return s.answerError(cmd, errtext.TimeoutBad)
	}
	if timeout < 0 {
		return s.answerError(cmd, errtext.TimeoutNeg)
	}
	if s.inflight > 0 {
		// The client's writes must be answered first.
		s.set(draining)
		return false
	}
	s.synced.Reopen(&s.wrote, replicas)
	followWrites(w, s)
	var nodes []*node
	for _, n := range w.nodes {
		if n.master == nil && s.wrote.Has(n.ordinal) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		n, _ := w.anyMaster(s)
		if n == nil {
			return s.answerError(cmd, errtext.NoMasters)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if !n.hasRoom() {
			return s.answerError(cmd, errTooManyHeld)
		}
	}
	deadline := int64(0)
	if timeout > 0 {
		deadline = w.now + timeout*int64(time.Millisecond) + int64(w.o.Backend.RequestTimeout)
	}
	how := howAlone{take: (*node).takeExclusive, deadline: deadline, behindWrites: true, replicas: replicas}
	askEach(w, s, cmd, a.Frame(), nodes, how)
	return true
}

// followWrites updates the nodes that the client has written to after failovers. For a node
// that has become a replica, its master takes the place, since a replica refuses WAIT. For a
// node that has left, all masters take the place: one of them is its successor.
func followWrites(w *Worker, s *Session) {
	var here freshness.Nodes
	for _, n := range w.nodes {
		here.Add(n.ordinal)
		if n.master != nil && s.wrote.Has(n.ordinal) {
			s.wrote.Remove(n.ordinal)
			s.wrote.Add(n.master.ordinal)
		}
	}
	if s.wrote.Keep(here) {
		for _, n := range w.masters {
			s.wrote.Add(n.ordinal)
		}
	}
}

// restoreNothing is FUNCTION RESTORE of an empty set of functions, in the format that
// FUNCTION DUMP of Redis 7.0 returns. It changes nothing and needs no key, yet is replicated.
var restoreNothing = []string{"FUNCTION", "RESTORE", "\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda"}

// mark sends a write over the connection of a WAIT, so that the connection's offset is not
// lower than that of the client's writes.
func (e *askedAlone) mark(w *Worker, n *node) {
	w.ask(e.conn, e.deadline, func(reply []byte, ok bool) {
		// Redis before 7.2 uses the offset after any command, such as CLIENT ID.
		anyCounts := w.server.Name == "redis" && w.server.IsBefore("7.2")
		if ok && reply[0] == '-' && !anyCounts {
			text, _ := resp.ErrorText(reply)
			e.unmarked = errtext.Unmarked(n.label(), string(text))
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

// askEach sends a command to each of the nodes, over connections of its own. CLIENT ID goes
// first on each. The client's later commands wait, as in Redis.
func askEach(w *Worker, s *Session, cmd *command.Command, frame []byte, nodes []*node, how howAlone) {
	r := s.newRequest(cmd)
	r.end = merged
	r.merge = w.mergers.get(len(nodes))
	r.unfinished = len(nodes)
	s.set(draining | blocked)
	for i, n := range nodes {
		c := r.merge.call(r, i)
		c.group = -1
		c.goAloneOnce(&askedAlone{call: c, howAlone: how})
		c.send(n, frame)
	}
}

// running answers SCRIPT KILL, FUNCTION KILL and FUNCTION STATS, which concern the script that
// is running. Redis reads nothing from the connection of a running script, which is usually
// the shared connection. So these commands use other connections.
func running(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) == 0 {
		return s.answerError(cmd, errtext.NoMasters)
	}
	for _, n := range w.masters {
		if !n.hasRoom() {
			return s.answerError(cmd, errTooManyHeld)
		}
	}
	askEach(w, s, cmd, a.Frame(), w.masters, howAlone{take: (*node).takeForRunning, deadline: w.deadline()})
	return true
}

// askedAlone receives the reply to a command that askEach has sent.
type askedAlone struct {
	howAlone
	call     *call
	conn     *pool.Conn
	nodeID   int64  // the client id of conn at the node; 0: not known yet
	ended    bool   // keyway has sent CLIENT UNBLOCK: no other client may get the connection
	unmarked string // not empty: mark failed, and the client gets this error, since the count would be too high
}

func (e *askedAlone) take(w *Worker, n *node, frame []byte) trip {
	s := e.call.req.sess
	e.conn = e.howAlone.take(n, inUse{sess: s, by: e})
	w.ask(e.conn, e.deadline, func(reply []byte, _ bool) { e.nodeID, _ = resp.Int(reply) }, "CLIENT", "ID")
	if e.behindWrites && s.wrote.Has(n.ordinal) {
		e.mark(w, n)
	}
	return trip{conn: e.conn, frame: frame, deadline: e.deadline}
}

func (e *askedAlone) finished() {}

// unblockWait sends CLIENT UNBLOCK for each command of a session that waits for replicas. It
// returns false if it sent none.
func unblockWait(w *Worker, s *Session, withError bool) (waiting bool) {
	if !s.waits() {
		return false
	}
	how := "TIMEOUT"
	if withError {
		how = "ERROR"
	}
	for _, n := range w.nodes {
		for _, use := range n.waits {
			if e, ok := use.by.(*askedAlone); ok && use.sess == s && e.nodeID != 0 {
				waiting, e.ended = true, true
				w.ask(n.conn(s), w.deadline(), func([]byte, bool) {},
					"CLIENT", "UNBLOCK", strconv.FormatInt(e.nodeID, 10), how)
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
	if s := e.call.req.sess; s != nil && e.behindWrites && s.wrote.Has(n.ordinal) {
		if got, ok := resp.Int(p.Bytes); ok {
			p.Bytes = resp.AppendInt(nil, s.allocRareState().synced.Count(&s.wrote, n.ordinal, got, e.replicas))
		}
	}
	e.call.Reply(conn, frame, p)
}

func (e *askedAlone) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	e.call.node.release(e.conn, false)
	e.call.Failed(conn, frame, f)
}
