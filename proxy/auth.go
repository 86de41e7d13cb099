package proxy

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/resp"
)

// acceptsPassword reports whether user and password are configured ones. Its running time
// does not depend on how much of the password is right.
func acceptsPassword(w *Worker, user, password []byte) bool {
	given, equal := sha256.Sum256(password), 0
	for _, valid := range w.o.Passwords {
		want := sha256.Sum256([]byte(valid))
		equal |= subtle.ConstantTimeCompare(given[:], want[:])
	}
	return equal == 1 && string(user) == "default"
}

// authenticate checks user and password and marks the session as authenticated. It
// returns the error for the client, or "".
func authenticate(w *Worker, s *Session, user, password []byte) string {
	if len(w.o.Passwords) == 0 {
		// Like Redis's default user with nopass: any password is right, but the
		// user name has to be "default".
		if string(user) == "default" {
			return ""
		}
		return errtext.WrongPass
	}
	if !acceptsPassword(w, user, password) {
		w.stats.AuthFailures++
		w.logRefusal(s, "wrong password")
		return errtext.WrongPass
	}
	s.set(authed)
	return ""
}

var defaultUser = []byte("default")

// auth answers AUTH [user] password.
func auth(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	var text string
	switch a.Len() {
	case 2:
		if len(w.o.Passwords) == 0 {
			return s.answerError(cmd, errtext.NoPassword)
		}
		text = authenticate(w, s, defaultUser, a.Arg(1))
	case 3:
		text = authenticate(w, s, a.Arg(1), a.Arg(2))
	default:
		text = errtext.Syntax
	}
	if text != "" {
		return s.answerError(cmd, text)
	}
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

// hello answers HELLO [2|3 [AUTH user password] [SETNAME name]]
// (networking.c, helloCommand).
func hello(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	var name []byte
	version := int64(2)
	if s.has(resp3) {
		version = 3
	}
	if a.Len() > 1 {
		var ok bool
		version, ok = resp.ParseInt(a.Arg(1))
		if !ok {
			return s.answerError(cmd, errtext.HelloProto)
		}
		if version < 2 || version > 3 {
			return s.answerError(cmd, errtext.NoProto)
		}
		if (version == 3) != s.has(resp3) && s.inflight > 0 {
			s.set(draining)
			return false
		}
		for i := 2; i < a.Len(); i++ {
			switch more := a.Len() - 1 - i; {
			case command.EqualFold(a.Arg(i), "auth") && more >= 2:
				if text := authenticate(w, s, a.Arg(i+1), a.Arg(i+2)); text != "" {
					return s.answerError(cmd, text)
				}
				i += 2
			case command.EqualFold(a.Arg(i), "setname") && more >= 1:
				if name = a.Arg(i + 1); !clients.IsName(name) {
					return s.answerError(cmd, errtext.ClientName)
				}
				i++
			default:
				return s.answerError(cmd, "ERR Syntax error in HELLO option '"+resp.Printable(a.Arg(i))+"'")
			}
		}
	}
	if !s.has(authed) {
		return s.answerError(cmd, errtext.HelloNoAuth)
	}
	if name != nil {
		s.allocAbout().Name = string(name)
	}
	return speak(w, s, version, func(text string) {
		if text != "" {
			s.answerError(cmd, text)
			return
		}
		s.reply(cmd, w.server.AppendHello(w.scratch[:0], info.Client{
			ID: s.id, Version: s.protocol(), Emulating: w.o.Cluster != nil,
		}))
	})
}
