package proxy

import (
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// clientFilter says which clients CLIENT KILL and CLIENT LIST select. A field with the
// zero value selects all clients.
type clientFilter struct {
	id                uint64
	addr, laddr, kind string
	nobody            bool   // selects no client: none has the type
	maxAge            int64  // the least age of a connection, in nanoseconds
	spare             uint64 // the id of a client that is not selected
}

func (v *clientFilter) include(s *Session, now int64) bool {
	return !v.nobody && s.id != v.spare && (v.id == 0 || s.id == v.id) && (v.addr == "" || s.peer == v.addr) &&
		(v.laddr == "" || s.local == v.laddr) && (v.kind == "" || s.kind() == v.kind) && now-s.opened >= v.maxAge
}

// kind returns the client's type, as CLIENT LIST and CLIENT KILL name it.
func (s *Session) kind() string {
	if s.has(subscribed) {
		return "pubsub"
	}
	return "normal"
}

// clientKind parses a client type. known is false for a type that Redis does not know.
// nobody is true for a type that no client of keyway has.
func clientKind(word []byte) (kind string, nobody, known bool) {
	switch kind = strings.ToLower(string(word)); kind {
	case "normal", "pubsub":
		return kind, false, true
	case "master", "replica", "slave":
		return "", true, true
	}
	return "", false, false
}

// killThose closes the worker's clients that v selects, and returns how many it closes.
func (w *Worker) killThose(v *clientFilter, asker uint64) (n int) {
	for _, s := range w.sessions {
		if !v.include(s, w.now) || s.has(dead) {
			continue
		}
		n++
		if s.id == asker {
			w.closeAfter(s) // it gets its reply first
		} else {
			w.kill(s)
		}
	}
	return n
}

// clientKill answers both forms of CLIENT KILL (networking.c, clientCommand).
func clientKill(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	old := a.Len() == 3
	v := &clientFilter{spare: s.id}
	switch {
	case old:
		v.addr, v.spare = string(a.Arg(2)), 0
	case a.Len()%2 != 0:
		return w.answerError(s, cmd, errSyntax)
	}
	for i := 2; !old && i < a.Len(); i += 2 {
		if text := v.option(s, strings.ToLower(string(a.Arg(i))), a.Arg(i+1)); text != "" {
			return w.answerError(s, cmd, text)
		}
	}
	asker := s.id
	return w.askAll(s, cmd, func(o *Worker) any { return o.killThose(v, asker) }, func(counts []any) []byte {
		n := sum(counts)
		switch {
		case !old:
			return resp.AppendInt(nil, int64(n))
		case n == 0:
			return resp.AppendError(nil, "ERR No such client")
		}
		return resp.AppendOK(nil)
	})
}

// option parses an option of a CLIENT KILL that s has sent. It returns an error for the
// client, or "" if the option is valid.
func (v *clientFilter) option(s *Session, option string, value []byte) (text string) {
	switch option {
	case "id":
		id, ok := resp.ParseInt(value)
		if !ok || id < 1 {
			return "ERR client-id should be greater than 0"
		}
		v.id = uint64(id)
	case "maxage":
		age, ok := resp.ParseInt(value)
		if !ok || age < 1 || age > 1<<32 {
			return "ERR maxage is not an integer or out of range"
		}
		v.maxAge = age * int64(time.Second)
	case "type":
		kind, nobody, known := clientKind(value)
		if !known {
			return "ERR Unknown client type '" + clean(value) + "'"
		}
		v.kind, v.nobody = kind, v.nobody || nobody
	case "addr":
		v.addr = string(value)
	case "laddr":
		v.laddr = string(value)
	case "user":
		if string(value) != "default" {
			return "ERR No such user '" + clean(value) + "'"
		}
	case "skipme":
		switch {
		case command.EqualFold(value, "yes"):
			v.spare = s.id
		case command.EqualFold(value, "no"):
			v.spare = 0
		default:
			return errSyntax
		}
	default:
		return errSyntax
	}
	return ""
}

// sum adds up the counts in the workers' answers.
func sum(counts []any) (n int) {
	for _, c := range counts {
		n += c.(int)
	}
	return n
}
