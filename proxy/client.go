package proxy

import (
	"cmp"
	"time"
	"unsafe"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/resp"
)

func clientID(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, resp.AppendInt(w.scratch[:0], int64(s.id)))
}

func clientGetName(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.about.Name == "" {
		return s.reply(cmd, s.protocol().AppendNull(w.scratch[:0]))
	}
	return s.reply(cmd, resp.AppendBulkString(w.scratch[:0], s.about.Name))
}

func clientSetName(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !clients.IsName(a.Arg(2)) {
		return s.answerError(cmd, errtext.ClientName)
	}
	s.allocAbout().Name = string(a.Arg(2))
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

func clientSetInfo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	attr, value := a.Arg(2), a.Arg(3)
	if text := clients.CheckInfo(attr, value); text != "" {
		return s.answerError(cmd, text)
	}
	s.allocAbout().SetInfo(attr, value)
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

func clientInfo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	client := describe(s, len(a.Frame()))
	return s.reply(cmd, s.protocol().AppendText(w.scratch[:0], client.AppendLine(nil)))
}

func clientHelp(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return help(w, s, cmd, "CLIENT", clients.Help...)
}

// describe describes the client for CLIENT LIST. asking is the size of the CLIENT command that
// asks, 0 in other clients' entries.
func describe(s *Session, asking int) clients.Client {
	c := clients.Client{
		Identity: identityOf(s), About: *s.about, Idle: time.Duration(s.w.now - s.seen),
		Flags: flagsOf(s), DB: s.db, Version: s.protocol(), Redirects: -1, Queued: -1,
		Asking: asking, Input: len(s.in), InputFree: cap(s.in) - len(s.in),
		OutputBytes: s.out.Size(), OutputChunks: s.out.Chunks(), FirstSize: len(s.out.Next()), Parked: s.parked,
		Memory:  int(unsafe.Sizeof(*s)) + cap(s.in) + s.out.Memory() + s.parked + asking,
		BytesIn: s.bytesIn, BytesOut: s.bytesOut, Commands: s.commands,
	}
	if s.lastCmd != nil {
		c.Command = s.lastCmd.Name
	}
	if s.rareState != noRareState {
		c.Memory += int(unsafe.Sizeof(*s.rareState))
	}
	for _, f := range s.w.features {
		f.describe(s, &c)
	}
	if s.has(noTouch) {
		c.Flags += "T"
	}
	c.Flags = cmp.Or(c.Flags, "N")
	return c
}

func identityOf(s *Session) clients.Identity {
	return clients.Identity{
		ID: s.id, Addr: s.peer, LocalAddr: s.local, Subscribed: s.has(subscribed),
		Age: time.Duration(s.w.now - s.opened),
	}
}

// flagsOf returns the flags that CLIENT LIST shows for a client, except those of features.
func flagsOf(s *Session) (flags string) {
	for _, f := range []struct {
		is   bool
		flag string
	}{
		{s.has(monitoring), "O"}, {s.has(subscribed), "P"}, {s.has(inMulti), "x"}, {s.waits(), "b"},
		{s.has(tracks), "t"},
	} {
		if f.is {
			flags += f.flag
		}
	}
	return flags
}

// clientList answers CLIENT LIST [TYPE type | ID id ...] with the clients of all workers.
func clientList(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	filter, text := clients.ParseList(a)
	if text != "" {
		return s.answerError(cmd, text)
	}
	asking := len(a.Frame())
	return w.siblings.askAll(s, cmd, func(o *Worker) any {
		var lines []byte
		for _, c := range o.sessions {
			if !filter.Selects(identityOf(c)) {
				continue
			}
			size := 0
			if c == s {
				size = asking
			}
			client := describe(c, size)
			lines = client.AppendLine(lines)
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

// clientKill answers both forms of CLIENT KILL.
func clientKill(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	asker := s.id
	filter, old, text := clients.ParseKill(a, asker)
	if text != "" {
		return s.answerError(cmd, text)
	}
	kill := func(o *Worker) any { return killThose(o, filter, asker) }
	return w.siblings.askAll(s, cmd, kill, func(counts []any) []byte {
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

// killThose closes the worker's clients that the filter selects, and returns how many it
// closes.
func killThose(w *Worker, filter *clients.Filter, asker uint64) (n int) {
	for _, s := range w.sessions {
		if !filter.Selects(identityOf(s)) || s.has(dead) {
			continue
		}
		n++
		if s.id == asker {
			s.closeAfter() // it gets its reply first
		} else {
			s.kill()
		}
	}
	return n
}
