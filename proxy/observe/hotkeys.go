package observe

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// HOTKEYS of Redis 8.6: each thread has a session of its own, which begins and ends with those of the others.

func trackerOf(w *engine.Worker) *hotkeys.Tracker { return engine.FeatureOf[*traffic](w).hot }

// hotKeysStart answers HOTKEYS START.
func hotKeysStart(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if trackerOf(w).IsActive(w.Now) {
		return s.AnswerError(cmd, hotkeys.ErrActive)
	}
	of, text := hotkeys.ParseTerms(command.Options(a, 2), w.Options.Cluster != nil)
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	wall := w.Wall
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) { trackerOf(o).Start(of, o.Now, wall) })
}

// hotKeysStop answers HOTKEYS STOP.
func hotKeysStop(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	if !trackerOf(w).IsActive(w.Now) {
		return s.Reply(cmd, s.Protocol().AppendNull(w.Scratch[:0]))
	}
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) { trackerOf(o).Stop(o.Now) })
}

// hotKeysReset answers HOTKEYS RESET.
func hotKeysReset(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	if trackerOf(w).IsActive(w.Now) {
		return s.AnswerError(cmd, hotkeys.ErrStopFirst)
	}
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) { trackerOf(o).Reset() })
}

// hotKeysGet answers HOTKEYS GET.
func hotKeysGet(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	collected := func(o *engine.Worker) any { return trackerOf(o).Collected(o.Now) }
	return w.Siblings.AskAll(s, cmd, collected, func(answers []any) []byte {
		threads := make([]*hotkeys.Collected, len(answers))
		for i, of := range answers {
			threads[i] = of.(*hotkeys.Collected)
		}
		return hotkeys.AppendSession(nil, s.Protocol(), threads)
	})
}

func hotKeysHelp(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendHelp(w.Scratch[:0], "HOTKEYS", hotkeys.Help...))
}
