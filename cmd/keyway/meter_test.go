package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/register"
)

// TestMeter: a meter says how far keys have moved, by this process, or by another one that has begun before it.
func TestMeter(t *testing.T) {
	by := func(p mover.Progress) *mover.View { return &mover.View{Processes: []mover.Process{{Progress: p}}} }
	half := []mover.Source{{Name: "a", Looked: 500, Total: 1000}, {Name: "b", Total: 1000}}
	paused := by(mover.Progress{Moves: true, Left: 500, Rate: 0, Sources: half})
	paused.Pace = register.Pace{Paused: true}
	slow := migrate.Progress{Doing: moving, Looked: 500, Total: 2000, Moved: 100, Took: 10 * time.Second, Slow: "b"}
	for _, c := range []struct {
		show func(m *meter)
		want string
	}{
		{func(m *meter) { m.print(slow) },
			"moving: 25 % of 2000 keys, 100 moved, 10 keys/s, about 30s left; slower for the sake of node b"},
		{func(m *meter) {
			m.print(migrate.Progress{Doing: "verifying", Looked: 2000, Total: 2000, Took: 10 * time.Second})
		}, "verifying: 100 % of 2000 keys"},
		{func(m *meter) {
			m.print(migrate.Progress{Doing: moving, Took: 10 * time.Second, Waiting: "node a"})
		}, "moving: no key was looked at yet; trying again: node a"},
		{func(m *meter) { m.printView(new(mover.View), 10*time.Second) },
			"moving: no key was looked at yet; no process moves keys yet"},
		{func(m *meter) {
			m.printView(by(mover.Progress{Moved: 90_000, Left: 1000, Rate: 50, Sources: half}), 10*time.Second)
		}, "moving: 25 % of 2000 keys, 90000 moved, 50 keys/s, about 20s left"},
		{func(m *meter) { m.printView(paused, 10*time.Second) },
			"moving: 25 % of 2000 keys, 0 moved, 0 keys/s; paused; keyway resume goes on"},
		{func(m *meter) { m.printView(by(mover.Progress{Verify: true, Moved: 9, Slow: "b"}), 10*time.Second) },
			"verifying: all keys have moved, and all nodes are looked at once more; slower for the sake of node b"},
	} {
		var out strings.Builder
		if c.show(newMeter(&out)); out.String() != c.want+"\n" {
			t.Errorf("%s, expected %s", out.String(), c.want)
		}
	}
}
