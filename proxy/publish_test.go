package proxy

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
)

// publisher is a worker whose client publishes, while clients of it and of another
// worker listen to so many patterns.
func publisher(t testing.TB, patterns int) (r *rig, publish func()) {
	r = newRig(t, Options{Workers: 2})
	sibling := newRig(t, Options{Workers: 2, Index: 1})
	listen := []string{"PSUBSCRIBE"}
	for i := range patterns {
		if name := fmt.Sprintf("channel:%d:*", i); i%2 == 0 {
			listen = append(listen, name)
		} else {
			other := r.w.Open(nil, "peer:2", "keyway:1")
			r.w.Received(other, []byte("PSUBSCRIBE "+name+"\r\n"))
		}
	}
	for _, client := range []*Session{sibling.s, sibling.w.Open(nil, "peer:2", "keyway:1")} {
		sibling.w.Received(client, []byte(cmd(listen...)))
		sibling.confirm()
	}
	sibling.asked(r)
	r.feed(cmd("PUBLISH", "channel:0:x", "x"))
	r.sent(0)
	r.sent(1)
	r.node(0, ":1\r\n")
	r.node(1, ":1\r\n")
	if got := r.got(); got != ":2\r\n" {
		t.Fatalf("%q of another worker's two clients are counted", got)
	}
	r.w.Taken()
	in := []byte(cmd("PUBLISH", onA, "x"))
	return r, func() {
		r.turn(in, func() { r.node(0, ":0\r\n") })
	}
}

// TestPublishTakesNoMemoryForPatterns: what a message's receivers are counted by does not
// depend on how many patterns others listen to.
func TestPublishTakesNoMemoryForPatterns(t *testing.T) {
	_, publish := publisher(t, 2)
	few := testing.AllocsPerRun(100, publish)
	_, publish = publisher(t, 10_000)
	if many := testing.AllocsPerRun(100, publish); many > few {
		t.Errorf("%.0f allocations with 10,000 patterns, %.0f with 2", many, few)
	}
}

// does has a client do something, which the nodes confirm and the other worker hears of.
func (r *rig) does(other *rig, client *Session, command ...string) {
	r.w.Received(client, []byte(cmd(command...)))
	r.confirm()
	r.asked(other)
	outputOf(client)
}

// TestPatternsOfAllWorkers: a pattern counts while clients of any worker listen to it.
func TestPatternsOfAllWorkers(t *testing.T) {
	r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2, Index: 1})
	own, others := r.s, []*Session{sibling.s, sibling.w.Open(nil, "peer:2", "keyway:1")}
	r.s = r.w.Open(nil, "peer:2", "keyway:1")
	const channel = "n" + onA
	says := func(step string, node, want int) {
		t.Helper()
		r.feed(cmd("PUBLISH", channel, "x"))
		for i := range 2 {
			if r.sent(i) != "" {
				r.node(i, fmt.Sprintf(":%d\r\n", node))
			}
		}
		if got := r.got(); got != fmt.Sprintf(":%d\r\n", want) {
			t.Errorf("%s: the node counts %d workers, PUBLISH says %q, want %d", step, node, got, want)
		}
	}
	r.does(sibling, own, "SUBSCRIBE", "n*")
	r.does(sibling, own, "PSUBSCRIBE", "n*", "m*")
	says("a client listens", 1, 1)
	for _, other := range others {
		sibling.does(r, other, "SUBSCRIBE", "n*")
		sibling.does(r, other, "PSUBSCRIBE", "n*")
	}
	says("two of another worker do too", 2, 3)
	r.does(sibling, own, "PUNSUBSCRIBE")
	says("the first listens no more", 1, 2)
	sibling.does(r, others[0], "PUNSUBSCRIBE")
	says("nor does one of the others", 1, 1)
	sibling.does(r, others[1], "PUNSUBSCRIBE")
	says("nor does anybody", 0, 0)
}

// TestPatternsThatMatch: PUBLISH counts the subscribers of each pattern that matches the channel, whatever the
// pattern begins with, and of no other.
func TestPatternsThatMatch(t *testing.T) {
	r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2, Index: 1})
	long := strings.Repeat("long", 10)
	patterns := []string{
		"*", "a", "a*", "ab*", "ab", "abc*", "?b*", "[ab]*", `\ab*`, `ab\c`, "a*c", "b*", "*c", "a?c", "a[b]c",
		long, long + "*", long[:31] + "*", long[:32] + "*", long[:33] + "*", long[:33] + "?" + long[34:], long + "x*",
	}
	// The node counts the two clients as one.
	clients := []*Session{sibling.s, sibling.w.Open(nil, "peer:2", "keyway:1")}
	counts := func(step string, patterns []string) {
		t.Helper()
		for _, channel := range []string{"", "a", "ab", "abc", "b", "bc", "x", long, long[:33], long + "x", long[1:]} {
			match := 0
			for _, p := range patterns {
				if command.Glob([]byte(p), []byte(channel)) {
					match++
				}
			}
			r.feed(cmd("PUBLISH", channel, "x"))
			for i := range 2 {
				if r.sent(i) != "" {
					r.node(i, fmt.Sprintf(":%d\r\n", match))
				}
			}
			if got := r.got(); got != fmt.Sprintf(":%d\r\n", 2*match) {
				t.Errorf("%s: PUBLISH %q says %q, and %d patterns match", step, channel, got, match)
			}
		}
	}
	for _, client := range clients {
		sibling.does(r, client, append([]string{"PSUBSCRIBE"}, patterns...)...)
	}
	counts("subscribed", patterns)
	for _, client := range clients {
		sibling.does(r, client, append([]string{"PUNSUBSCRIBE"}, patterns[:15]...)...)
	}
	counts("some unsubscribed", patterns[15:])
}

// TestFormerPatternsTakeNoMemory: neither worker keeps patterns that nobody listens to.
func TestFormerPatternsTakeNoMemory(t *testing.T) {
	r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2, Index: 1})
	const patterns, length = 1000, 500
	before := 0
	for round := range 15 {
		if round == 5 { // buffers have their size
			before = heap()
		}
		listen := []string{"PSUBSCRIBE"}
		for i := range patterns {
			listen = append(listen, fmt.Sprintf("%d:%d:%s", round, i, strings.Repeat("x", length)))
		}
		sibling.does(r, sibling.s, listen...)
		sibling.does(r, sibling.s, "PUNSUBSCRIBE")
		sibling.pass(10 * time.Millisecond)
	}
	if grown := heap() - before; grown > 3*patterns*length {
		t.Errorf("%d patterns that nobody listens to any more take %d KiB", 10*patterns, grown>>10)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(sibling)
}

func BenchmarkPublishWithPatterns(b *testing.B) {
	_, publish := publisher(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}
