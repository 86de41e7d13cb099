package proxy

import (
	"math"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

func ping(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	switch {
	case a.Len() > 2:
		return s.answerError(cmd, errtext.Arity(cmd))
	case s.has(subscribed) && !s.has(resp3):
		return subscribedPing(w, s, cmd, a)
	case a.Len() == 1:
		return s.reply(cmd, append(w.scratch[:0], "+PONG\r\n"...))
	}
	return echo(w, s, cmd, a)
}

// subscribedPing answers PING of a RESP2 client that has subscriptions.
func subscribedPing(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	b := resp.AppendBulkString(resp.AppendArray(w.scratch[:0], 2), "pong")
	if a.Len() > 1 {
		return s.reply(cmd, resp.AppendBulk(b, a.Arg(1)))
	}
	return s.reply(cmd, resp.AppendBulk(b, nil))
}

func echo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	return s.reply(cmd, resp.AppendBulk(w.scratch[:0], a.Arg(1)))
}

func quit(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	s.answer(cmd, resp.AppendOK(w.scratch[:0]))
	s.closeAfter()
	return true
}

func reset(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.inflight > 0 && (s.has(resp3|tracks|noTouch) || s.db != 0) {
		s.set(draining) // its earlier commands finish first, on the connections that they use
		return false
	}
	for _, f := range w.features {
		f.leave(s)
	}
	if s.clear(readsReplicas); w.o.Reads != FromMaster && !w.o.ReadsOptIn {
		w.reads.allow(s)
	}
	s.about, s.db = anonymous, 0
	s.clear(resp3 | silent | skipping | noTouch)
	if len(w.o.Passwords) > 0 {
		s.clear(authed)
	}
	return s.reply(cmd, resp.AppendSimple(w.scratch[:0], "RESET"))
}

func clock(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	b := resp.AppendArray(w.scratch[:0], 2)
	b = resp.AppendBulkString(b, strconv.FormatInt(w.wall.Unix(), 10))
	b = resp.AppendBulkString(b, strconv.Itoa(w.wall.Nanosecond()/1000))
	return s.reply(cmd, b)
}

// selectDB makes the client's later commands use connections that have selected its
// database. First it asks a node for that database, over a connection of the client's
// own: if the node refused shared connections, it would seem to be unreachable. No node
// has the database -1.
func selectDB(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	db, ok := resp.ParseInt(a.Arg(1))
	switch {
	case !ok:
		return s.answerError(cmd, errtext.NotInteger)
	case db < math.MinInt32 || db > math.MaxInt32:
		return s.answerError(cmd, errtext.NotInt32)
	case s.inflight > 0:
		s.set(draining) // its earlier commands finish first
		return false
	case db < 0 || db > math.MaxUint16:
		db = -1
	}
	n, shared := w.anyMaster(s)
	switch {
	case n == nil && db < 0:
		return s.answerError(cmd, errtext.DBIndex)
	case db == int64(s.db) || db == 0 || n == nil || n.hasDB(s, int(db)):
		useDB(w, s, uint16(db))
		return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
	case shared.ConnectError() != "":
		return s.answerError(cmd, errtext.NotExecuted(n.label(), shared.ConnectError()))
	case !n.hasRoom():
		return s.answerError(cmd, errTooManyHeld)
	}
	tryFirst(w, s, cmd, n, func() { useDB(w, s, uint16(db)) }, "SELECT", strconv.FormatInt(db, 10))
	return true
}

// tryFirst sends a node a command that keyway will send on all of the client's
// connections. It uses a connection of the client's own, and the client gets the reply.
// If that is not an error, tryFirst calls adopt.
func tryFirst(w *Worker, s *Session, cmd *command.Command, n *node, adopt func(), args ...string) {
	conn := n.takeExclusive(inUse{sess: s})
	s.set(blocked)
	w.ask(conn, w.deadline(), func(reply []byte, ok bool) {
		why := conn.Reason()
		n.release(conn, ok && reply[0] == '-') // reusable only if the command has changed nothing
		if s.index < 0 {
			return
		}
		switch {
		case !ok:
			reply = resp.AppendError(nil, errtext.NotExecuted(n.label(), why))
		case reply[0] != '-':
			adopt()
		}
		s.clear(blocked)
		s.answer(cmd, reply)
		s.wake()
	}, args...)
}

// hasDB reports whether the node is known to have the database: one of its connections
// has selected it.
func (n *node) hasDB(s *Session, db int) bool {
	for _, c := range n.conns {
		if c.DB == db && c.RESP3 == s.has(resp3) && c.State() == pool.Ready {
			return true
		}
	}
	return false
}

// role answers ROLE as a master without replicas, since clients see keyway as one.
func role(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	b := resp.AppendArray(w.scratch[:0], 3)
	b = resp.AppendBulkString(b, "master")
	b = resp.AppendInt(b, 0)
	return s.reply(cmd, resp.AppendArray(b, 0))
}

// whoAmI answers ACL WHOAMI. All clients of keyway authenticate as the default user.
func whoAmI(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, resp.AppendBulkString(w.scratch[:0], "default"))
}

// noEvict answers CLIENT NO-EVICT. The command has no effect: nodes do not see the client,
// so they cannot evict it.
func noEvict(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !command.EqualFold(a.Arg(2), "on") && !command.EqualFold(a.Arg(2), "off") {
		return s.answerError(cmd, errtext.Syntax)
	}
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

// touches answers CLIENT NO-TOUCH ON|OFF. With ON, the client's later commands use
// connections on which reads do not count as use of a key. First it asks a node whether
// it knows the command.
func touches(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	on := command.EqualFold(a.Arg(2), "on")
	n, shared := w.anyMaster(s)
	switch {
	case w.server.lacks(cmd):
		return s.answerError(cmd, errtext.Lacked(cmd, a))
	case !on && !command.EqualFold(a.Arg(2), "off"):
		return s.answerError(cmd, errtext.Syntax)
	case s.inflight > 0:
		s.set(draining) // its earlier commands finish first
		return false
	case !on, s.has(noTouch), n == nil:
		setTouch(w, s, on)
		return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
	case shared.ConnectError() != "":
		return s.answerError(cmd, errtext.NotExecuted(n.label(), shared.ConnectError()))
	case !n.hasRoom():
		return s.answerError(cmd, errTooManyHeld)
	}
	tryFirst(w, s, cmd, n, func() { setTouch(w, s, true) }, "CLIENT", string(a.Arg(1)), "ON")
	return true
}

func setTouch(w *Worker, s *Session, off bool) {
	if s.has(noTouch) == off {
		return
	}
	if s.clear(noTouch); off {
		s.set(noTouch)
	}
	renewConns(w, s)
	s.forgetCached()
}

// secrets are the settings of a node that keyway hides from its clients.
var secrets = map[string]bool{
	"requirepass": true, "masterauth": true, "primaryauth": true,
	"tls-key-file-pass": true, "tls-client-key-file-pass": true,
}

// configGet sends CONFIG GET to one master.
func configGet(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	n, conn := w.anyMaster(s)
	switch {
	case n == nil:
		return s.answerError(cmd, errtext.NoMasters)
	case conn.Full():
		return s.stall()
	}
	r := s.newRequest(cmd)
	r.end = configText
	r.merge = w.mergers.get(1)
	c := r.merge.call(r, 0)
	c.group = -1
	c.send(n, a.Frame())
	return true
}

// ownSetting returns the value that clients get instead of a node's setting. own is false
// if they get the node's.
func ownSetting(w *Worker, name string) (value string, own bool) {
	if name == "port" && w.o.Process != nil {
		return strconv.Itoa(w.o.Process.Port), true
	}
	return "", secrets[name]
}

// configText is the ending of CONFIG GET. It puts keyway's own settings in place of the
// node's, and leaves out secrets.
func configText(w *Worker, dst []byte, r *request) []byte {
	reply := r.merge.replies[0]
	n, rest, ok := resp.Elements(reply)
	if !ok {
		return append(dst, reply...)
	}
	dst = append(dst, reply[:len(reply)-len(rest)]...)
	for range n / 2 {
		name, after, _ := resp.Split(rest)
		value, after, ok := resp.Split(after)
		if !ok {
			break
		}
		dst = append(dst, name...)
		text, _ := resp.Bulk(name)
		if own, ok := ownSetting(w, string(text)); ok {
			dst = resp.AppendBulkString(dst, own)
		} else {
			dst = append(dst, value...)
		}
		rest = after
	}
	return dst
}
