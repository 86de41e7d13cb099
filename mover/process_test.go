package mover

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/guard"
)

// TestProcessIsSeen: what a process says about itself in the name of its connection is read as it was,
// whatever it says. Nobody takes such a connection for one that serves clients.
func TestProcessIsSeen(t *testing.T) {
	says := Process{
		ID: 7, Instance: "kw:1 €&=%", Host: "10.0.0.1", Epoch: 42, Fallback: true, Paces: 3, Progress: Progress{
			Moves: true, Stuck: true, Moved: 1, Left: Unknown, Rate: 3, Slow: "a", Aside: 2, Verify: true,
			Waits: "node c: dial tcp 10.0.0.3:6379: connect: connection refused",
			Sources: []Source{
				{Name: "a", Looked: 10, Total: 20}, {Name: "127.0.0.1:6379", Done: true}, {Name: "done", Total: 1},
			},
		},
	}
	line := fmt.Sprintf("id=7 addr=10.0.0.1:5 laddr=10.0.0.9:6379 name=%s age=3 idle=0 flags=N\n", says.name())
	if strings.ContainsFunc(says.name(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("a node would refuse the name %s", says.name())
	}
	others := "id=8 addr=10.0.0.1:6 name=" + guard.StateName("kw", 42, "moving", "1a") + "\nid=9 addr=x name=\n"
	if got := Processes(others+line, 42); len(got) != 1 || !reflect.DeepEqual(got[0], says) {
		t.Errorf("%+v\nwant %+v", got, says)
	}
	if got := Processes(line, 41); len(got) > 0 {
		t.Errorf("of another change: %+v", got)
	}
	if c, ok := guard.ParseConnection(line); ok {
		t.Errorf("it counts as a keyway: %+v", c)
	}
}

// TestWhoMovesKeys: who moves keys goes on, unless it is frozen or its keys do not move. A command moves
// them only if no keyway does.
func TestWhoMovesKeys(t *testing.T) {
	line := func(id, idle int, of Process) string {
		of.Epoch = 1
		return fmt.Sprintf("id=%d addr=10.0.0.1:5 name=%s idle=%d\n", id, of.name(), idle)
	}
	moves, stuck, tries := Progress{Moves: true}, Progress{Stuck: true}, Progress{Moves: true, Stuck: true}
	for _, c := range []struct {
		name    string
		clients string
		want    int64
	}{
		{"the oldest", line(9, 0, Process{}) + line(8, 1, Process{}), 8},
		{"the one that does", line(9, 0, Process{Progress: moves}) + line(8, 0, Process{}), 9},
		{"not the frozen one", line(9, 6, Process{Progress: moves}) + line(10, 3, Process{}), 10},
		{"not the stuck one", line(8, 0, Process{Progress: tries}) + line(9, 0, Process{}), 9},
		{"of stuck ones the one that tries", line(8, 0, Process{Progress: stuck}) +
			line(9, 0, Process{Progress: tries}), 9},
		{"a keyway before a command", line(7, 0, Process{Fallback: true}) + line(8, 0, Process{}), 8},
		{"a command that has begun", line(7, 0, Process{Fallback: true, Progress: moves}) + line(8, 0, Process{}), 7},
		{"of two that do, one goes on", line(9, 0, Process{Progress: moves}) + line(8, 0, Process{Progress: moves}), 8},
	} {
		if got := Processes(c.clients, 1); got[0].ID != c.want {
			t.Errorf("%s: %d", c.name, got[0].ID)
		}
	}
}
