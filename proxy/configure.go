package proxy

import (
	"bytes"
	"math"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// CONFIG SET and CONFIG RESETSTAT, where the configuration allows them, go to all
// masters. keyway itself answers SLOWLOG, LATENCY and INFO, so it applies the change too,
// once every node has answered without an error.

// ownSettings returns a function that applies a CONFIG SET to a worker, or nil if no
// setting of keyway changes.
func ownSettings(a command.Args) func(*Worker) {
	var changes []func(*Worker)
	for i := 2; i+1 < a.Len(); i += 2 {
		n, ok := resp.ParseInt(a.Arg(i + 1))
		if !ok {
			continue
		}
		switch name := a.Arg(i); {
		case command.EqualFold(name, "slowlog-log-slower-than"):
			changes = append(changes, func(w *Worker) { w.slowLog.from = threshold(n, time.Microsecond, n < 0) })
		case command.EqualFold(name, "latency-monitor-threshold"):
			changes = append(changes, func(w *Worker) { w.slowLog.spikeFrom = threshold(n, time.Millisecond, n <= 0) })
		case command.EqualFold(name, "slowlog-max-len"):
			changes = append(changes, func(w *Worker) { w.slowLog.keep(int(min(max(n, 0), math.MaxInt32))) })
		}
	}
	if changes == nil {
		return nil
	}
	return func(w *Worker) {
		for _, change := range changes {
			change(w)
		}
		w.slowLog.look = min(w.slowLog.from, w.slowLog.spikeFrom)
	}
}

// threshold converts a setting to the duration, in nanoseconds, from which a command is
// logged. If never is true, no command is.
func threshold(n int64, unit time.Duration, never bool) int64 {
	if never || n > math.MaxInt64/int64(unit) {
		return math.MaxInt64
	}
	return n * int64(unit)
}

// thenAll settles the request's last call once every node has answered: with the first
// error, or with OK after all workers have applied change.
func (w *Worker) thenAll(r *request, change func(*Worker)) {
	m := r.merge
	last := m.call(r, len(m.parts)-1)
	last.node, last.group = &node{w: w}, -1
	r.sess.inflight++
	m.then = func() {
		for _, p := range m.parts[:len(m.parts)-1] {
			if len(p) > 0 && p[0] == '-' {
				w.settleFor(last, bytes.Clone(p))
				return
			}
		}
		w.askSiblings(func(o *Worker) any {
			change(o)
			return nil
		}, func([]any) { w.settleFor(last, resp.AppendOK(nil)) })
	}
}

// counted holds the counters at the last CONFIG RESETSTAT. INFO and LATENCY HISTOGRAM
// subtract them. The counters of /metrics are never reset.
type counted struct {
	metrics.Counters
	histograms []*metrics.Histogram
}

// resetStats makes INFO and LATENCY HISTOGRAM count from zero.
func (w *Worker) resetStats() {
	w.before = counted{w.stats.Clone(), make([]*metrics.Histogram, len(w.histograms))}
	for id, h := range w.histograms {
		if h != nil {
			before := *h
			w.before.histograms[id] = &before
		}
	}
}

// since returns a command's histogram since the last CONFIG RESETSTAT.
func (w *Worker) since(id int) metrics.Histogram {
	h := w.histograms[id]
	if w.before.histograms == nil || w.before.histograms[id] == nil {
		return *h
	}
	return h.Since(w.before.histograms[id])
}
