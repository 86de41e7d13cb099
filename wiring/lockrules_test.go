package wiring

import (
	"strings"
	"testing"
)

// TestRulesThatLoseLocksAreRefused: a reload that would lose sight of locks, or let others have
// them, is refused. The nodes of this test do not exist, so no node votes.
func TestRulesThatLoseLocksAreRefused(t *testing.T) {
	const nowhere = "127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3"
	rules := func(quorum string) string {
		return "layout: ring\nnodes: [{name: a, addr: a:1}]\nlocks: {quorum: [" + quorum + "]}\n"
	}
	const three, five = "{match: l, nodes: [" + nowhere + "]}", "{match: l, nodes: [" + nowhere + ", h:4, h:5]}"
	for _, c := range []struct{ old, next, want string }{
		{three, three, ""},
		{"", three, ""},
		{three, three + ", {match: other, nodes: [" + nowhere + "]}", ""},
		{three, "{match: l, nodes: [127.0.0.1:3, 127.0.0.1:1, 127.0.0.1:2], timeout: 1s}", ""},
		{three, "", `locks.quorum: there is no rule "l" any more: others could get the locks that clients hold on ` +
			"its 3 nodes; stop the clients that use these locks, then reload with --allow-misplaced"},
		{three, strings.Replace(three, "match: l", "match: m", 1), `there is no rule "l" any more`},
		{five, three, "locks.quorum[0].nodes: 3 nodes after 5: a majority of them may not have a lock that clients " +
			"hold; keep as many nodes"},
		{three, strings.Replace(three, ":1,", ":4,", 1), "locks.quorum[0].nodes: of the 3 nodes, only 0 stay and " +
			"vote, and 2 must: clients would lose the locks that they hold; replace fewer at once"},
	} {
		err := refuseLosingLocks(t.Context(), parse(t, rules(c.old)), parse(t, rules(c.next)))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %v, want %s", c.old, c.next, err, c.want)
		}
	}
}
