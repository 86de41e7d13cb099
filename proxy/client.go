package proxy

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

func clientID(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.reply(s, cmd, resp.AppendInt(w.scratch[:0], int64(s.id)))
}

func clientGetName(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.about.name == "" {
		return w.reply(s, cmd, s.protocol().AppendNull(w.scratch[:0]))
	}
	return w.reply(s, cmd, resp.AppendBulkString(w.scratch[:0], s.about.name))
}

func clientSetName(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !validName(a.Arg(2)) {
		return w.answerError(s, cmd, errClientName)
	}
	s.tells().name = string(a.Arg(2))
	return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
}

func clientSetInfo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	attr, v := a.Arg(2), a.Arg(3)
	var field *string
	switch {
	case command.EqualFold(attr, "lib-name"):
		field = &s.tells().libName
	case command.EqualFold(attr, "lib-ver"):
		field = &s.tells().libVersion
	default:
		return w.answerError(s, cmd, "ERR Unrecognized option '"+clean(attr)+"'")
	}
	if !validName(v) {
		return w.answerError(s, cmd, "ERR "+strings.ToLower(string(attr))+
			" cannot contain spaces, newlines or special characters.")
	}
	*field = string(v)
	return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
}

func clientInfo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	return w.reply(s, cmd, s.protocol().AppendText(w.scratch[:0], w.appendClient(nil, s, len(a.Frame()))))
}

func clientHelp(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.help(s, cmd, "CLIENT",
		"CACHING (YES|NO)", "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
		"GETREDIR", "    Return the client ID we are redirecting to when tracking is enabled.",
		"GETNAME", "    Return the name of the current connection.",
		"ID", "    Return the ID of the current connection.",
		"INFO", "    Return information about the current client connection.",
		"KILL <ip:port>", "    Kill connection made from <ip:port>.",
		"KILL <option> <value> [<option> <value> [...]]",
		"    Kill connections of this keyway by ADDR, LADDR, TYPE, USER, SKIPME, ID or MAXAGE.",
		"LIST [options ...]",
		"    Return information about client connections of this keyway: TYPE (NORMAL|PUBSUB), ID <id> ...",
		"UNPAUSE", "    Stop the current client pause, resuming traffic.",
		"PAUSE <timeout> [WRITE|ALL]",
		"    Suspend all, or just write, clients of this keyway for <timeout> milliseconds.",
		"REPLY (ON|OFF|SKIP)", "    Control the replies sent to the current connection.",
		"SETINFO <option> <value>", "    Set client meta attr: LIB-NAME, LIB-VER.",
		"SETNAME <name>", "    Assign the name <name> to the current connection.",
		"UNBLOCK <clientid> [TIMEOUT|ERROR]", "    Unblock the specified blocked client.",
		"TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
		"         [OPTIN] [OPTOUT] [NOLOOP]",
		"    Control server assisted client side caching.",
		"TRACKINGINFO", "    Report tracking status for the current connection.",
		"NO-EVICT (ON|OFF)", "    Protect current client connection from eviction.")
}

// appendClient appends the client's entry in CLIENT LIST, as Redis writes it
// (networking.c, catClientInfoString). argv is the size of the CLIENT command that asks,
// 0 in other clients' entries.
func (w *Worker) appendClient(b []byte, s *Session, argv int) []byte {
	last, events := "NULL", "r"
	if s.lastCmd != nil {
		last = s.lastCmd.Name
	}
	if s.out.Size() > 0 {
		events = "rw"
	}
	first := len(s.out.Next())
	memory := int(unsafe.Sizeof(*s)) + cap(s.in) + s.out.Memory() + s.parked + argv
	multi, watched := 0, 0
	if s.trouble != untroubled {
		memory += int(unsafe.Sizeof(*s.trouble))
	}
	if t := s.txn; t != nil {
		multi, watched = t.size(), len(t.names)
		memory += cap(t.frames)
	}
	b = fmt.Appendf(b, "id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=%d flags=%s db=%d "+
		"sub=%d psub=%d ssub=%d multi=%d watch=%d "+
		"qbuf=%d qbuf-free=%d argv-mem=%d multi-mem=%d obl=%d oll=%d omem=%d tot-mem=%d "+
		"events=%s cmd=%s user=default redir=%d resp=%d",
		s.id, s.peer, s.local, s.about.name,
		(w.now-s.opened)/int64(time.Second), (w.now-s.seen)/int64(time.Second), s.flags(), s.db,
		s.subscriptions(byChannel), s.subscriptions(byPattern), s.subscriptions(byShard), s.queued(), watched,
		max(len(s.in), argv), cap(s.in)-len(s.in), argv, multi,
		first, s.out.Chunks(), s.out.Size()-first+s.parked, memory,
		events, last, s.redirectsTo(), s.protocol())
	if s.about.libName != "" || s.about.libVersion != "" {
		b = fmt.Appendf(b, " lib-name=%s lib-ver=%s", s.about.libName, s.about.libVersion)
	}
	return fmt.Appendf(b, " tot-net-in=%d tot-net-out=%d tot-cmds=%d\n", s.bytesIn, s.bytesOut, s.commands)
}

// flags returns the flags that CLIENT LIST shows for the session.
func (s *Session) flags() (flags string) {
	for _, f := range []struct {
		is   bool
		flag string
	}{
		{s.has(monitoring), "O"}, {s.has(subscribed), "P"}, {s.has(inMulti), "x"}, {s.waits(), "b"},
		{s.has(tracks), "t"}, {s.has(tracks) && s.tracking.broken, "R"},
		{s.has(tracks) && s.tracking.bcast, "B"}, {s.has(noTouch), "T"},
	} {
		if f.is {
			flags += f.flag
		}
	}
	return cmp.Or(flags, "N")
}

// subscriptions returns the number of the client's subscriptions of a kind.
func (s *Session) subscriptions(kind topicKind) int {
	if s.subs == nil {
		return 0
	}
	return len(s.subs.places[kind])
}

// clientList answers CLIENT LIST [TYPE type | ID id ...] with the clients of all workers.
func clientList(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	of := &clientFilter{}
	var ids map[uint64]bool
	switch {
	case a.Len() == 2:
	case a.Len() >= 4 && command.EqualFold(a.Arg(2), "id"):
		ids = map[uint64]bool{}
		for i := 3; i < a.Len(); i++ {
			n, ok := resp.ParseInt(a.Arg(i))
			if !ok || n < 1 {
				return w.answerError(s, cmd, "ERR Invalid client ID")
			}
			ids[uint64(n)] = true
		}
	case a.Len() == 4 && command.EqualFold(a.Arg(2), "type"):
		kind, nobody, known := clientKind(a.Arg(3))
		if !known {
			return w.answerError(s, cmd, "ERR Unknown client type '"+clean(a.Arg(3))+"'")
		}
		of.kind, of.nobody = kind, nobody
	default:
		return w.answerError(s, cmd, errSyntax)
	}
	argv := len(a.Frame())
	return w.askAll(s, cmd, func(o *Worker) any {
		var lines []byte
		for _, c := range o.sessions {
			if of.include(c, o.now) && (ids == nil || ids[c.id]) {
				size := 0
				if c == s {
					size = argv
				}
				lines = o.appendClient(lines, c, size)
			}
		}
		return lines
	}, func(answers []any) []byte {
		var list []byte
		for _, lines := range answers {
			list = append(list, lines.([]byte)...)
		}
		return s.protocol().AppendText(nil, list)
	})
}
