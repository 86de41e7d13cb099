package answers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

func clientID(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendInt(w.Scratch[:0], int64(s.ID())))
}

func clientGetName(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	if s.About.Name == "" {
		return s.Reply(cmd, s.Protocol().AppendNull(w.Scratch[:0]))
	}
	return s.Reply(cmd, resp.AppendBulkString(w.Scratch[:0], s.About.Name))
}

func clientSetName(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !clients.IsName(a.Arg(2)) {
		return s.AnswerError(cmd, errtext.ClientName)
	}
	s.AllocAbout().Name = string(a.Arg(2))
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

func clientSetInfo(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	attr, value := a.Arg(2), a.Arg(3)
	if text := clients.CheckInfo(attr, value); text != "" {
		return s.AnswerError(cmd, text)
	}
	s.AllocAbout().SetInfo(attr, value)
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

func clientInfo(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	client := describe(s, len(a.Frame()))
	return s.Reply(cmd, s.Protocol().AppendText(w.Scratch[:0], client.AppendLine(nil)))
}

func clientHelp(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return help(w, s, cmd, "CLIENT", clients.Help...)
}

// describe describes the client for CLIENT LIST. asking is the size of the CLIENT command that
// asks, 0 in other clients' entries.
func describe(s *engine.Session, asking int) (c clients.Client) {
	fill(&c, s, asking)
	return c
}

// fill is describe for a Client that exists.
func fill(c *clients.Client, s *engine.Session, asking int) {
	*c = clients.Client{
		Identity: identityOf(s), About: *s.About, Idle: time.Duration(s.Worker.Now - s.ActiveAt),
		Flags: flagsOf(s), DB: s.DB, Version: s.Protocol(), Redirects: -1, Queued: -1,
		Asking: asking, Input: len(s.In), InputFree: cap(s.In) - len(s.In),
		OutputBytes: s.Unsent.Size(), OutputChunks: s.Unsent.Chunks(), FirstSize: len(s.Unsent.Next()),
		Parked:  s.Parked,
		Memory:  int(unsafe.Sizeof(*s)) + cap(s.In) + s.Unsent.Memory() + s.Parked + asking,
		BytesIn: s.BytesIn, BytesOut: s.BytesOut, Commands: s.Commands,
	}
	if s.LastCmd != nil {
		c.Command = s.LastCmd.Name
	}
	if s.RareState != engine.NoRareState {
		c.Memory += int(unsafe.Sizeof(*s.RareState))
	}
	for _, f := range s.Worker.Features {
		f.Describe(s, c)
	}
	if s.Has(engine.NoTouch) {
		c.Flags += "T"
	}
	c.Flags = cmp.Or(c.Flags, "N")
}

func identityOf(s *engine.Session) clients.Identity {
	return clients.Identity{
		ID: s.ID(), Addr: s.Peer(), LocalAddr: s.Local, User: s.User.Name, Subscribed: s.Has(engine.Subscribed),
		Age: time.Duration(s.Worker.Now - s.OpenedAt),
	}
}

// flagsOf returns the flags that CLIENT LIST shows for a client, except those of features.
func flagsOf(s *engine.Session) (flags string) {
	for _, f := range []struct {
		is   bool
		flag string
	}{
		{s.Has(engine.Monitoring), "O"}, {s.Has(engine.Subscribed), "P"}, {s.Has(engine.InMulti), "x"},
		{s.Waits(), "b"}, {s.Has(engine.Leaving | engine.Closing), "c"},
		{s.Has(engine.Tracks), "t"},
	} {
		if f.is {
			flags += f.flag
		}
	}
	return flags
}

// clientList answers CLIENT LIST [TYPE type | ID id ...] with the clients of all workers.
func clientList(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	filter, text := clients.ParseList(a)
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	asking := len(a.Frame())
	return w.Siblings.AskOfEach(s, cmd, func(c *engine.Session, lines []byte) []byte {
		if !filter.Selects(identityOf(c)) {
			return lines
		}
		size := 0
		if c == s {
			size = asking
		}
		client := describe(c, size)
		return client.AppendLine(lines)
	}, func(answers [][]byte) []byte { return s.Protocol().AppendText(nil, slices.Concat(answers...)) })
}

// Search finds the first rows of a worker's clients, in pieces: there may be 50,000, and the thread's other clients
// wait. Its methods are called on the worker's thread, each time in another turn.
type Search struct {
	query  clients.Query
	top    *clients.Top[*engine.Session]
	left   []*engine.Session // nil: it has not begun
	client clients.Client    // one for all
}

// rowsPiece is how many clients a search looks at in one turn, which takes less than listing them does.
const rowsPiece = 4 * engine.PieceSize

// NewSearch returns a search that has not begun.
func NewSearch(q clients.Query) *Search {
	return &Search{query: q, top: clients.NewTop[*engine.Session](q.Count)}
}

// Next goes on with the next clients, and reports whether there are more.
func (of *Search) Next(w *engine.Worker) (more bool) {
	if of.left == nil {
		of.left = slices.Clone(w.Sessions)
	}
	n := min(len(of.left), rowsPiece)
	for _, s := range of.left[:n] {
		if !s.HasLeft() {
			fill(&of.client, s, 0)
			of.top.Add(of.query.Key(&of.client), s)
		}
	}
	of.left = of.left[n:]
	return len(of.left) > 0
}

// Rows returns what was found, without clients that have left meanwhile.
func (of *Search) Rows() (rows []clients.Row) {
	for _, s := range of.top.First() {
		if !s.HasLeft() {
			fill(&of.client, s, 0)
			rows = append(rows, of.client.Row(of.query, s.Waits()))
		}
	}
	return rows
}

// clientKill answers both forms of CLIENT KILL.
func clientKill(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	asker := s.ID()
	isUser := func(name []byte) bool { return w.Options.Users.Get(name) != nil }
	filter, old, text := clients.ParseKill(a, asker, isUser)
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	shown := shownArguments(a)
	kill := func(o *engine.Worker) any { return killThose(o, filter, asker) }
	return w.Siblings.AskAll(s, cmd, kill, func(counts []any) []byte {
		n := engine.SumCounts(counts)
		engine.RecordDeed(s, cmd, shown, fmt.Sprintf("closed %d clients", n))
		switch {
		case !old:
			return resp.AppendInt(nil, int64(n))
		case n == 0:
			return resp.AppendError(nil, "ERR No such client")
		}
		return resp.AppendOK(nil)
	})
}

// shownArguments returns the arguments of a command that has no secrets.
func shownArguments(a command.Args) string {
	var shown []string
	for i := 2; i < min(a.Len(), maxShown); i++ {
		shown = append(shown, resp.Printable(a.Arg(i)[:min(len(a.Arg(i)), maxShownLength)]))
	}
	return strings.Join(shown, " ")
}

// Kill closes the worker's client with this ID as CLIENT KILL does, and returns its line in CLIENT LIST; empty: the
// worker does not have it.
func Kill(w *engine.Worker, id uint64) (line string) {
	for _, s := range w.Sessions {
		if s.ID() == id && !s.Has(engine.Dead) {
			client := describe(s, 0)
			line = string(client.AppendLine(nil))
			s.Kill()
		}
	}
	return line
}

// killThose closes the worker's clients that the filter selects, and returns how many it
// closes.
func killThose(w *engine.Worker, filter *clients.Filter, asker uint64) (n int) {
	for _, s := range w.Sessions {
		if !filter.Selects(identityOf(s)) || s.Has(engine.Dead) {
			continue
		}
		n++
		if s.ID() == asker {
			s.CloseAfter() // it gets its reply first
		} else {
			s.Kill()
		}
	}
	return n
}

// clientReply answers CLIENT REPLY ON|OFF|SKIP.
func clientReply(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	switch how := a.Arg(2); {
	case command.EqualFold(how, "on"):
		s.Clear(engine.Silent | engine.Skipping)
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	case command.EqualFold(how, "off"):
		s.Set(engine.Silent)
	case command.EqualFold(how, "skip"):
		if !s.Has(engine.Silent) {
			s.Set(engine.Skipping)
		}
	default:
		return s.AnswerError(cmd, errtext.Syntax)
	}
	w.Count(s, cmd, false)
	return true
}
