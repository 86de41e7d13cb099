package overview_test

import (
	"slices"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/overview"
)

// TestLosses: what is lost is a problem while it goes on, and for a minute after.
func TestLosses(t *testing.T) {
	p := newPool(t, 2, 1)
	lost := overview.Loss{Count: 7, Problem: overview.Problem{Severity: overview.Warn, Text: "lines are lost"}}
	p.Sampler = p.sampler(func() []overview.Loss { return []overview.Loss{lost} })
	texts := func() (texts []string) {
		for _, of := range p.State().Problems {
			texts = append(texts, of.Text)
		}
		return texts
	}
	expect := func(want ...string) {
		t.Helper()
		p.pass(t)
		if got := texts(); !slices.Equal(got, want) {
			t.Errorf("the problems are %q, not %q", got, want)
		}
	}
	const refused = "new clients are refused, because clients.max is reached"
	expect() // what was lost before is over
	lost.Count++
	expect(lost.Text)
	p.threads[1].Rejected++
	expect(refused, lost.Text)
	p.now = p.now.Add(50 * time.Second)
	expect(refused, lost.Text)
	p.now = p.now.Add(7 * time.Second)
	expect(refused)
	p.now = p.now.Add(time.Second)
	expect()
}
