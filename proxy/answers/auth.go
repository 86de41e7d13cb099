package answers

import (
	"strings"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// errOtherNames answers an AUTH after which the client's former names would mean others.
const errOtherNames = "ERR keyway: the users have different prefixes, and this client has subscriptions, a " +
	"transaction, watched keys or tracking; send RESET before AUTH, or authenticate on a new connection"

// authenticate checks user and password, and makes the session one of the user. It returns the
// error for the client, or "".
func authenticate(w *engine.Worker, s *engine.Session, a command.Args, user, password []byte) string {
	if w.NodeUsers != nil {
		return authenticateAtNodes(w, s, string(user), string(password))
	}
	u := w.Options.Users.Authenticate(user, password)
	if u == nil {
		w.Stats.AuthFailures++
		failed(w, s)
		engine.LogUserRefusal(w, s, "wrong password", string(user))
		w.Denials.Denied(s, acl.DeniedAuth, string(a.Arg(0)), string(user))
		return errtext.WrongPass
	}
	if !u.Prefix.Same(s.User.Prefix) && (s.Has(engine.Subscribed|engine.Tracks) || s.Block != nil) {
		return errOtherNames
	}
	changesDatabase := s.User.ChangesDatabase(u)
	if w.Limiter != nil && !w.Limiter.Join(s, u) {
		engine.LogUserRefusal(w, s, "its user has max_clients already", u.Name)
		return errtext.MaxClients
	}
	engine.SetUser(s, u)
	s.Set(engine.Authed)
	w.Reads.Decide(s)
	if changesDatabase {
		engine.UseDB(w, s, u.Database)
	}
	return ""
}

// mustDrain reports whether an attempt to become the user has to wait: the client's earlier commands
// finish in the database that it leaves.
func mustDrain(w *engine.Worker, s *engine.Session, user []byte) bool {
	u := w.Options.Users.Get(user)
	if s.Inflight == 0 || u == nil || !s.User.ChangesDatabase(u) {
		return false
	}
	s.Set(engine.Draining)
	return true
}

// helloMustDrain is mustDrain for a HELLO.
func helloMustDrain(w *engine.Worker, s *engine.Session, a command.Args) bool {
	for i := 2; i+1 < a.Len(); i++ {
		if command.EqualFold(a.Arg(i), "auth") && mustDrain(w, s, a.Arg(i+1)) {
			return true
		}
	}
	return false
}

// auth answers AUTH [user] password.
func auth(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	var text string
	switch a.Len() {
	case 2:
		if w.Options.Users.Default.NoPass() {
			return s.AnswerError(cmd, errtext.NoPassword)
		}
		if mustDrain(w, s, []byte(acl.DefaultName)) || mustWaitForAuth(w, s, "AUTH", string(a.Arg(1))) {
			return false
		}
		text = authenticate(w, s, a, []byte(acl.DefaultName), a.Arg(1))
	case 3:
		if mustDrain(w, s, a.Arg(1)) || mustWaitForAuth(w, s, "AUTH", string(a.Arg(1)), string(a.Arg(2))) {
			return false
		}
		text = authenticate(w, s, a, a.Arg(1), a.Arg(2))
	default:
		text = errtext.Syntax
	}
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

// hello answers HELLO [2|3 [AUTH user password] [SETNAME name]]
// (networking.c, helloCommand).
func hello(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	var name []byte
	version := int64(2)
	if s.Has(engine.RESP3) {
		version = 3
	}
	if a.Len() > 1 {
		var ok bool
		version, ok = resp.ParseInt(a.Arg(1))
		if !ok {
			return s.AnswerError(cmd, errtext.HelloProto)
		}
		if version < 2 || version > 3 {
			return s.AnswerError(cmd, errtext.NoProto)
		}
		if (version == 3) != s.Has(engine.RESP3) && s.Inflight > 0 {
			s.Set(engine.Draining)
			return false
		}
		if helloMustDrain(w, s, a) {
			return false
		}
		var text string
		if name, text, ok = helloOptions(w, s, a); text != "" {
			return s.AnswerError(cmd, text)
		} else if !ok {
			return false
		}
	}
	if !s.Has(engine.Authed) {
		if text := engine.Enter(w, s); text == errtext.NoAuth {
			return s.AnswerError(cmd, errtext.HelloNoAuth)
		} else if text != "" {
			return s.AnswerError(cmd, text)
		}
		if s.Has(engine.Blocked) {
			return false
		}
	}
	if name != nil {
		s.AllocAbout().Name = string(name)
	}
	return switchProtocol(w, s, version, func(text string) {
		if text != "" {
			s.AnswerError(cmd, text)
			return
		}
		s.Reply(cmd, w.Server.AppendHello(w.Scratch[:0], info.Client{
			ID: s.ID(), Version: s.Protocol(), Emulating: w.Options.Cluster != nil,
		}))
	})
}

// helloOptions executes the options AUTH and SETNAME of a HELLO. text is the error for the client. ok is
// false if the command has to wait.
func helloOptions(w *engine.Worker, s *engine.Session, a command.Args) (name []byte, text string, ok bool) {
	again := false // a second AUTH
	for i := 2; i < a.Len(); i++ {
		switch more := a.Len() - 1 - i; {
		case command.EqualFold(a.Arg(i), "auth") && more >= 2:
			if !again && mustWaitForAuth(w, s, "AUTH", string(a.Arg(i+1)), string(a.Arg(i+2))) {
				return nil, "", false
			}
			again = true
			if text := authenticate(w, s, a, a.Arg(i+1), a.Arg(i+2)); text != "" {
				return nil, text, false
			}
			i += 2
		case command.EqualFold(a.Arg(i), "setname") && more >= 1:
			if name = a.Arg(i + 1); !clients.IsName(name) {
				return nil, errtext.ClientName, false
			}
			i++
		default:
			return nil, "ERR Syntax error in HELLO option '" + resp.Printable(a.Arg(i)) + "'", false
		}
	}
	return name, "", true
}

// A client speaks RESP2 until it asks for RESP3. keyway has separate connections to the
// nodes for each version and uses those of the client's version, so it passes replies on
// unchanged.

// switchProtocol switches the client to another version of the protocol. For RESP3, it first checks
// that a node supports it. Then it calls answer with an error text, or with "" on success.
// It returns false if the command has to wait; it then has no effect.
func switchProtocol(w *engine.Worker, s *engine.Session, version int64, answer func(text string)) bool {
	if (version == 3) == s.Has(engine.RESP3) {
		answer("")
		return true
	}
	if s.Inflight > 0 {
		s.Set(engine.Draining) // earlier commands finish first, over the connections of the old version
		return false
	}
	s.Clear(engine.RESP3)
	if version == 3 {
		s.Set(engine.RESP3)
	}
	engine.RenewConns(w, s)
	done := func(text string) {
		answer(text)
		s.ForgetCached() // behind the answer: it may be a push of the new version
	}
	if version == 2 {
		done("")
		return true
	}
	n, conn := w.AnyMaster(s)
	if n == nil || conn.State() == pool.Ready {
		done("")
		return true
	}
	s.Set(engine.Blocked)
	w.Ask(conn, w.Deadline(), func(_ []byte, ok bool) {
		if s.HasLeft() {
			return
		}
		text := ""
		if why := conn.Reason(); !ok && (strings.Contains(why, "unknown command") || strings.Contains(why, "NOPROTO")) {
			text = errtext.NoProto // older than Redis 6
			s.Clear(engine.RESP3)
			n.Disconnect(conn)
		}
		s.Clear(engine.Blocked)
		done(text)
		s.Wake()
	}, "PING")
	return true
}
