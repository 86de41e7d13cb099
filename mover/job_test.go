package mover

import (
	"testing"

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
