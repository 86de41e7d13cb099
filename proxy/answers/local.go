package answers

import (
	"math"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

func ping(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	switch {
	case a.Len() > 2:
		return s.AnswerError(cmd, errtext.Arity(cmd))
	case s.Has(engine.Subscribed) && !s.Has(engine.RESP3):
		return subscribedPing(w, s, cmd, a)
	case a.Len() == 1:
		return s.Reply(cmd, append(w.Scratch[:0], "+PONG\r\n"...))
	}
	return echo(w, s, cmd, a)
}

// subscribedPing answers PING of a RESP2 client that has subscriptions.
func subscribedPing(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	b := resp.AppendBulkString(resp.AppendArray(w.Scratch[:0], 2), "pong")
	if a.Len() > 1 {
		return s.Reply(cmd, resp.AppendBulk(b, a.Arg(1)))
	}
	return s.Reply(cmd, resp.AppendBulk(b, nil))
}

func echo(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	return s.Reply(cmd, resp.AppendBulk(w.Scratch[:0], a.Arg(1)))
}

func quit(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	s.Answer(cmd, resp.AppendOK(w.Scratch[:0]))
	s.CloseAfter()
	return true
}

func reset(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	db := w.Options.Users.Default.Database
	if s.Inflight > 0 && (s.Has(engine.RESP3|engine.Tracks|engine.NoTouch|engine.OfNodes) || s.DB != db) {
		s.Set(engine.Draining) // its earlier commands finish first, on the connections that they use
		return false
	}
	for _, f := range w.Features {
		f.Leave(s)
	}
	s.About, s.DB = engine.Anonymous, db
	s.Clear(engine.RESP3 | engine.Silent | engine.Skipping | engine.NoTouch | engine.OptedIn | engine.OptedOut)
	engine.BeDefault(s)
	w.Reads.Decide(s)
	return s.Reply(cmd, resp.AppendSimple(w.Scratch[:0], "RESET"))
}

func clock(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	b := resp.AppendArray(w.Scratch[:0], 2)
	b = resp.AppendBulkString(b, strconv.FormatInt(w.Wall.Unix(), 10))
	b = resp.AppendBulkString(b, strconv.Itoa(w.Wall.Nanosecond()/1000))
	return s.Reply(cmd, b)
}

// selectDB makes the client's later commands use connections that have selected its
// database. First it asks a node for that database, over a connection of the client's
// own: if the node refused shared connections, it would seem to be unreachable. No node
// has the database -1.
func selectDB(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	db, ok := resp.ParseInt(a.Arg(1))
	switch {
	case !ok:
		return s.AnswerError(cmd, errtext.NotInteger)
	case db < math.MinInt32 || db > math.MaxInt32:
		return s.AnswerError(cmd, errtext.NotInt32)
	case s.Inflight > 0:
		s.Set(engine.Draining) // its earlier commands finish first
		return false
	case db < 0 || db > math.MaxUint16:
		db = -1
	}
	n, shared := w.AnyMaster(s)
	switch {
	case n == nil && db < 0:
		return s.AnswerError(cmd, errtext.DBIndex)
	case db == int64(s.DB) || db == 0 || n == nil || n.HasDB(s, int(db)):
		engine.UseDB(w, s, uint16(db))
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	case shared.ConnectError() != "":
		return s.AnswerError(cmd, errtext.NotExecuted(n.Label(), shared.ConnectError()))
	case !n.HasRoom():
		return s.AnswerError(cmd, engine.TooManyExclusive)
	}
	tryFirst(w, s, cmd, n, func() { engine.UseDB(w, s, uint16(db)) }, "SELECT", strconv.FormatInt(db, 10))
	return true
}

// tryFirst sends a node a command that keyway will send on all of the client's
// connections. It uses a connection of the client's own, and the client gets the reply.
// If that is not an error, tryFirst calls adopt.
func tryFirst(w *engine.Worker, s *engine.Session, cmd *command.Command, n *engine.Node, adopt func(), args ...string) {
	conn := n.TakeExclusive(engine.ExclusiveConn{Session: s})
	s.Set(engine.Blocked)
	w.Ask(conn, w.Deadline(), func(reply []byte, ok bool) {
		why := conn.Reason()
		n.Release(conn, ok && reply[0] == '-') // reusable only if the command has changed nothing
		if s.HasLeft() {
			return
		}
		switch {
		case !ok:
			reply = resp.AppendError(nil, errtext.NotExecuted(n.Label(), why))
		case reply[0] != '-':
			adopt()
		}
		s.Clear(engine.Blocked)
		s.Answer(cmd, reply)
		s.Wake()
	}, args...)
}

// role answers ROLE as a master without replicas, since clients see keyway as one.
func role(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	b := resp.AppendArray(w.Scratch[:0], 3)
	b = resp.AppendBulkString(b, "master")
	b = resp.AppendInt(b, 0)
	return s.Reply(cmd, resp.AppendArray(b, 0))
}

// noEvict answers CLIENT NO-EVICT. The command has no effect: nodes do not see the client,
// so they cannot evict it.
func noEvict(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !command.EqualFold(a.Arg(2), "on") && !command.EqualFold(a.Arg(2), "off") {
		return s.AnswerError(cmd, errtext.Syntax)
	}
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

// noTouch answers CLIENT NO-TOUCH ON|OFF. With ON, the client's later commands use
// connections on which reads do not count as use of a key. First it asks a node whether
// it knows the command.
func noTouch(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	on := command.EqualFold(a.Arg(2), "on")
	n, shared := w.AnyMaster(s)
	switch {
	case w.Server.Lacks(cmd):
		return s.AnswerError(cmd, w.Server.Lacked(cmd, a))
	case !on && !command.EqualFold(a.Arg(2), "off"):
		return s.AnswerError(cmd, errtext.Syntax)
	case s.Inflight > 0:
		s.Set(engine.Draining) // its earlier commands finish first
		return false
	case !on, s.Has(engine.NoTouch), n == nil:
		setTouch(w, s, on)
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	case shared.ConnectError() != "":
		return s.AnswerError(cmd, errtext.NotExecuted(n.Label(), shared.ConnectError()))
	case !n.HasRoom():
		return s.AnswerError(cmd, engine.TooManyExclusive)
	}
	tryFirst(w, s, cmd, n, func() { setTouch(w, s, true) }, "CLIENT", string(a.Arg(1)), "ON")
	return true
}

func setTouch(w *engine.Worker, s *engine.Session, off bool) {
	if s.Has(engine.NoTouch) == off {
		return
	}
	if s.Clear(engine.NoTouch); off {
		s.Set(engine.NoTouch)
	}
	engine.RenewConns(w, s)
	s.ForgetCached()
}

// secrets are the settings of a node that keyway hides from its clients.
var secrets = map[string]bool{
	"requirepass": true, "masterauth": true, "primaryauth": true,
	"tls-key-file-pass": true, "tls-client-key-file-pass": true,
}

// ownSetting returns the value that clients get instead of a node's setting. own is false
// if they get the node's.
func ownSetting(w *engine.Worker, name string) (value string, own bool) {
	if name == "port" && w.Options.Process != nil {
		return strconv.Itoa(w.Options.Process.Port), true
	}
	return "", secrets[name]
}

// configText is the ending of CONFIG GET. It puts keyway's own settings in place of the
// node's, and leaves out secrets.
func configText(w *engine.Worker, dst []byte, r *engine.Request) []byte {
	reply := r.Merge.Replies[0]
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
