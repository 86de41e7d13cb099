package blocking

import (
	"math"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/register"
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
func wait(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	replicas, ok := resp.ParseInt(a.Arg(1))
	if !ok {
		return s.AnswerError(cmd, errtext.NotInteger)
	}
	if a.Len() > 3 || replicas <= 0 {
		// Earlier replies do not help: WAITAOF counts files too, and WAIT 0 all replicas.
		replicas = math.MaxInt64
	}
	timeout, ok := resp.ParseInt(a.Arg(a.Len() - 1))
	if !ok || timeout > 1<<40 {
		return s.AnswerError(cmd, errtext.TimeoutBad)
	}
	if timeout < 0 {
		return s.AnswerError(cmd, errtext.TimeoutNeg)
	}
	if s.Inflight > 0 {
		// The client's writes must be answered first.
		s.Set(engine.Draining)
		return false
	}
	s.Synced.Reopen(&s.WroteTo, replicas)
	if s.WroteTo.Drop(w.Former) {
		return s.Reply(cmd, noReplicas(w.Scratch[:0], a))
	}
	followWrites(w, s)
	var nodes []*engine.Node
	for _, n := range w.Nodes {
		if n.Master == nil && s.WroteTo.Has(n.Ordinal) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		n, _ := w.AnyMaster(s)
		if n == nil {
			return s.AnswerError(cmd, errtext.NoMasters)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if !n.HasRoom() {
			return s.AnswerError(cmd, engine.TooManyExclusive)
		}
	}
	deadline := int64(0)
	if timeout > 0 {
		deadline = w.Now + timeout*int64(time.Millisecond) + int64(w.Options.Backend.RequestTimeout)
	}
	how := howAlone{take: engine.TakeAsKeyway, deadline: deadline, behindWrites: true, replicas: replicas}
	askEach(w, s, cmd, a.Frame(), nodes, how)
	return true
}

// noReplicas appends the reply to a WAIT or WAITAOF for writes that no replica is known to have,
// since their node belongs to a former layout and cannot be asked any more.
func noReplicas(dst []byte, a command.Args) []byte {
	if a.Len() > 3 {
		dst = resp.AppendInt(resp.AppendArray(dst, 2), 0)
	}
	return resp.AppendInt(dst, 0)
}

// followWrites updates the nodes that the client has written to after failovers. For a node
// that has become a replica, its master takes the place, since a replica refuses WAIT. For a
// node that has left, all masters take the place: one of them is its successor.
func followWrites(w *engine.Worker, s *engine.Session) {
	var here freshness.Nodes
	for _, n := range w.Nodes {
		here.Add(n.Ordinal)
		if n.Master != nil && s.WroteTo.Has(n.Ordinal) {
			s.WroteTo.Remove(n.Ordinal)
			s.WroteTo.Add(n.Master.Ordinal)
		}
	}
	if s.WroteTo.Keep(here) {
		for _, n := range w.Masters {
			s.WroteTo.Add(n.Ordinal)
		}
	}
}

// mark sends a write over the connection of a WAIT, so that the connection's offset is not
// lower than that of the client's writes.
func (e *askedAlone) mark(w *engine.Worker, n *engine.Node) {
	w.Ask(e.conn, e.deadline, func(reply []byte, ok bool) {
		// Redis before 7.2 uses the offset after any command, such as CLIENT ID.
		anyCounts := w.Server.Name == "redis" && w.Server.IsBefore("7.2")
		if ok && reply[0] == '-' && !anyCounts {
			text, _ := resp.ErrorText(reply)
			e.unmarked = errtext.Unmarked(n.Label(), string(text))
		}
	}, "FUNCTION", "RESTORE", register.NoLibraries)
}

// taker returns a connection to a node for the use of one session alone.
type taker func(*engine.Node, engine.ExclusiveConn) *pool.Conn

// howAlone is how askEach sends a command.
type howAlone struct {
	take         taker
	deadline     int64 // 0: none
	behindWrites bool  // the reply is about the client's writes to the node
	replicas     int64 // that WAIT asks for
	hideRecords  bool  // the reply counts libraries of functions
}

// askEach sends a command to each of the nodes, over connections of its own. CLIENT ID goes
// first on each. The client's later commands wait, as in Redis.
func askEach(
	w *engine.Worker, s *engine.Session, cmd *command.Command, frame []byte, nodes []*engine.Node, how howAlone,
) {
	r := s.NewRequest(cmd)
	switch {
	case how.behindWrites: // WAIT and WAITAOF
		r.MayBlock()
	case cmd.Has(command.Blocking):
		r.MayLast()
	}
	r.End = engine.Merged
	r.Merge = w.Mergers.Get(len(nodes))
	r.Unfinished = len(nodes)
	s.Set(engine.Draining | engine.Blocked)
	for i, n := range nodes {
		c := r.Merge.Call(r, i)
		c.Group = -1
		c.GoAloneOnce(&askedAlone{call: c, howAlone: how})
		c.SendTo(n, frame)
	}
}

// functionStats answers FUNCTION STATS, without counting the register.
func functionStats(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	return askRunning(w, s, cmd, a, howAlone{hideRecords: true})
}

// aboutRunningScript answers SCRIPT KILL and FUNCTION KILL.
func aboutRunningScript(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	return askRunning(w, s, cmd, a, howAlone{})
}

// askRunning sends every master a command that concerns the script that is running. Redis reads
// nothing from the connection of a running script, which is usually the shared connection. So
// these commands use other connections.
func askRunning(
	w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args, how howAlone,
) bool {
	if len(w.Masters) == 0 {
		return s.AnswerError(cmd, errtext.NoMasters)
	}
	for _, n := range w.Masters {
		if !n.HasRoom() {
			return s.AnswerError(cmd, engine.TooManyExclusive)
		}
	}
	how.take, how.deadline = (*engine.Node).TakeForRunning, w.Deadline()
	askEach(w, s, cmd, a.Frame(), w.Masters, how)
	return true
}

// askedAlone receives the reply to a command that askEach has sent.
type askedAlone struct {
	howAlone
	call     *engine.Call
	conn     *pool.Conn
	nodeID   int64  // the client id of conn at the node; 0: not known yet
	ended    bool   // keyway has sent CLIENT UNBLOCK: no other client may get the connection
	records  int    // of the node's register, if hideRecords is set
	unmarked string // not empty: mark failed, and the client gets this error, since the count would be too high
}

func (e *askedAlone) Take(w *engine.Worker, n *engine.Node, frame []byte) engine.Attempt {
	s := e.call.Request.Session
	e.conn = e.howAlone.take(n, engine.ExclusiveConn{Session: s, Receiver: e})
	w.Ask(e.conn, e.deadline, func(reply []byte, _ bool) { e.nodeID = clientID(e.conn, reply) }, "CLIENT", "ID")
	if e.hideRecords {
		w.Ask(e.conn, e.deadline, func(reply []byte, _ bool) { _, e.records = register.Names(reply) },
			"FUNCTION", "LIST", "LIBRARYNAME", register.Pattern)
	}
	if e.behindWrites && s.WroteTo.Has(n.Ordinal) {
		e.mark(w, n)
	}
	return engine.Attempt{Conn: e.conn, Frame: frame, Deadline: e.deadline}
}

func (e *askedAlone) OnEnd() {}

// unblockWait sends CLIENT UNBLOCK for each command of a session that waits for replicas. It
// returns false if it sent none.
func unblockWait(w *engine.Worker, s *engine.Session, withError bool) (waiting bool) {
	if !s.Waits() {
		return false
	}
	how := "TIMEOUT"
	if withError {
		how = "ERROR"
	}
	for _, n := range w.Nodes {
		for _, use := range n.InUse {
			if e, ok := use.Receiver.(*askedAlone); ok && use.Session == s && e.nodeID != 0 {
				waiting, e.ended = true, true
				w.Ask(engine.QuestionConn(n, s), w.Deadline(), func([]byte, bool) {},
					"CLIENT", "UNBLOCK", strconv.FormatInt(e.nodeID, 10), how)
			}
		}
	}
	return waiting
}

func (e *askedAlone) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	n := e.call.Node
	if p.Last {
		n.Release(e.conn, !e.ended)
	}
	if e.behindWrites && p.Kind == '-' {
		n.Worker.Ready.Refresh = true // it may be a replica by now
	}
	if e.unmarked != "" {
		if !p.Last {
			return
		}
		p.Bytes = resp.AppendError(nil, e.unmarked)
	}
	if e.records > 0 && p.Whole() {
		p.Bytes = register.AppendStats(nil, p.Bytes, e.records)
	}
	if s := e.call.Request.Session; s != nil && e.behindWrites && s.WroteTo.Has(n.Ordinal) {
		if got, ok := resp.Int(p.Bytes); ok {
			p.Bytes = resp.AppendInt(nil, s.AllocRareState().Synced.Count(&s.WroteTo, n.Ordinal, got, e.replicas))
		}
	}
	e.call.Reply(conn, frame, p)
}

func (e *askedAlone) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	e.call.Node.Release(e.conn, false)
	e.call.Failed(conn, frame, f)
}
