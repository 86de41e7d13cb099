package answers

import (
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// denials is the part of ACL LOG that one worker keeps.
type denials struct {
	engine.Inactive
	w   *engine.Worker
	log acl.Log
}

func newDenials(w *engine.Worker) *denials {
	d := &denials{w: w}
	w.Denials = d
	return d
}

// Denied adds to the log what a client was denied.
func (d *denials) Denied(s *engine.Session, why acl.Denial, object, user string) {
	client := describe(s, 0)
	d.log.Add(acl.Entry{
		Count: 1, Why: why, InMulti: s.Has(engine.InMulti), Object: object, User: user,
		Client: strings.TrimSuffix(string(client.AppendLine(nil)), "\n"), At: d.w.Wall,
	})
}

// whoAmI answers ACL WHOAMI.
func whoAmI(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendBulkString(w.Scratch[:0], s.User.Name))
}

// userNames answers ACL USERS.
func userNames(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, appendTexts(nil, w.Options.Users.Names()))
}

// userList answers ACL LIST.
func userList(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	var lines []string
	for _, name := range w.Options.Users.Names() {
		lines = append(lines, w.Options.Users.Named(name).Line())
	}
	return s.Reply(cmd, appendTexts(nil, lines))
}

func appendTexts(b []byte, texts []string) []byte {
	b = resp.AppendArray(b, len(texts))
	for _, text := range texts {
		b = resp.AppendBulkString(b, text)
	}
	return b
}

// userGet answers ACL GETUSER.
func userGet(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	u, v := w.Options.Users.Get(a.Arg(2)), s.Protocol()
	if u == nil {
		return s.Reply(cmd, v.AppendNull(w.Scratch[:0]))
	}
	d := u.Describe()
	b := resp.AppendBulkString(v.AppendMap(nil, 6), "flags")
	b = v.AppendSet(b, len(d.Flags))
	for _, flag := range d.Flags {
		b = resp.AppendBulkString(b, flag)
	}
	b = appendTexts(resp.AppendBulkString(b, "passwords"), d.Passwords)
	b = appendPermissions(b, d.Root)
	b = resp.AppendArray(resp.AppendBulkString(b, "selectors"), len(d.Selectors))
	for _, p := range d.Selectors {
		b = appendPermissions(v.AppendMap(b, 3), p)
	}
	return s.Reply(cmd, b)
}

func appendPermissions(b []byte, p acl.Permissions) []byte {
	b = resp.AppendBulkString(resp.AppendBulkString(b, "commands"), p.Commands)
	b = resp.AppendBulkString(resp.AppendBulkString(b, "keys"), p.Keys)
	return resp.AppendBulkString(resp.AppendBulkString(b, "channels"), p.Channels)
}

// userDryRun answers ACL DRYRUN user command [argument ...].
func userDryRun(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	u := w.Options.Users.Get(a.Arg(2))
	if u == nil {
		return s.AnswerError(cmd, "ERR User '"+resp.Printable(a.Arg(2))+"' not found")
	}
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	frame := resp.AppendCommand(nil, arguments(a, 3)...)
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return s.AnswerError(cmd, errtext.Syntax)
	}
	tried := w.Learned.CommandOf(p)
	isContainer := tried != nil && len(tried.Subs) > 0 && p.Len() > 1 && !tried.Has(command.Module)
	switch {
	case tried == nil || isContainer:
		return s.AnswerError(cmd, "ERR Command '"+resp.Printable(p.Arg(0))+"' not found")
	case !tried.ArityOK(p.Len()):
		return s.AnswerError(cmd, errtext.Arity(tried))
	}
	const text = "This user has no permissions to "
	switch v := u.Check(tried, p, &w.Checks); v.Why {
	case acl.DeniedCommand:
		return s.Reply(cmd, resp.AppendBulkString(nil, text+"run the '"+tried.Name+"' command"))
	case acl.DeniedKey:
		return s.Reply(cmd, resp.AppendBulkString(nil, text+"access the '"+string(p.Arg(v.At))+"' key"))
	case acl.DeniedChannel:
		return s.Reply(cmd, resp.AppendBulkString(nil, text+"access the '"+string(p.Arg(v.At))+"' channel"))
	}
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

// userLog answers ACL LOG [count | RESET] with the denials of all workers.
func userLog(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	count := int64(10)
	switch {
	case a.Len() > 3:
		return s.AnswerError(cmd, errtext.SubSyntax("ACL", a.Arg(1)))
	case a.Len() == 3 && command.EqualFold(a.Arg(2), "reset"):
		return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) { engine.FeatureOf[*denials](o).log.Reset() })
	case a.Len() == 3:
		var ok bool
		if count, ok = resp.ParseInt(a.Arg(2)); !ok {
			return s.AnswerError(cmd, errtext.NotInteger)
		}
	}
	entriesOf := func(o *engine.Worker) any { return engine.FeatureOf[*denials](o).log.Entries() }
	return w.Siblings.AskAll(s, cmd, entriesOf, func(answers []any) []byte {
		var all []acl.Entry
		for _, of := range answers {
			all = append(all, of.([]acl.Entry)...)
		}
		all = acl.Merge(all)
		all = all[:max(0, min(int64(len(all)), count))]
		b := resp.AppendArray(nil, len(all))
		for i := range all {
			b = appendDenial(b, s.Protocol(), &all[i], w.Wall.Sub(all[i].At).Seconds())
		}
		return b
	})
}

func appendDenial(b []byte, v resp.Version, e *acl.Entry, age float64) []byte {
	b = resp.AppendBulkString(v.AppendMap(b, 7), "count")
	b = resp.AppendInt(b, int64(e.Count))
	for _, field := range [][2]string{
		{"reason", e.Reason()}, {"context", e.Context()}, {"object", e.Object}, {"username", e.User},
	} {
		b = resp.AppendBulkString(resp.AppendBulkString(b, field[0]), field[1])
	}
	b = v.AppendDouble(resp.AppendBulkString(b, "age-seconds"), strconv.FormatFloat(age, 'f', 3, 64))
	return resp.AppendBulkString(resp.AppendBulkString(b, "client-info"), e.Client)
}

// userCategories answers ACL CAT [category]. It leaves out commands that the nodes are too old
// for.
func userCategories(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	switch {
	case a.Len() > 3:
		return s.AnswerError(cmd, errtext.SubSyntax("ACL", a.Arg(1)))
	case a.Len() == 2:
		return s.Reply(cmd, appendTexts(nil, command.CategoryNames))
	}
	at := slices.Index(command.CategoryNames, strings.ToLower(string(a.Arg(2))))
	if at < 0 {
		return s.AnswerError(cmd, "ERR Unknown category '"+resp.Printable(a.Arg(2))+"'")
	}
	var names []string
	for _, c := range command.ByID {
		if c.Categories&(1<<at) != 0 && !w.Server.Lacks(c) {
			names = append(names, c.Name)
		}
	}
	return s.Reply(cmd, appendTexts(nil, names))
}
