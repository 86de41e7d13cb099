package mover

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
)

// TestAdvice: whatever a change is stuck in, the status says that there is a problem, and what to do. While
// all goes well or a pause lasts, there is none.
func TestAdvice(t *testing.T) {
	long, now := time.Now().Add(-time.Hour), time.Now()
	waiting := []switching.Member{{Instance: "kw-2", Host: "10.0.0.2", State: "idle"}}
	ready := []switching.Member{{Instance: "kw-1", Host: "10.0.0.1", State: "prepared"}}
	paused := &register.Pace{Paused: true}
	for _, c := range []struct {
		name    string
		is      switching.State
		s       Status
		members []switching.Member
		problem string // empty: none
		next    string
	}{
		{"no change", switching.Steady, Status{}, nil, "", "keyway plan"},
		{"a keyway does not prepare", switching.Planned, Status{Planned: &now}, waiting, "kw-2 at 10.0.0.2", "cancel"},
		{"it is prepared", switching.Prepared, Status{Planned: &now}, ready, "", "keyway cancel"},
		{"its command has died", switching.Prepared, Status{Planned: &long}, ready, "have died", "keyway switch"},
		{"a node stays behind", switching.Flipping, Status{Behind: []string{"c"}, standby: 1}, nil,
			"node c is not in epoch", "wait until node c is"},
		{"nobody moves keys", switching.Moving, Status{}, nil, "no process", "start a keyway"},
		{"it has just begun", switching.Moving, Status{Planned: &now}, nil, "", "wait some seconds"},
		{"nobody for an hour", switching.Moving, Status{Planned: &long}, nil, "no process", "start a keyway"},
		{"somebody will", switching.Moving, Status{standby: 1}, nil, "", "wait some seconds"},
		{"all goes well", switching.Moving, Status{By: &By{}}, nil, "", "nothing has to be done"},
		{"a pause", switching.Moving, Status{By: &By{}, Pace: paused}, nil, "", "keyway resume"},
		{"a slow node", switching.Moving, Status{By: &By{Slow: "b"}}, nil, "", "node b is slow"},
		{"a full node", switching.Moving, Status{By: &By{Waits: "b: OOM"}}, nil, "do not move at : b: OOM", "reverse"},
		{"no replica", switching.Moving, Status{By: &By{Waits: "node b: waiting for a replica: none"}}, nil,
			"do not move at", "{durable: auto}"},
		{"a frozen keyway", switching.Moving, Status{By: &By{idle: 60}}, nil, "frozen", "start another"},
		{"values aside", switching.Moving, Status{By: &By{Aside: 3}}, nil, "3 values", "keyway:stray:*"},
		{"a node fails", switching.Flipping, Status{
			Behind: []string{"c"}, By: &By{Waits: "node c: refused"},
			down: []*move.Error{{Node: "c", Doing: "connecting", Err: errors.New("refused"), Remedy: "start it"}},
		}, nil, "node c cannot be asked (connecting: refused); commands for its keys wait or fail", "start node c"},
		{"old files", switching.Done, Status{Keyways: []Keyway{{Instance: "kw-3", File: "1a"}}}, nil, "",
			"write the new layout into the file of each keyway, and reload: kw-3"},
		{"a wish", switching.Done, Status{Keyways: []Keyway{{Instance: "kw-3", File: "2b"}}}, nil, "",
			"these files have another layout, which keyway switch -c FILE puts in force"},
		{"the first wish", switching.Steady, Status{Keyways: []Keyway{{Instance: "kw-3", File: "2b"}}}, nil, "",
			"switch.auto if all have it: kw-3"},
		{"the end", switching.Done, Status{Epoch: 7}, nil, "", "keyway forget 7"},
	} {
		entered := &register.Record{Old: register.Layout{Hash: "1a"}}
		c.s.advise(&switching.Status{
			State: c.is, Members: c.members, Change: register.Change{Entered: entered},
		})
		problems, next := strings.Join(c.s.Problems, "\n"), strings.Join(c.s.Next, "\n")
		if !strings.Contains(problems, c.problem) || (problems != "") != (c.problem != "") {
			t.Errorf("%s: the problems are %q", c.name, problems)
		}
		if strings.Count(problems+next, "refused") > 1 || len(c.s.Problems) > 1 {
			t.Errorf("%s: it is said twice: %q", c.name, problems)
		}
		undoes := strings.Contains(next, "another layout") && strings.Contains(next, "write the new layout")
		if !strings.Contains(next, c.next) || undoes {
			t.Errorf("%s: next is %q", c.name, next)
		}
	}
}
