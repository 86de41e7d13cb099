package slowlog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Event is the only latency event of keyway: slow commands.
const Event = "command"

// spikes is the number of seconds that a history keeps (latency.h).
const spikes = 160

// spike is the duration of the slowest command of one second. at is the wall clock.
type spike struct{ at, ms int64 }

// History is the latency history of one thread, or of all.
type History struct {
	from    int64   // the shortest duration in the history, in nanoseconds
	seconds []spike // the oldest first
	worst   int64   // the longest duration since the start or LATENCY RESET, in milliseconds
}

// record records a command that took ns nanoseconds.
func (h *History) record(at, ns int64) {
	if ns >= h.from {
		ms := ns / int64(time.Millisecond)
		h.worst = max(h.worst, ms)
		h.add(spike{at, ms})
	}
}

// add adds a spike. The history has at most one for each second.
func (h *History) add(s spike) {
	n := len(h.seconds)
	switch {
	case n > 0 && h.seconds[n-1].at == s.at:
		h.seconds[n-1].ms = max(h.seconds[n-1].ms, s.ms)
		return
	case n >= spikes:
		h.seconds = slices.Delete(h.seconds, 0, 1)
	}
	h.seconds = append(h.seconds, s)
}

// History returns a copy of the log's latency history.
func (l *Log) History() History {
	h := l.history
	h.seconds = slices.Clone(h.seconds)
	return h
}

// ResetHistory empties the latency history. It reports whether it had any spike.
func (l *Log) ResetHistory() bool {
	had := len(l.history.seconds) > 0
	l.history.seconds, l.history.worst = nil, 0
	return had
}

// Merge merges the histories of all threads. There must be at least one.
func Merge(threads []History) History {
	all := History{from: threads[0].from}
	var seconds []spike
	for _, h := range threads {
		seconds = append(seconds, h.seconds...)
		all.worst = max(all.worst, h.worst)
	}
	slices.SortFunc(seconds, func(a, b spike) int { return cmp.Compare(a.at, b.at) })
	for _, s := range seconds {
		all.add(s)
	}
	return all
}

// AppendLatest appends the reply to LATENCY LATEST.
func (h *History) AppendLatest(b []byte) []byte {
	if len(h.seconds) == 0 {
		return resp.AppendArray(b, 0)
	}
	last := h.seconds[len(h.seconds)-1]
	b = resp.AppendArray(resp.AppendArray(b, 1), 4)
	b = resp.AppendBulkString(b, Event)
	b = resp.AppendInt(b, last.at)
	b = resp.AppendInt(b, last.ms)
	return resp.AppendInt(b, h.worst)
}

// AppendSeconds appends the reply to LATENCY HISTORY.
func (h *History) AppendSeconds(b []byte) []byte {
	b = resp.AppendArray(b, len(h.seconds))
	for _, s := range h.seconds {
		b = resp.AppendInt(resp.AppendInt(resp.AppendArray(b, 2), s.at), s.ms)
	}
	return b
}

// Report returns the text of LATENCY DOCTOR.
func (h *History) Report() []byte {
	from := time.Duration(h.from)
	n := len(h.seconds)
	if n == 0 {
		return fmt.Appendf(nil, "No command has taken longer than %s since keyway started, "+
			"or since LATENCY RESET.\n", from)
	}
	var total int64
	for _, s := range h.seconds {
		total += s.ms
	}
	return fmt.Appendf(nil, "%s: in %d seconds commands took longer than %s; "+
		"on average the worst of such a second took %d ms, the worst of all %d ms.\n"+
		"SLOWLOG GET names them; keyway's metrics tell which node they wait for (keyway_node_in_flight).\n",
		Event, n, from, total/int64(n), h.worst)
}

// Graph returns the text of LATENCY GRAPH, with one column for each second that has a
// spike. It returns nil if there is none.
func (h *History) Graph() []byte {
	if len(h.seconds) == 0 {
		return nil
	}
	low := h.seconds[0].ms
	for _, s := range h.seconds {
		low = min(low, s.ms)
	}
	const rows = 4
	last := h.seconds[max(0, len(h.seconds)-80):]
	high := highest(last)
	b := fmt.Appendf(nil, "%s - high %d ms, low %d ms (all time high %d ms)\n%s\n",
		Event, high, low, h.worst, strings.Repeat("-", 80))
	for row := range rows {
		for _, s := range last {
			if s.ms*rows >= high*int64(rows-row) {
				b = append(b, '#')
			} else {
				b = append(b, '_')
			}
		}
		b = append(b, '\n')
	}
	return b
}

func highest(seconds []spike) (ms int64) {
	for _, s := range seconds {
		ms = max(ms, s.ms)
	}
	return ms
}

// LatencyHelp is the text of LATENCY HELP.
var LatencyHelp = []string{
	"DOCTOR", "    Return a human readable latency analysis report of this keyway.",
	"GRAPH <event>", "    Return an ASCII latency graph for the <event> class.",
	"HISTORY <event>", "    Return time-latency samples for the <event> class; keyway's only one is 'command'.",
	"LATEST", "    Return the latest latency samples for all events.",
	"RESET [<event> ...]", "    Reset latency data of one or more <event> classes.",
	"    (default: reset all data for all event classes)",
	"HISTOGRAM [COMMAND ...]", "    Return a cumulative distribution of latencies in the format of a histogram " +
		"for the specified command names.",
}
