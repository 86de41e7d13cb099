package overview_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

// node changes what the first thread knows of node-0.
func (p *pool) node(change func(n *metrics.Node)) { change(&p.threads[0].Nodes[0]) }

// problem returns the text of the only problem, empty if there is none.
func (p *pool) problem(t *testing.T) string {
	t.Helper()
	switch all := p.State().Problems; {
	case len(all) == 0:
		return ""
	case len(all) == 1:
		return all[0].Severity + " " + all[0].Node + " " + all[0].Text
	default:
		t.Fatalf("%+v", all)
		return ""
	}
}

// TestFrozenNodeStandsOut: a node that owes replies and sends nothing is slow after two seconds, one whose
// requests time out for ten seconds, and one that is idle or sends something is not.
func TestFrozenNodeStandsOut(t *testing.T) {
	p := newPool(t, 2, 4)
	expect := func(what, want string) {
		t.Helper()
		p.pass(t)
		if got := p.problem(t); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	expect("at first", "")
	expect("idle", "")
	p.node(func(n *metrics.Node) { n.InFlight = 7 })
	expect("just asked", "")
	expect("silent for a second", "")
	const slow = "warn node-0 node node-0 10.0.0.0:6379 is slow: "
	expect("silent", slow+"it has sent nothing for 2 s, and owes replies to 7 requests")
	p.node(func(n *metrics.Node) { n.BytesIn++ })
	expect("it has sent something", "")
	expect("silent again for a second", "")
	p.node(func(n *metrics.Node) { n.BytesIn, n.InFlight, n.Timeouts = 2, 0, 1 })
	for i := range 10 {
		p.pass(t)
		if got := p.problem(t); !strings.HasPrefix(got, slow+"it did not answer 1 request in time within ") {
			t.Errorf("%d s after a timeout: %q", i, got)
		}
	}
	expect("long after", "")
	p.node(func(n *metrics.Node) { n.Timeouts, n.BytesIn = 0, 0 }) // the counters begin again
	expect("the node was away", "")
}

// TestGrowingQueueStandsOut: a node with ever more requests in flight is slow, unless all have more.
func TestGrowingQueueStandsOut(t *testing.T) {
	p := newPool(t, 1, 4)
	grow := func(nodes []metrics.Node) {
		for range 6 {
			for i := range nodes {
				nodes[i].InFlight += 100
				nodes[i].BytesIn++
			}
			p.pass(t)
		}
	}
	p.pass(t)
	grow(p.threads[0].Nodes[:1])
	if got := p.problem(t); !strings.HasSuffix(got, "ever more requests wait for its reply: 600 now") {
		t.Errorf("one grows: %q", got)
	}
	grow(p.threads[0].Nodes)
	if got := p.problem(t); got != "" {
		t.Errorf("all grow: %q", got)
	}
}

// TestSlowNodeStandsOut: a node whose p99 is above 2 ms and more than three times that of the others is slow, if
// all have answered enough, and it was slow for some time.
func TestSlowNodeStandsOut(t *testing.T) {
	for _, c := range []struct {
		what          string
		first, others time.Duration
		requests      uint64
		rare          uint64 // one request to the first in so many is slow
		seconds       int    // in which it is
		want          string
	}{
		{"slow", 50 * time.Millisecond, 3 * time.Millisecond, 100, 4, 5, "its p99 is 61 ms, that of the others 3.9 ms"},
		{"very slow", time.Second, 3 * time.Millisecond, 100, 4, 5, "its p99 is 975 ms, that of the others 3.9 ms"},
		{"too few requests", 50 * time.Millisecond, 3 * time.Millisecond, 9, 4, 5, ""},
		{"all are slow", 50 * time.Millisecond, 40 * time.Millisecond, 100, 4, 5, ""},
		{"hardly slow", 1500 * time.Microsecond, 100 * time.Microsecond, 100, 4, 5, ""},
		{"seldom slow", 50 * time.Millisecond, 3 * time.Millisecond, 1000, 500, 5, ""},
		{"stood still for a moment", 50 * time.Millisecond, 3 * time.Millisecond, 100, 4, 1, ""},
	} {
		p := newPool(t, 2, 4)
		for second := range 5 {
			for i := range p.threads[0].Nodes {
				of := &p.threads[0].Nodes[i].Latency
				if of.ObserveMany(int64(c.others), c.requests); i == 0 && second > 4-c.seconds {
					of.ObserveMany(int64(c.first), c.requests/c.rare)
				}
			}
			p.pass(t)
		}
		if got := p.problem(t); !strings.HasSuffix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}

// TestNodeStates: State shows the state of each node, why and since when, and the worst problem first.
func TestNodeStates(t *testing.T) {
	p := newPool(t, 2, 3)
	const idle, used = "10.0.1.1:6379", "10.0.1.2:6379"
	p.table = p.table.WithReplicas([][]string{{idle, used}})
	for i := range p.threads {
		p.threads[i].Nodes = append(p.threads[i].Nodes, metrics.Node{Name: idle, Addr: idle, State: "idle"},
			metrics.Node{Name: used, Addr: used, Up: true, Connection: metrics.Connection{Dials: 1}, Lag: 1500e6})
	}
	p.about.Problems = []overview.Problem{
		{Severity: overview.Warn, Text: "a warning"}, {Severity: overview.Bad, Text: "bad"},
	}
	p.pass(t)
	began := p.now
	p.pass(t)
	p.threads[1].Nodes[1].Up = false
	p.threads[1].Nodes[1].State, p.threads[1].Nodes[1].Reason = "down", "refused"
	p.pass(t)
	s := p.State()
	for i, want := range []overview.Node{
		{Name: "node-0", Addr: "10.0.0.0:6379", Role: "master", State: "ready", Since: began},
		{Name: "node-1", Addr: "10.0.0.1:6379", Role: "master", State: "down", Reason: "refused", Since: p.now},
		{Name: "node-2", Addr: "10.0.0.2:6379", Role: "master", State: "ready", Since: began},
		{Name: idle, Addr: idle, Role: "replica", Master: "node-0", State: "unused", Since: began},
		{Name: used, Addr: used, Role: "replica", Master: "node-0", State: "ready", Since: began},
	} {
		got := s.Nodes[i]
		if (got.Share != 0) != (want.Role == overview.Master) || (got.Lag != nil) != (i == 4) {
			t.Errorf("%s has the share %v and the lag %v", got.Name, got.Share, got.Lag)
		}
		if i == 4 && *got.Lag != 1.5 {
			t.Errorf("lag %v", *got.Lag)
		}
		if got.Share, got.Lag = 0, nil; got != want {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
	texts := ""
	for _, problem := range s.Problems {
		texts += problem.Severity + " " + problem.Text + "\n"
	}
	const want = "bad node node-1 10.0.0.1:6379 cannot be reached: refused\nbad bad\nwarn a warning\n"
	if texts != want {
		t.Errorf("%s", texts)
	}
	p.staysDown(t)
	p.threads[1].Nodes[1].Up, p.threads[1].Nodes[1].State, p.threads[1].Nodes[1].Reason = true, "", ""
	p.pass(t)
	if n := p.State().Nodes[1]; n.State != overview.Ready || n.Reason != "" || n.Since != p.now {
		t.Errorf("%+v", n)
	}
}

// staysDown expects that node-1, which was just lost, is down while keyway connects again.
func (p *pool) staysDown(t *testing.T) {
	t.Helper()
	left := p.now
	for _, c := range []struct{ state, reason, step, cause string }{
		{"dialing", "refused", "dialing", "refused"},
		{"greeting", "refused", "greeting", "refused"},
		{"down", "no answer within 1s", "", "refused"},
		{"idle", "EOF", "", "EOF"}, // it says more than before
	} {
		p.threads[1].Nodes[1].State, p.threads[1].Nodes[1].Reason = c.state, c.reason
		p.pass(t)
		n := p.State().Nodes[1]
		if n.State != overview.Down || n.Step != c.step || n.Reason != c.cause || n.Since != left {
			t.Errorf("while keyway connects again: %+v", n)
		}
	}
}

// TestSlotsOfNodes: State shows how many slots each node of a layout with slots has, and in how many pieces.
func TestSlotsOfNodes(t *testing.T) {
	p := newPool(t, 1, 2)
	var err error
	p.table, err = router.NewStaticSlots(p.table.Nodes, ranges)
	if err != nil {
		t.Fatal(err)
	}
	p.pass(t)
	if n := p.State().Nodes; n[0].Slots != 4196 || n[0].Ranges != 2 || n[1].Slots != 12188 || n[1].Ranges != 2 ||
		!near(n[0].Share, 4196.0/16384) {
		t.Errorf("%+v", n)
	}
}
