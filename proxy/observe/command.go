package observe

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

func help(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendHelp(w.Scratch[:0], "KEYWAY", command.KeywayHelp...))
}

// askConsole answers what is about more than a worker knows, such as KEYWAY STATUS.
func askConsole(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if w.Options.Ask == nil {
		return s.AnswerError(cmd, "ERR keyway: this keyway does not answer "+cmd.Upper())
	}
	q := options.Question{
		Args: command.Options(a, 1), Protocol: s.Protocol(), User: s.User.Name, Addr: s.Peer(),
		IsOpen: s.User.NoPass(),
	}
	r := s.NewRequest(cmd)
	r.Call.Node, r.Call.Group = engine.NoNode(w), -1
	s.Inflight++
	w.Options.Ask(q, r.Call.SettleFor)
	return true
}

// listLocks answers KEYWAY LOCKS.
func listLocks(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !w.Options.WatchLocks.Observe {
		return s.AnswerError(cmd, "ERR keyway: "+locks.ErrNotObserved.Error())
	}
	l, text := locks.Listable.Parse(command.Options(a, 2))
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	q := locks.Query{Match: l.Match, Count: l.Count}
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
