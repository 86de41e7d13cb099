package proxy

import (
	"fmt"
	"testing"
)

// publisher is a worker whose client publishes, while clients of it and of another
// worker listen to so many patterns.
func publisher(t testing.TB, patterns int) (r *rig, publish func()) {
	r = newRig(t, Options{Workers: 2})
	news := [topicKinds]map[string]int{byPattern: {}}
	for i := range patterns {
		if name := fmt.Sprintf("channel:%d:*", i); i%2 == 0 {
			news[byPattern][name] = 1
		} else {
			other := r.w.Open(nil, "peer:2", "keyway:1")
			r.w.Feed(other, []byte("PSUBSCRIBE "+name+"\r\n"))
		}
	}
	featureOf[*hub](r.w).audience.learn(1, "", 0, news)
	r.w.EndTurn()
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

// TestPatternsOfAllWorkers: a pattern is one while clients of any worker listen to it.
func TestPatternsOfAllWorkers(t *testing.T) {
	r := newRig(t, Options{Workers: 2})
	h := featureOf[*hub](r.w)
	says := func(step string, want int) {
		t.Helper()
		if got := len(h.audience.patterns); got != want {
			t.Errorf("%s: %d patterns, want %d", step, got, want)
		}
	}
	told := func(clients int) {
		h.audience.learn(1, "", 0, [topicKinds]map[string]int{byPattern: {"n*": clients}, byChannel: {"n*": clients}})
	}
	r.feed("SUBSCRIBE n*\r\nPSUBSCRIBE n* m*\r\n")
	says("own clients listen to two", 2)
	told(1)
	told(2)
	says("others to one of them", 2)
	r.feed("PUNSUBSCRIBE\r\n")
	says("own clients listen no more", 1)
	told(0)
	told(0)
	says("nor does anybody", 0)
}

func BenchmarkPublishWithPatterns(b *testing.B) {
	_, publish := publisher(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}
