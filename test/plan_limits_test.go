package test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// limitsOf returns the limits that a plan prints, each with its nodes.
func limitsOf(t *testing.T, older, newer string) (all []string) {
	t.Helper()
	out, _ := runPlan(t, older, newer, "--json")
	var p struct {
		Limits []plan.Limit `json:"cannot_be_had"`
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, l := range p.Limits {
		all = append(all, strings.Join(append([]string{l.Name}, l.Nodes...), " "))
	}
	return all
}

// TestPlanPrintsWhatCannotBeHad: a plan prints what a change while clients run cannot do, as far as
// its nodes are concerned.
func TestPlanPrintsWhatCannotBeHad(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t), redistest.Start(t)
	older, newer := layoutOfNodes(a), layoutOfNodes(a, b)
	expect := func(want ...string) {
		t.Helper()
		if got := limitsOf(t, older, newer); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	expect("frozen", "watch")
	redistest.Replica(t, b)
	a.Do("SET", "key", "value", "EX", "1000")
	a.Do("EVAL", "return 1", "0")
	b.Do("CONFIG", "SET", "notify-keyspace-events", "Kg")
	direct := redistest.Dial(t, a.Addr)
	direct.MustDo("PING")
	expect("failover b", "frozen", "bypass a", "watch", "scripts a", "expiry a", "events b")
	if got := limitsOf(t, older, older); len(got) > 0 {
		t.Errorf("%q of a change that moves nothing", got)
	}
	out, _ := runPlan(t, older, newer)
	expectPlan(t, out, 0, 0, "\n  scripts (a): Keys that a script uses and does not declare are brought only if ")
}

// layoutOfNodes returns a configuration of the layout modulo.
func layoutOfNodes(nodes ...*redistest.Node) string {
	return "layout: modulo\n" + redistest.NodesYAML(nodes)
}

// TestDocumentsSayWhatCannotBeHad: docs/operations.md has each limit that plan prints, and no other.
func TestDocumentsSayWhatCannotBeHad(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text2, found := strings.Cut(string(text), "\nWhat cannot be had:\n\n- ")
	list, _, _ := strings.Cut(text2, "\n\n")
	var documented []string
	for item := range strings.SplitSeq(list, "\n- ") {
		documented = append(documented, strings.Join(strings.Fields(item), " "))
	}
	var printed []string
	for _, l := range plan.Limits() {
		printed = append(printed, l.Text)
	}
	if !found || !slices.Equal(documented, printed) {
		t.Errorf("documented: %q\nprinted: %q", documented, printed)
	}
}
