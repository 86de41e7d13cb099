package mover

import (
	"math"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/migrate"
)

// TestLeft: how many keys are left to move is estimated for each node by what was seen there.
func TestLeft(t *testing.T) {
	for name, c := range map[string]struct {
		nodes []migrate.NodeProgress
		want  int64
	}{
		"nothing was looked at": {[]migrate.NodeProgress{{Name: "a", Total: 1000}}, Unknown},
		"all of one node, nothing of another": {[]migrate.NodeProgress{
			{Name: "a", Total: 1000, Looked: 100, Moves: 100}, {Name: "b", Total: 50_000, Looked: 10_000},
		}, 900},
		"one was not looked at yet": {[]migrate.NodeProgress{
			{Name: "a", Total: 1000, Looked: 500, Moves: 250}, {Name: "b", Total: 200},
		}, 350},
		"some wait": {[]migrate.NodeProgress{{Name: "a", Total: 1000, Looked: 600, Moves: 450, Waiting: 300}}, 350},
		"one is done": {[]migrate.NodeProgress{
			{Name: "a", Total: 1000, Looked: 990, Moves: 990, Done: true},
			{Name: "b", Total: 200, Looked: 100, Moves: 10},
		}, 10},
		"keys were written meanwhile": {[]migrate.NodeProgress{{Name: "a", Total: 10, Looked: 20, Moves: 20}}, 0},
	} {
		if got := left(c.nodes); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestWaitsAreSeen: what a job waits for is said until it gets on, also while it tries again.
func TestWaitsAreSeen(t *testing.T) {
	const want = "none has the moved keys"
	j := &job{}
	note := func(moved int64, waiting, doing string) {
		j.note(migrate.Progress{Doing: doing, Moved: moved, Waiting: waiting})
	}
	says := func(when, want string) {
		t.Helper()
		if got := j.progress().Waits; got != want {
			t.Errorf("%s, it waits for %q", when, got)
		}
	}
	note(1, "", "moving")
	says("while keys move", "")
	note(1, want, "moving")
	note(1, "", "moving")
	says("while it tries again", want)
	note(2, "", "moving")
	says("when a key has moved", "")
	note(2, want, "moving")
	note(0, "", "verifying") // it does not say how many have moved
	says("when all have", "")
	if p := j.progress(); p.Moved != 2 || !p.Verify || p.Rate != 0 {
		t.Errorf("while all keys are looked at: %+v", p)
	}
	note(2, want, "moving")
	j.failed = j.failed.Add(-time.Minute)
	note(2, "", "moving")
	says("when it has not failed for long", "")
}

// TestRateIsMeasured: the rate is that of the last seconds, also where many pass between two batches, and 0 if nothing
// moves any more.
func TestRateIsMeasured(t *testing.T) {
	j, now, moved := &job{}, time.Now(), int64(1000)
	second := func(keys int64) int {
		now, moved = now.Add(time.Second), moved+keys
		j.measure(now, moved)
		return int(math.Round(j.rate))
	}
	expect := func(when string, got, least, most int) {
		t.Helper()
		if got < least || got > most {
			t.Errorf("%s: %d keys/s, expected %d to %d", when, got, least, most)
		}
	}
	second(0)
	expect("in the first second", second(2000), 2000, 2000)
	for range 20 {
		second(100)
	}
	expect("after 20 seconds at another rate", second(100), 100, 105)
	expect("while a large key moves", second(0), 100, 105)
	for range 30 {
		second(0)
	}
	expect("when nothing has moved for long", second(0), 0, 0)
	for i := range 60 {
		got := second(map[bool]int64{true: 10}[i%10 == 0])
		if i >= 30 {
			expect("at one key in a second, in batches of ten", got, 1, 1)
		}
	}
}
