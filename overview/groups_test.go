package overview_test

import (
	"fmt"
	"testing"

	"github.com/keyway-proxy/keyway/overview"
)

// TestManyAlikeAreOne: many problems of one kind are shown as one that names the nodes; a few, those of another
// severity, and those that stand alone are shown one by one. The order stays.
func TestManyAlikeAreOne(t *testing.T) {
	nodes := func(count int, severity, kind, lead string) (all []overview.Problem) {
		for i := range count {
			name := fmt.Sprint(lead, i)
			all = append(all, overview.Problem{Severity: severity, Kind: kind, Node: name, Text: name + " is bad"})
		}
		return all
	}
	var all []overview.Problem
	all = append(all, nodes(7, overview.Bad, overview.Unreachable, "a")...)
	all = append(all, nodes(5, overview.Bad, "", "alone")...)
	all = append(all, nodes(8, overview.Bad, overview.Unreachable, "b")...)
	all = append(all, nodes(3, overview.Warn, overview.Unreachable, "few")...)
	all = append(all, nodes(4, overview.Warn, overview.TooSlow, "s")...)
	got := ""
	for _, g := range overview.Groups(all) {
		got += fmt.Sprintln(g.Severity, g.Text, len(g.Each))
	}
	const want = `bad 15 nodes cannot be reached: a0, a1, a2, a3, a4, a5, a6, b0 and 7 more 15
bad alone0 is bad 0
bad alone1 is bad 0
bad alone2 is bad 0
bad alone3 is bad 0
bad alone4 is bad 0
warn few0 is bad 0
warn few1 is bad 0
warn few2 is bad 0
warn 4 nodes are slow: s0, s1, s2, s3 4
`
	if got != want {
		t.Errorf("%s", got)
	}
}
