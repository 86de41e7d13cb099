package transcripts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/pool"
)

// This file has what nodes do by themselves.

// hello returns the reply to HELLO of a node of this version.
func hello(version string) []byte {
	const head = "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n"
	return fmt.Appendf(nil, "%s$%d\r\n%s\r\n", head, len(version), version)
}

// greeted answers commands of a connection's greeting.
func (s *socket) greeted(b []byte, now int64) {
	for s.conn.State() == pool.Greeting {
		args, rest, ok := cutCommand(b)
		if !ok {
			return
		}
		b = rest
		if args[0] != "PING" && args[0] != "FUNCTION" {
			s.greeting = append(s.greeting, showCommand(args))
		}
		reply := "+OK\r\n"
		switch {
		case s.node.greeting != "":
			reply = s.node.greeting + "\r\n"
		case args[0] == "PING":
			reply = fmt.Sprintf("$%d\r\n%s\r\n", len(args[1]), args[1])
		case args[0] == "FUNCTION":
			reply = "*0\r\n" // the node has no register
		case args[0] == "HELLO":
			reply = fmt.Sprintf("%%1\r\n$2\r\nid\r\n:%d\r\n", s.id()+1)
		case args[0] == "ROLE":
			reply = "*1\r\n$6\r\nmaster\r\n"
		}
		s.conn.Received([]byte(reply), now)
	}
}

// id returns the id that the node gives the connection. It is the one in its name, plus 100.
func (s *socket) id() int {
	if s.ready {
		n := 1
		fmt.Sscanf(strings.TrimPrefix(s.name, s.node.name), ".%d", &n)
		return 100 + n
	}
	return 100 + s.node.opened
}

var nonce = regexp.MustCompile(`^[0-9a-f]{16}$`)

// auto returns the reply that a node gives by itself, or nil. hidden says that the transcript
// does not show the command.
func (s *socket) auto(args []string) (reply []byte, hidden bool) {
	switch line := strings.Join(args, " "); {
	case line == "CLIENT ID":
		return fmt.Appendf(nil, ":%d\r\n", s.id()), true
	case args[0] == "subscribe" || args[0] == "psubscribe" || args[0] == "ssubscribe":
		s.listens = true
	case line == "PING" && s.listens:
		return []byte("*2\r\n$4\r\npong\r\n$0\r\n\r\n"), true
	case line == "FUNCTION LIST LIBRARYNAME keyway_*":
		return []byte("*0\r\n"), true // the node has no register
	case line == "HELLO":
		return hello(s.node.version), true
	case line == "INFO replication":
		text := "role:master\r\nmaster_replid:s\r\nmaster_repl_offset:1000\r\n"
		if s.node.lag >= 0 {
			text = "role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\n" +
				fmt.Sprintf("slave_repl_offset:%d\r\n", 1000-s.node.lag)
		}
		return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(text), text), true
	case len(args) == 2 && args[0] == "PING" && nonce.MatchString(args[1]):
		return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(args[1]), args[1]), false
	}
	if s.each != nil {
		return s.each, false
	}
	return s.node.each, false
}

// autoReply gives the automatic replies that are next. It reports whether there was one.
func (s *socket) autoReply(now int64) (any bool) {
	if s.listens { // what a node owes there comes in no order that keyway could rely on
		s.pending = slices.DeleteFunc(s.pending, func(o owed) bool { return o.auto == nil })
	}
	for s.open && len(s.pending) > 0 && s.pending[0].auto != nil {
		reply := s.pending[0].auto
		s.pending = s.pending[1:]
		s.conn.Received(reply, now+1) // no reply comes in no time
		any = true
	}
	return any
}

// reply sends a reply of the transcript.
func (s *socket) reply(b []byte, now int64) {
	if b[0] != '>' && len(s.pending) > 0 && s.pending[0].auto == nil {
		s.pending = s.pending[1:]
	}
	s.conn.Received(b, now)
	s.autoReply(now)
}
