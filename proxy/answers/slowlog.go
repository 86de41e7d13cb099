package answers

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slowlog"
)

// ownSettings returns a function that applies a CONFIG SET to a worker, or nil if no
// setting of keyway changes. keyway itself answers SLOWLOG and LATENCY, so it applies the
// change too, once every node has answered without an error.
func ownSettings(a command.Args) func(*engine.Worker) {
	change := slowlog.Settings(a)
	if change == nil {
		return nil
	}
	return func(w *engine.Worker) { change(&w.SlowLog) }
}

// settingNames returns the names of the settings of a CONFIG SET, of whose values some are passwords.
func settingNames(a command.Args) string {
	var names []string
	for i := 2; i < a.Len() && len(names) < maxShown; i += 2 {
		names = append(names, resp.Printable(a.Arg(i)[:min(len(a.Arg(i)), maxShownLength)]))
	}
	return strings.Join(names, " ")
}

// The bounds of what is shown of an operator's command.
const (
	maxShown       = 16 // arguments
	maxShownLength = 64
)

// resetStats returns the change of CONFIG RESETSTAT: INFO and LATENCY HISTOGRAM count from
// zero.
func resetStats(command.Args) func(*engine.Worker) { return func(w *engine.Worker) { w.Stats.Reset() } }

// slowLogGet answers SLOWLOG GET [count].
func slowLogGet(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	count := int64(10)
	if a.Len() > 2 {
		var ok bool
		if count, ok = resp.ParseInt(a.Arg(2)); !ok || count < -1 {
			return s.AnswerError(cmd, "ERR count should be greater than or equal to -1") // slowlog.c
		}
	}
	return askSlowLogs(w, s, cmd, func(all []slowlog.Entry) []byte { return slowlog.AppendEntries(nil, all, count) })
}

// keywaySlowLog answers KEYWAY SLOWLOG [COUNT count]. Not SLOWLOG GET, because some clients fail at an entry
// with more elements than they know.
func keywaySlowLog(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	l, text := slowlog.Listable.Parse(command.Options(a, 2))
	if text != "" {
		return s.AnswerError(cmd, text)
	}
	return askSlowLogs(w, s, cmd, func(all []slowlog.Entry) []byte {
		return slowlog.AppendDetails(nil, s.Protocol(), all, l.Count)
	})
}

// askSlowLogs answers the client with the reply that conclude makes from the entries of all workers.
func askSlowLogs(
	w *engine.Worker, s *engine.Session, cmd *command.Command, conclude func([]slowlog.Entry) []byte,
) bool {
	entries := func(o *engine.Worker) any { return o.SlowLog.Entries() }
	return w.Siblings.AskAll(s, cmd, entries, func(answers []any) []byte {
		var all []slowlog.Entry
		for _, entries := range answers {
			all = append(all, entries.([]slowlog.Entry)...)
		}
		return conclude(all)
	})
}

func slowLogLen(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return w.Siblings.AskAll(s, cmd, func(o *engine.Worker) any { return o.SlowLog.Len() }, func(counts []any) []byte {
		return resp.AppendInt(nil, int64(engine.SumCounts(counts)))
	})
}

func slowLogReset(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) { o.SlowLog.Reset() })
}

// askHistories answers the client with the reply that conclude makes from the latency
// history of all workers.
func askHistories(
	w *engine.Worker, s *engine.Session, cmd *command.Command, conclude func(slowlog.History) []byte,
) bool {
	history := func(o *engine.Worker) any { return o.SlowLog.History() }
	return w.Siblings.AskAll(s, cmd, history, func(answers []any) []byte {
		threads := make([]slowlog.History, len(answers))
		for i, h := range answers {
			threads[i] = h.(slowlog.History)
		}
		return conclude(slowlog.Merge(threads))
	})
}

func latencyLatest(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return askHistories(w, s, cmd, func(h slowlog.History) []byte { return h.AppendLatest(nil) })
}

func latencyHistory(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !command.EqualFold(a.Arg(2), slowlog.Event) {
		return s.Reply(cmd, resp.AppendArray(w.Scratch[:0], 0))
	}
	return askHistories(w, s, cmd, func(h slowlog.History) []byte { return h.AppendSeconds(nil) })
}

// latencyReset answers LATENCY RESET [event ...] with how many events were reset.
func latencyReset(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	meant := a.Len() == 2
	for i := 2; i < a.Len(); i++ {
		meant = meant || command.EqualFold(a.Arg(i), slowlog.Event)
	}
	return w.Siblings.AskAll(s, cmd, func(o *engine.Worker) any {
		if meant && o.SlowLog.ResetHistory() {
			return 1
		}
		return 0
	}, func(counts []any) []byte { return resp.AppendInt(nil, int64(min(engine.SumCounts(counts), 1))) })
}

func latencyDoctor(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return askHistories(w, s, cmd, func(h slowlog.History) []byte {
		return s.Protocol().AppendText(nil, h.Report())
	})
}

// latencyGraph answers LATENCY GRAPH event.
func latencyGraph(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	event := resp.Printable(a.Arg(2))
	return askHistories(w, s, cmd, func(h slowlog.History) []byte {
		graph := h.Graph()
		if graph == nil || event != slowlog.Event {
			return resp.AppendError(nil, "ERR No samples available for event '"+event+"'") // latency.c
		}
		return s.Protocol().AppendText(nil, graph)
	})
}

// latencyHistogram answers LATENCY HISTOGRAM [command ...].
func latencyHistogram(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	wanted := slowlog.Wanted(a)
	recent := func(o *engine.Worker) any { return o.Stats.Recent(wanted) }
	return w.Siblings.AskAll(s, cmd, recent, func(answers []any) []byte {
		threads := make([]map[int]metrics.Histogram, len(answers))
		for i, h := range answers {
			threads[i] = h.(map[int]metrics.Histogram)
		}
		return slowlog.AppendHistograms(nil, s.Protocol(), threads)
	})
}

func slowLogHelp(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return help(w, s, cmd, "SLOWLOG", slowlog.Help...)
}

func latencyHelp(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return help(w, s, cmd, "LATENCY", slowlog.LatencyHelp...)
}

// help answers a HELP subcommand.
func help(w *engine.Worker, s *engine.Session, cmd *command.Command, name string, lines ...string) bool {
	return s.Reply(cmd, resp.AppendHelp(w.Scratch[:0], name, lines...))
}
