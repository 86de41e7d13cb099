package register

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// codes returns the texts of records by name.
func codes(t *testing.T, records ...interface{ Code() (string, error) }) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range records {
		code, err := r.Code()
		if err != nil {
			t.Fatal(err)
		}
		all[NameIn([]byte(code))] = code
	}
	return all
}

func note(texts map[string]string, names ...string) {
	for _, name := range names {
		texts[name] = Note(name)
	}
}

// TestChanges: the records of several changes are read as they were written, whatever
// the nodes are called.
func TestChanges(t *testing.T) {
	three := Record{
		Epoch: 3, Old: Layout{Hash: "1a", Config: []byte(`{"a":"'\\"}`)}, New: Layout{Hash: "2b", Config: []byte("{}")},
	}
	four := Plan{Record: three, Options: []byte(`{"hold":"1s"}`)}
	four.Epoch = 4
	texts := codes(t, three, four)
	note(texts, DoneName(3), HoldName(4, 2), HoldName(4, 10), ClosingName(4), "keyway_7_later_thing", "keyway_01_plan",
		"mine", "keyway_", "keyway_x")
	nodes := []string{"127.0.0.1:6379", "A", "B_b", "a", "b_2d", "b-", "é", ""}
	slices.Sort(nodes)
	for _, n := range nodes {
		note(texts, DrainedName(4, n))
	}
	texts[DecisionName(4)] = Go.Code(4)
	pace := Pace{Paused: true, Rate: 7, Latency: 2e6}
	texts[PaceName(4, 2)], texts[PaceName(4, 10)] = paced(t, Pace{}, 2), paced(t, pace, 10)
	got, err := Changes(texts)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{Epoch: 3, Entered: &three, Done: true},
		{Epoch: 4, Plan: &four, Holds: 10, Decision: Go, Drained: nodes, Paces: 10, Pace: &pace},
		{Epoch: 7},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for i, over := range []bool{true, false, false} {
		if got[i].Over() != over {
			t.Errorf("the change to epoch %d is over: %v", got[i].Epoch, !over)
		}
	}
	seen := map[string]bool{} // nodes ignore the case of functions
	for name := range texts {
		if seen[strings.ToLower(name)] || strings.ContainsFunc(name, isStrange) {
			t.Errorf("a node would refuse %s", name)
		}
		seen[strings.ToLower(name)] = true
	}
}

// paced returns the text of a record of the change to epoch 4.
func paced(t *testing.T, p Pace, n int) string {
	t.Helper()
	code, err := p.Code(4, n)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func isStrange(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }

// TestChangesRefuse: a record that this version does not understand is an error, and not taken
// for another.
func TestChangesRefuse(t *testing.T) {
	r := Record{Epoch: 3, Old: Layout{Hash: "1a"}, New: Layout{Hash: "2b"}}
	plan := codes(t, Plan{Record: r})[PlanName(3)]
	for name, code := range map[string]string{
		Name(3):         plan,
		PlanName(3):     Go.Code(3),
		DecisionName(3): Decision("perhaps").Code(3),
		DecisionName(4): Note(DecisionName(4)),
		"keyway_5_plan": "#!lua name=keyway_5_plan\nredis.register_function('keyway_5_plan', f)",
	} {
		if got, err := Changes(map[string]string{name: code}); err == nil {
			t.Errorf("%s with %.80q: %+v", name, code, got)
		}
	}
}
