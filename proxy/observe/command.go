package observe

import (
	"bytes"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// ownHelp describes what the threads answer of KEYWAY, in the form of Redis's HELP subcommands.
var ownHelp = []string{
	"LOCKS [COUNT <count>] [MATCH <pattern>]",
	"    Return the locks that clients hold or wait for, those with waiters first.",
	"    Default count: 100. keyway knows only of the commands that it has carried itself.",
	"SLOWLOG [COUNT <count>]",
	"    Return the slow log, the latest first, with the node of each command, and how long it waited in keyway and",
	"    for the node. Default count: 10.",
	"HOTKEYS [COUNT <count>] [BY reads|writes|bytes|commands]",
	"    Return the keys that clients of this keyway have used most in the last seconds, and who uses them.",
	"    Default count: 10.",
	"BIGKEYS [COUNT <count>]",
	"    Return the keys whose values or replies had bigkeys.over bytes or more, the largest first.",
	"    Default count: 100.",
	"USERS",
	"    Return the users with limits, and what their clients use and wait for.",
}

func help(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendHelp(w.Scratch[:0], "KEYWAY", slices.Concat(command.ConsoleHelp, ownHelp)...))
}

// askConsole answers what is about more than a worker knows, such as KEYWAY STATUS.
func askConsole(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if w.Options.Ask == nil {
		return s.AnswerError(cmd, "ERR keyway: this keyway does not answer "+cmd.Upper())
	}
	q := options.Question{
		Protocol: s.Protocol(), User: s.User.Name, Addr: s.Peer(), IsOpen: s.User.NoPass(),
	}
	for i := 1; i < a.Len(); i++ {
		q.Args = append(q.Args, bytes.Clone(a.Arg(i)))
	}
	r := s.NewRequest(cmd)
	r.Call.Node, r.Call.Group = engine.NoNode(w), -1
	s.Inflight++
	w.Options.Ask(q, r.Call.SettleFor)
	return true
}

const (
	defaultCount   = 100
	defaultHotKeys = 10
	syntaxError    = "ERR syntax error"
	notObserved    = "ERR keyway: locks are not observed; set locks.observe to true in the configuration"
)

// listLocks answers KEYWAY LOCKS.
func listLocks(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !w.Options.WatchLocks.Observe {
		return s.AnswerError(cmd, notObserved)
	}
	q := locks.Query{Count: defaultCount}
	for i := 2; i < a.Len(); i += 2 {
		switch {
		case i+1 == a.Len():
			return s.AnswerError(cmd, syntaxError)
		case command.EqualFold(a.Arg(i), "count"):
			count, text := countOf(a.Arg(i+1), locks.MaxLocks)
			if text != "" {
				return s.AnswerError(cmd, text)
			}
			q.Count = count
		case command.EqualFold(a.Arg(i), "match"):
			q.Match = append([]byte{}, a.Arg(i+1)...)
		default:
			return s.AnswerError(cmd, syntaxError)
		}
	}
	part := func(o *engine.Worker) any { return LocksOf(o, q) }
	return w.Siblings.AskAll(s, cmd, part, func(answers []any) []byte {
		parts := make([]locks.Part, len(answers))
		for i, part := range answers {
			parts[i] = part.(locks.Part)
		}
		return locks.AppendRows(nil, s.Protocol(), locks.Join(parts, q.Count))
	})
}

// LocksOf returns what one thread knows of the locks, for [locks.Join]. That is nothing if locks
// are not observed.
func LocksOf(w *engine.Worker, q locks.Query) (part locks.Part) {
	o := engine.FeatureOf[*observer](w)
	if o.table == nil {
		return part
	}
	if w.Counter != nil {
		q.Subscribers, q.PatternSubscribers = w.Counter.Subscribers, w.Counter.PatternSubscribers
	}
	part.Rows = o.table.Rows(o.Now(), q)
	if w.Blocked != nil {
		w.Blocked.EachKey(func(key []byte) {
			if part.Blocked == nil {
				part.Blocked = map[string]int{}
			}
			part.Blocked[string(key)]++
		})
	}
	return part
}

// Figures returns the counts of one thread by pattern, or none if locks are not observed.
func Figures(w *engine.Worker) []locks.PatternFigures {
	if o := engine.FeatureOf[*observer](w); o.table != nil {
		return o.table.Figures()
	}
	return nil
}
