package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// SLOWLOG and LATENCY measure how long clients of keyway wait: from reading a command until
// its reply is complete. This includes the node and the network.

const (
	slowArgs  = 32  // arguments of a command that an entry keeps, at most (slowlog.h)
	slowBytes = 128 // bytes of each argument
	adminArgs = 2   // arguments of an admin command, such as CONFIG SET: later ones may be passwords
	spikes    = 160 // entries of the latency history, one for each second (latency.h)
)

// slowCommand is an entry of the slow log.
type slowCommand struct {
	id         uint64
	at, micros int64 // wall clock in seconds; duration in microseconds
	args       [][]byte
	peer, name string
}

// spike is the duration of the slowest command of one second. at is the wall clock.
type spike struct{ at, ms int64 }

// slowLog is a worker's slow log and its latency history.
type slowLog struct {
	// from is the shortest duration that is logged, in nanoseconds; spikeFrom is the
	// shortest one in the history.
	from, spikeFrom int64
	look            int64 // the smaller of the two
	max             int   // number of entries

	entries []slowCommand // the oldest first
	next    uint64        // number of the next entry
	history []spike       // the oldest first
	worst   int64         // the longest duration since the start or LATENCY RESET, in milliseconds
}

// keep sets the largest number of entries, and removes the oldest ones above it.
func (l *slowLog) keep(most int) {
	l.max = most
	if over := len(l.entries) - most; over > 0 {
		l.entries = slices.Delete(l.entries, 0, over)
	}
}

// slow records a slow command in the slow log and in the latency history. frame is what was
// sent to the node, or to one of the nodes.
func (w *Worker) slow(r *request, frame []byte) {
	if r.cmd.Has(command.Blocking) {
		return // its duration is intended
	}
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return
	}
	l := &w.slowLog
	took := w.now - r.start
	if took >= l.spikeFrom {
		ms := took / int64(time.Millisecond)
		l.worst = max(l.worst, ms)
		l.history = addSpike(l.history, spike{w.wall.Unix(), ms})
	}
	if took < l.from {
		return
	}
	e := slowCommand{
		id: l.next*uint64(w.o.Workers) + uint64(w.o.Index),
		at: w.wall.Unix(), micros: (w.now - r.start) / int64(time.Microsecond),
		peer: r.sess.peer, name: r.sess.about.name,
	}
	l.next++
	for i := range min(p.Len(), slowArgs) {
		arg := p.Arg(i)
		switch {
		case i >= adminArgs && r.cmd.Has(command.Admin):
			arg = redacted
		case i == slowArgs-1 && p.Len() > slowArgs:
			arg = fmt.Appendf(nil, "... (%d more arguments)", p.Len()-slowArgs+1)
		case len(arg) > slowBytes:
			arg = fmt.Appendf(bytes.Clone(arg[:slowBytes]), "... (%d more bytes)", len(arg)-slowBytes)
		}
		e.args = append(e.args, bytes.Clone(arg))
	}
	l.entries = append(l.entries, e)
	l.keep(l.max)
}

// addSpike appends a spike to a history, which has at most one entry for each second.
func addSpike(h []spike, s spike) []spike {
	if n := len(h); n > 0 && h[n-1].at == s.at {
		h[n-1].ms = max(h[n-1].ms, s.ms)
		return h
	}
	if len(h) >= spikes {
		h = slices.Delete(h, 0, 1)
	}
	return append(h, s)
}

// slowLogGet answers SLOWLOG GET [count], the latest first.
func slowLogGet(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	count := int64(10)
	if a.Len() > 2 {
		var ok bool
		if count, ok = resp.ParseInt(a.Arg(2)); !ok || count < -1 {
			return w.answerError(s, cmd, "ERR count should be greater than or equal to -1") // slowlog.c
		}
	}
	return w.askAll(s, cmd, func(o *Worker) any {
		return slices.Clone(o.slowLog.entries)
	}, func(answers []any) (b []byte) {
		var all []slowCommand
		for _, entries := range answers {
			all = append(all, entries.([]slowCommand)...)
		}
		slices.SortFunc(all, func(a, b slowCommand) int {
			return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.id, a.id))
		})
		if count >= 0 {
			all = all[:min(int64(len(all)), count)]
		}
		b = resp.AppendArray(b, len(all))
		for _, e := range all {
			b = resp.AppendArray(b, 6)
			b = resp.AppendInt(b, int64(e.id))
			b = resp.AppendInt(b, e.at)
			b = resp.AppendInt(b, e.micros)
			b = resp.AppendArray(b, len(e.args))
			for _, arg := range e.args {
				b = resp.AppendBulk(b, arg)
			}
			b = resp.AppendBulkString(b, e.peer)
			b = resp.AppendBulkString(b, e.name)
		}
		return b
	})
}

func slowLogLen(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.askAll(s, cmd, func(o *Worker) any { return len(o.slowLog.entries) }, func(counts []any) []byte {
		return resp.AppendInt(nil, int64(sum(counts)))
	})
}

func slowLogReset(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.haveAll(s, cmd, func(o *Worker) { o.slowLog.entries = nil })
}

// latencyEvent is the only latency event of keyway: slow commands.
const latencyEvent = "command"

// latencies are the latency histories of all workers, merged.
type latencies struct {
	history []spike
	worst   int64
}

// askLatencies answers the client with the reply that conclude makes from the latencies.
func (w *Worker) askLatencies(s *Session, cmd *command.Command, conclude func(latencies) []byte) bool {
	return w.askAll(s, cmd, func(o *Worker) any {
		return latencies{slices.Clone(o.slowLog.history), o.slowLog.worst}
	}, func(answers []any) []byte {
		var seconds []spike
		var all latencies
		for _, x := range answers {
			one := x.(latencies)
			seconds = append(seconds, one.history...)
			all.worst = max(all.worst, one.worst)
		}
		slices.SortFunc(seconds, func(a, b spike) int { return cmp.Compare(a.at, b.at) })
		for _, second := range seconds {
			all.history = addSpike(all.history, second)
		}
		return conclude(all)
	})
}

func latencyLatest(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.askLatencies(s, cmd, func(l latencies) []byte {
		if len(l.history) == 0 {
			return resp.AppendArray(nil, 0)
		}
		last := l.history[len(l.history)-1]
		b := resp.AppendArray(resp.AppendArray(nil, 1), 4)
		b = resp.AppendBulkString(b, latencyEvent)
		b = resp.AppendInt(b, last.at)
		b = resp.AppendInt(b, last.ms)
		return resp.AppendInt(b, l.worst)
	})
}

func latencyHistory(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !command.EqualFold(a.Arg(2), latencyEvent) {
		return w.reply(s, cmd, resp.AppendArray(w.scratch[:0], 0))
	}
	return w.askLatencies(s, cmd, func(l latencies) []byte {
		b := resp.AppendArray(nil, len(l.history))
		for _, second := range l.history {
			b = resp.AppendInt(resp.AppendInt(resp.AppendArray(b, 2), second.at), second.ms)
		}
		return b
	})
}

// latencyReset answers LATENCY RESET [event ...] with how many events were reset.
func latencyReset(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	meant := a.Len() == 2
	for i := 2; i < a.Len(); i++ {
		meant = meant || command.EqualFold(a.Arg(i), latencyEvent)
	}
	return w.askAll(s, cmd, func(o *Worker) any {
		n := min(len(o.slowLog.history), 1)
		if !meant {
			return 0
		}
		o.slowLog.history, o.slowLog.worst = nil, 0
		return n
	}, func(counts []any) []byte { return resp.AppendInt(nil, int64(min(sum(counts), 1))) })
}

func latencyDoctor(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.askLatencies(s, cmd, func(l latencies) []byte {
		from := time.Duration(w.slowLog.spikeFrom)
		text := fmt.Sprintf("No command has taken longer than %s since keyway started, or since LATENCY RESET.\n", from)
		if n := len(l.history); n > 0 {
			var total int64
			for _, second := range l.history {
				total += second.ms
			}
			text = fmt.Sprintf("%s: in %d seconds commands took longer than %s; "+
				"on average the worst of such a second took %d ms, the worst of all %d ms.\n"+
				"SLOWLOG GET names them; keyway's metrics tell which node they wait for (keyway_node_in_flight).\n",
				latencyEvent, n, from, total/int64(n), l.worst)
		}
		return s.protocol().AppendText(nil, []byte(text))
	})
}

// latencyGraph answers LATENCY GRAPH event: it draws the history with one column for each
// second that has a spike.
func latencyGraph(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	event := clean(a.Arg(2))
	return w.askLatencies(s, cmd, func(l latencies) []byte {
		if len(l.history) == 0 || event != latencyEvent {
			return resp.AppendError(nil, "ERR No samples available for event '"+event+"'") // latency.c
		}
		low := l.history[0].ms
		for _, second := range l.history {
			low = min(low, second.ms)
		}
		const rows = 4
		last := l.history[max(0, len(l.history)-80):]
		var b strings.Builder
		fmt.Fprintf(&b, "%s - high %d ms, low %d ms (all time high %d ms)\n%s\n",
			latencyEvent, highest(last), low, l.worst, strings.Repeat("-", 80))
		for row := range rows {
			for _, second := range last {
				if second.ms*rows >= highest(last)*int64(rows-row) {
					b.WriteByte('#')
				} else {
					b.WriteByte('_')
				}
			}
			b.WriteByte('\n')
		}
		return s.protocol().AppendText(nil, []byte(b.String()))
	})
}

func highest(h []spike) (ms int64) {
	for _, second := range h {
		ms = max(ms, second.ms)
	}
	return ms
}

// latencyHistogram answers LATENCY HISTOGRAM [command ...]: for each command, the number of
// calls and a cumulative histogram of their durations in microseconds.
func latencyHistogram(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	var wanted []int
	for i := 2; i < a.Len(); i++ {
		container, sub, isSub := strings.Cut(string(a.Arg(i)), "|")
		c := command.Lookup([]byte(container))
		if c != nil && isSub {
			c = c.Sub([]byte(sub))
		}
		if c != nil && !slices.Contains(wanted, c.ID) {
			wanted = append(wanted, c.ID)
			for k := range c.Subs {
				wanted = append(wanted, c.Subs[k].ID)
			}
		}
	}
	named := a.Len() > 2
	return w.askAll(s, cmd, func(o *Worker) any {
		copies := map[int]metrics.Histogram{}
		for id, h := range o.histograms {
			if h != nil && id != command.LearnedID && (!named || slices.Contains(wanted, id)) {
				if h := o.since(id); h.Count > 0 {
					copies[id] = h
				}
			}
		}
		return copies
	}, func(answers []any) []byte {
		all := map[int]metrics.Histogram{}
		for _, copies := range answers {
			for id, h := range copies.(map[int]metrics.Histogram) {
				total := all[id]
				total.Add(&h)
				all[id] = total
			}
		}
		b := s.protocol().AppendMap(nil, len(all))
		for id, c := range command.ByID {
			h, ok := all[id]
			if !ok {
				continue
			}
			b = resp.AppendBulkString(b, c.Name)
			b = s.protocol().AppendMap(b, 2)
			b = resp.AppendBulkString(b, "calls")
			b = resp.AppendInt(b, int64(h.Count))
			b = resp.AppendBulkString(b, "histogram_usec")
			b = s.appendCumulative(b, &h)
		}
		return b
	})
}

// appendCumulative appends a cumulative histogram: for each non-empty bucket, its upper bound,
// a power of two, and the number of commands below it.
func (s *Session) appendCumulative(b []byte, h *metrics.Histogram) []byte {
	n := 0
	for _, count := range h.Buckets {
		if count > 0 {
			n++
		}
	}
	b = s.protocol().AppendMap(b, n)
	total := uint64(0)
	for i, count := range h.Buckets {
		if total += count; count > 0 {
			b = resp.AppendInt(resp.AppendInt(b, 1<<i), int64(total))
		}
	}
	return b
}

func slowLogHelp(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.help(s, cmd, "SLOWLOG",
		"GET [<count>]", "    Return top <count> entries from the slowlog of this keyway (default: 10, -1 mean all).",
		"    Entries are made of:",
		"    id, timestamp, time in microseconds, arguments array, client IP and port,", "    client name",
		"LEN", "    Return the length of the slowlog.", "RESET", "    Reset the slowlog.")
}

func latencyHelp(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.help(s, cmd, "LATENCY",
		"DOCTOR", "    Return a human readable latency analysis report of this keyway.",
		"GRAPH <event>", "    Return an ASCII latency graph for the <event> class.",
		"HISTORY <event>", "    Return time-latency samples for the <event> class; keyway's only one is 'command'.",
		"LATEST", "    Return the latest latency samples for all events.",
		"RESET [<event> ...]", "    Reset latency data of one or more <event> classes.",
		"    (default: reset all data for all event classes)",
		"HISTOGRAM [COMMAND ...]", "    Return a cumulative distribution of latencies in the format of a histogram "+
			"for the specified command names.")
}

// help answers a HELP subcommand.
func (w *Worker) help(s *Session, cmd *command.Command, name string, lines ...string) bool {
	return w.reply(s, cmd, resp.AppendHelp(w.scratch[:0], name, lines...))
}
