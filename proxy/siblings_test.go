package proxy

import (
	"strings"
	"testing"
)

// TestAllWorkersBeforeOK: what concerns every worker is answered when all have done
// it. A client of another one that speaks after the OK must find it done.
func TestAllWorkersBeforeOK(t *testing.T) {
	for _, test := range []struct {
		command string
		done    func(sibling *Worker) bool
	}{
		{"MONITOR", func(w *Worker) bool { return !w.monitors.none() }},
		{"CLIENT PAUSE 1000", func(w *Worker) bool { return w.pause.until > w.now }},
		{"CLIENT UNPAUSE", func(w *Worker) bool { return w.pause.until == 0 }},
		{"SLOWLOG RESET", func(w *Worker) bool { return len(w.slowLog.entries) == 0 }},
	} {
		r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2})
		if !strings.Contains(test.command, " PAUSE") {
			sibling.w.pause.until = r.now + 1e9
		}
		sibling.w.slowLog.entries = make([]slowCommand, 1)
		r.feed(test.command + "\r\n")
		if got := r.got(); got != "" {
			t.Errorf("%s: %q before the other worker has done anything", test.command, got)
		}
		r.asked(sibling)
		if got := r.got(); got != "+OK\r\n" || !test.done(sibling.w) {
			t.Errorf("%s: %q, done by the other worker: %t", test.command, got, test.done(sibling.w))
		}
	}
}
