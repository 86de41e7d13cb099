package clients

import (
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

const errSyntax = "ERR syntax error" // object.c

// Filter says which clients CLIENT KILL and CLIENT LIST select. The zero value selects all
// clients.
type Filter struct {
	ids         map[uint64]bool // nil: any
	addr, laddr string          // empty: any
	user        string          // its name; empty: any
	kind        kind
	minAge      time.Duration // least age of a connection
	spared      uint64        // ID of a client that is not selected
}

// kind is a client's type.
type kind uint8

const (
	anyKind kind = iota
	normal
	pubsub
	noKind // of no client of keyway
)

// Selects reports whether the filter selects the client.
func (f *Filter) Selects(c Identity) bool {
	return c.ID != f.spared && (f.ids == nil || f.ids[c.ID]) && (f.addr == "" || c.Addr == f.addr) &&
		(f.laddr == "" || c.LocalAddr == f.laddr) && f.kind.includes(c) &&
		(f.user == "" || c.User == f.user) && c.Age >= f.minAge
}

func (k kind) includes(c Identity) bool {
	switch k {
	case anyKind:
		return true
	case normal, pubsub:
		return (k == pubsub) == c.Subscribed
	}
	return false
}

// parseKind parses a client type. text is the error for a type that Redis does not know.
func parseKind(word []byte) (k kind, text string) {
	switch strings.ToLower(string(word)) {
	case "normal":
		return normal, ""
	case "pubsub":
		return pubsub, ""
	case "master", "replica", "slave":
		return noKind, ""
	}
	return anyKind, "ERR Unknown client type '" + resp.Printable(word) + "'"
}

// ParseList parses CLIENT LIST [TYPE type | ID id ...]. text is an error for the client, or
// "" if the command is valid.
func ParseList(a command.Args) (f *Filter, text string) {
	f = new(Filter)
	switch {
	case a.Len() == 2:
	case a.Len() >= 4 && command.EqualFold(a.Arg(2), "id"):
		f.ids = map[uint64]bool{}
		for i := 3; i < a.Len(); i++ {
			n, ok := resp.ParseInt(a.Arg(i))
			if !ok || n < 1 {
				return nil, "ERR Invalid client ID"
			}
			f.ids[uint64(n)] = true
		}
	case a.Len() == 4 && command.EqualFold(a.Arg(2), "type"):
		f.kind, text = parseKind(a.Arg(3))
	default:
		return nil, errSyntax
	}
	return f, text
}

// ParseKill parses both forms of CLIENT KILL (networking.c, clientCommand). asker is the ID
// of the client that has sent it. isUser reports whether there is a user of that name. text is
// an error for the client, or "" if the command is valid. old reports whether it is the form
// with an address alone, whose reply is not a number.
func ParseKill(a command.Args, asker uint64, isUser func(name []byte) bool) (f *Filter, old bool, text string) {
	if a.Len() == 3 {
		return &Filter{addr: string(a.Arg(2))}, true, ""
	}
	if a.Len()%2 != 0 {
		return nil, false, errSyntax
	}
	f = &Filter{spared: asker}
	for i := 2; i < a.Len(); i += 2 {
		if command.EqualFold(a.Arg(i), "user") && !isUser(a.Arg(i+1)) {
			return nil, false, "ERR No such user '" + resp.Printable(a.Arg(i+1)) + "'"
		}
		if text := f.option(asker, strings.ToLower(string(a.Arg(i))), a.Arg(i+1)); text != "" {
			return nil, false, text
		}
	}
	return f, false, ""
}

// option parses an option of a CLIENT KILL. It returns an error for the client, or "" if the
// option is valid.
func (f *Filter) option(asker uint64, option string, value []byte) (text string) {
	switch option {
	case "id":
		id, ok := resp.ParseInt(value)
		if !ok || id < 1 {
			return "ERR client-id should be greater than 0"
		}
		f.ids = map[uint64]bool{uint64(id): true}
	case "maxage":
		age, ok := resp.ParseInt(value)
		if !ok || age < 1 || age > 1<<32 {
			return "ERR maxage is not an integer or out of range"
		}
		f.minAge = time.Duration(age) * time.Second
	case "type":
		k, text := parseKind(value)
		if f.kind != noKind {
			f.kind = k
		}
		return text
	case "addr":
		f.addr = string(value)
	case "laddr":
		f.laddr = string(value)
	case "user":
		f.user = string(value)
	case "skipme":
		switch {
		case command.EqualFold(value, "yes"):
			f.spared = asker
		case command.EqualFold(value, "no"):
			f.spared = 0
		default:
			return errSyntax
		}
	default:
		return errSyntax
	}
	return ""
}
