package switching

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/slots"
)

// TestMembers: each process is a member, by what it says last. What is no keyway's is none.
func TestMembers(t *testing.T) {
	clients := ""
	for _, c := range [][2]string{
		{"10.0.0.1:1", guard.ConnectionName("a", 3, "1a")},
		{"10.0.0.1:2", guard.ConnectionName("a", 4, "2b")},
		{"10.0.0.1:3", guard.ConnectionName("a", 3, "1a")}, // is about to end
		{"10.0.0.2:1", guard.StateName("b", 4, "prepared", "1a")},
		{"10.0.0.2:2", guard.ConnectionName("b", 3, "1a")},
		{"10.0.0.2:3", guard.StateName("b", 4, "held", "1a")}, // another process of that name
		{"10.0.0.3:1", "keyway:a:1a"},
		{"10.0.0.4:1", guard.StateName("c", 4, "moving", "2b")},
		{"10.0.0.5:1", "keyway:switch"}, {"10.0.0.6:1", ""}, {"10.0.0.7:1", "metrics"},
	} {
		clients += fmt.Sprintf("id=3 addr=%s name=%s flags=N\n", c[0], c[1])
	}
	var got []string
	for _, m := range members(clients) {
		got = append(got, fmt.Sprintf("%s %s %s %d %d %s", m.Instance, m.Host, m.Placement, m.Serves, m.Epoch, m.State))
	}
	want := []string{
		"a 10.0.0.1 2b 4 0 ", "a 10.0.0.3 1a -1 0 ", "b 10.0.0.2 1a 3 4 held", "b 10.0.0.2 1a 3 4 prepared",
		"c 10.0.0.4 2b -1 4 moving",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestLagging: a replica that has not said that it has what its master has is late. What only reads
// the stream is no replica.
func TestLagging(t *testing.T) {
	text := strings.ReplaceAll(`role:master
connected_slaves:6
slave0:ip=10.0.0.1,port=6379,state=online,offset=100,lag=0
slave1:ip=10.0.0.2,port=6379,state=online,offset=99,lag=0
slave2:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=200,lag=0
slave3:ip=10.0.0.4,port=0,state=online,offset=0,lag=900
slave4:ip=::1,port=7000,state=online,offset=0,lag=0,type=replica
slave5:ip=10.0.0.6,port=6379,state=online,offset=101,lag=0,type=replica
master_repl_offset:100
`, "\n", "\r\n")
	want := "10.0.0.2:6379 10.0.0.3:6379 [::1]:7000"
	if got := strings.Join(lagging(text, 100), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestCancelledWayBack: while keys move, a change back that was planned and cancelled ends nothing. The
// change goes on, can be taken back again, and no other one may begin.
func TestCancelledWayBack(t *testing.T) {
	record := func(epoch int64, from, to string) register.Record {
		return register.Record{Epoch: epoch, Old: register.Layout{Hash: from}, New: register.Layout{Hash: to}}
	}
	forth, back := record(4, "a", "b"), record(5, "b", "a")
	all := []register.Change{
		{Epoch: 4, Plan: &register.Plan{Record: forth}, Decision: register.Go, Entered: &forth},
		{Epoch: 5, Plan: &register.Plan{Record: back}, Decision: register.Cancelled},
	}
	if got := current(all); got == nil || got.Epoch != 4 {
		t.Errorf("the change under way is %v", got)
	}
	if got := current(all[1:]); got != nil {
		t.Errorf("a cancelled change is under way: %v", got)
	}
	n := &Node{Name: "n"}
	for _, c := range []struct {
		next register.Record
		may  bool
	}{
		{record(6, "b", "a"), true}, {record(6, "b", "c"), false}, {record(6, "a", "b"), false},
		{record(4, "b", "a"), false},
	} {
		if err := n.mayPlan(all, register.Plan{Record: c.next}); (err == nil) != c.may {
			t.Errorf("to plan epoch %d from %s to %s: %v", c.next.Epoch, c.next.Old.Hash, c.next.New.Hash, err)
		}
	}
}

// TestPlanBeginsWithTheLayoutInForce: a change that was prepared before another one went through does not begin.
func TestPlanBeginsWithTheLayoutInForce(t *testing.T) {
	record := func(epoch int64, from, to string) register.Record {
		return register.Record{Epoch: epoch, Old: register.Layout{Hash: from}, New: register.Layout{Hash: to}}
	}
	forth := record(4, "a", "b")
	all := []register.Change{{Epoch: 4, Plan: &register.Plan{Record: forth}, Decision: register.Go, Done: true}}
	for _, entered := range []*register.Record{nil, &forth} {
		all[0].Entered = entered
		for _, c := range []struct {
			next register.Record
			may  bool
		}{
			{record(5, "b", "a"), true}, {record(5, "b", "c"), true},
			{record(5, "a", "b"), false}, {record(5, "a", "c"), false},
		} {
			if err := (&Node{Name: "n"}).mayPlan(all, register.Plan{Record: c.next}); (err == nil) != c.may {
				t.Errorf("to plan a change from %s to %s: %v", c.next.Old.Hash, c.next.New.Hash, err)
			}
		}
	}
}

// TestDecidedBeforePlanned: a keyway goes on holding commands for a change that is decided, although the
// way back is planned by then. Once it has been told to serve by the change, it takes part in the way back.
func TestDecidedBeforePlanned(t *testing.T) {
	forth := register.Record{Epoch: 4}
	all := []register.Change{
		{Epoch: 4, Plan: &register.Plan{Record: forth}, Decision: register.Go},
		{Epoch: 5, Plan: &register.Plan{Record: register.Record{Epoch: 5}}},
	}
	m := &member{}
	follows := func(epoch int64) {
		t.Helper()
		if got := m.due(all); got == nil || got.Epoch != epoch {
			t.Errorf("it follows %v, not epoch %d", got, epoch)
		}
	}
	follows(4)
	all[0].Entered = &forth
	follows(4)
	m.tried = 4
	follows(5)
	m.tried, all[0].Done = 0, true // over before it was seen
	follows(5)
}

// TestHomeInherits: the node that owns slot 0 now gets what the former home says of a change, and keeps what
// somebody has said since then.
func TestHomeInherits(t *testing.T) {
	if got := slots.Of([]byte(inSlot0)); got != 0 {
		t.Errorf("%s is in slot %d", inSlot0, got)
	}
	former := register.Change{
		Epoch: 4, Plan: &register.Plan{Record: register.Record{Epoch: 4}}, Decision: register.Go,
		Drained: []string{"a", "b"}, Paces: 3, Pace: &register.Pace{Paused: true},
	}
	names := func(own register.Change) (names []string) {
		codes, err := inherited(&former, &own)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range codes {
			names = append(names, register.NameIn([]byte(code)))
		}
		slices.Sort(names)
		return names
	}
	entered := register.Change{Epoch: 4, Entered: &register.Record{Epoch: 4}}
	all := []string{"keyway_4_decision", "keyway_4_drained_a", "keyway_4_drained_b", "keyway_4_pace_3", "keyway_4_plan"}
	if got := names(entered); !slices.Equal(got, all) {
		t.Errorf("it gets %q", got)
	}
	entered.Paces, entered.Pace, entered.Drained = 1, &register.Pace{}, []string{"b"}
	said := []string{all[0], all[1], "keyway_4_pace_4", all[4]}
	if got := names(entered); !slices.Equal(got, said) {
		t.Errorf("after another pace, it gets %q", got)
	}
	entered.Plan, entered.Decision = former.Plan, former.Decision
	if got := names(entered); !slices.Equal(got, []string{all[1], all[3]}) {
		t.Errorf("where somebody else has given it the pace before the last, it gets %q", got)
	}
	if got := names(former); len(got) > 0 {
		t.Errorf("although it has all, it gets %q", got)
	}
	own := former
	former.Paces, former.Pace = 4, nil // it could not be read
	if got := names(own); len(got) > 0 {
		t.Errorf("without a pace that can be read, it gets %q", got)
	}
}
