package page

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

// axeFile is where scripts/axe keeps axe-core.
const axeFile = "keyway/axe-4.14.1.js"

// TestPageIsAccessible: axe-core finds nothing that keeps people from using the page, in light and dark colours, with
// everything that the page can show, for each kind of layout.
func TestPageIsAccessible(t *testing.T) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	axe, err := os.ReadFile(filepath.Join(cache, axeFile))
	if err != nil {
		t.Fatalf("%v; run make tools, or scripts/axe", err)
	}
	for _, c := range []struct {
		scheme string
		width  int64
		table  *router.Table
	}{{"light", 1280, router.Moving(Slots(3), Slots(4))}, {"dark", 1280, Ring(4)}, {"light", 390, Ranges()}} {
		s := NewSample(4, c.table)
		s.Change(trouble)
		s.Change(func(st *overview.State) {
			left := int64(12)
			st.Switch = &overview.Switch{Epoch: 4, From: "slots", To: "slots", State: "moving", Left: &left,
				Waits: true}
		})
		b := open(t, c.width, 1000, c.scheme)
		b.visit(serve(t, s.Source()) + "?key=user:1")
		b.await(isLive)
		eval[bool](b, string(axe)+";true")
		b.violates(c.scheme+" "+c.table.Name, c.width)
		b.order("log-level")
		b.violates("the question", c.width)
	}
}

// violates reports what axe-core finds.
func (b *tab) violates(what string, width int64) {
	b.Helper()
	found := eval[string](b, `axe.run().then(r => r.violations.map(v => v.id + ": " + v.help + "\n" +
		v.nodes.slice(0, 5).map(n => "  " + n.html + "\n  " + n.failureSummary).join("\n")).join("\n"))`)
	if found != "" {
		b.Errorf("%s, %d pixels: %s", what, width, found)
	}
}
