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
	cfg := changing(t, "ring")
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
	if s := m.forAdmin(parsed(t, "ring")); s.State != idle || s.Waits || s.Epoch != 0 {
		t.Errorf("without a change: %+v", s)
	}
}

// TestWrongFile: a file with another layout than the one in force is a problem, but not the old one while keys move.
func TestWrongFile(t *testing.T) {
	inForce, err := parsed(t, "ring").InEpoch(1, parsed(t, "modulo"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		cfg     *config.Config
		isWrong bool
	}{
		"the layout of the file":             {parsed(t, "ring"), false},
		"the layout in force is another one": {inForce, true},
		"the old layout while keys move":     {changing(t, "ring"), false},
		"the new layout while keys move":     {changing(t, "modulo"), false},
		"a third layout while keys move":     {changing(t, "range"), true},
	} {
		if got := hasWrongFile(c.cfg); got != c.isWrong {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func parsed(t *testing.T, layout string) *config.Config {
	t.Helper()
	text := "layout: " + layout + "\nnodes: [{name: a, addr: \"10.0.0.1:1\"}]\n"
	if layout == "range" {
		text += "range: {default: a}\n"
	}
	c, err := config.Parse("x.yml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// changing returns a configuration with a layout in its file, while a ring becomes a modulo.
func changing(t *testing.T, file string) *config.Config {
	t.Helper()
	cfg, err := config.InChange(parsed(t, file), 1, parsed(t, "ring"), parsed(t, "modulo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
