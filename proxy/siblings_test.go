package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/slowlog"
)

// TestAllWorkersBeforeOK: what concerns every worker is answered when all have done
// it. A client of another one that speaks after the OK must find it done.
func TestAllWorkersBeforeOK(t *testing.T) {
	for _, test := range []struct {
		command string
		done    func(sibling *Worker) bool
	}{
		{"MONITOR", func(w *Worker) bool { return w.observer != nil }},
		{"CLIENT PAUSE 1000", func(w *Worker) bool { return w.gate != nil }},
		{"CLIENT UNPAUSE", func(w *Worker) bool { return w.gate == nil }},
		{"SLOWLOG RESET", func(w *Worker) bool { return w.slowLog.Len() == 0 }},
	} {
		r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2})
		if !strings.Contains(test.command, " PAUSE") {
			featureOf[*pauses](sibling.w).begin(1e9, true)
		}
		sibling.w.slowLog.Record(slowlog.Slow{
			Command: command.Lookup([]byte("get")), Frame: []byte(cmd("GET", "a")), Took: int64(time.Second),
		})
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

// TestSiblingsCountSubscribers: who is told that it listens, or listens no more, is
// counted so by every worker's PUBLISH from then on.
func TestSiblingsCountSubscribers(t *testing.T) {
	r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2, Index: 1})
	r.feed("SUBSCRIBE news\r\n")
	confirmed := "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
	for _, n := range r.w.nodes {
		greet(r, n.feed)
		n.feed.Received([]byte(confirmed), r.now)
	}
	says := func(step, want string, clients int) {
		t.Helper()
		if got := r.got(); got != "" {
			t.Errorf("%s: %q before the other worker knows", step, got)
		}
		r.asked(sibling)
		if got := r.got(); got != want {
			t.Errorf("%s: %q", step, got)
		}
		if n := featureOf[*hub](sibling.w).clients(byChannel, "news"); n != clients {
			t.Errorf("%s: the other worker counts %d clients", step, n)
		}
	}
	says("the first", confirmed, 1)
	r.s = r.w.Open(nil, "peer:2", "keyway:1")
	r.feed("SUBSCRIBE news\r\n")
	says("the second", confirmed, 2)
	r.feed("UNSUBSCRIBE news\r\n")
	says("one that leaves", "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n", 1)
}
