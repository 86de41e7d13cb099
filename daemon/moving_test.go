package daemon

import (
	"log/slog"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
)

// TestMetricsWithoutHome: while the node with the records of a change does not answer, the metrics say that
// something is wrong, and no figures that are out of date.
func TestMetricsWithoutHome(t *testing.T) {
	parsed := func(layout string) *config.Config {
		c, err := config.Parse("x.yml", []byte("layout: "+layout+"\nnodes: [{name: a, addr: \"10.0.0.1:1\"}]\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	cfg, err := config.InChange(parsed("ring"), 1, parsed("ring"), parsed("modulo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var m moving
	state := idle // a connection to the home begins so
	m.state.Store(&state)
	works := mover.Process{Progress: mover.Progress{Moves: true, Left: 10, Rate: 5}}
	m.see(slog.New(slog.DiscardHandler), mover.View{Processes: []mover.Process{works}})
	if s := m.forAdmin(cfg); s.State != "moving" || s.Waits || s.Left != 10 || s.Rate != 5 {
		t.Errorf("while all goes well: %+v", s)
	}
	m.at = time.Now().Add(-time.Minute)
	if s := m.forAdmin(cfg); s.State != "moving" || !s.Waits || s.Left >= 0 || s.Rate >= 0 {
		t.Errorf("a minute later: %+v", s)
	}
	m.end()
	if s := m.forAdmin(cfg); s.Waits || s.Left >= 0 {
		t.Errorf("at the beginning: %+v", s)
	}
	if s := m.forAdmin(parsed("ring")); s.State != idle || s.Waits || s.Epoch != 0 {
		t.Errorf("without a change: %+v", s)
	}
}
