package overview_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// ranges are the slots of two nodes, in two pieces each.
var ranges = [][]slots.Range{
	{{First: 0, Last: 4095}, {First: 5000, Last: 5099}}, {{First: 4096, Last: 4999}, {First: 5100, Last: 16383}},
}

// TestRecorderIsBounded: a recorder keeps the last 200 events, the newest first, and texts of bounded length that
// are valid in JSON; the same event again takes the place of the last one.
func TestRecorderIsBounded(t *testing.T) {
	r := new(overview.Recorder)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for k := range 500 {
				r.Add(overview.Event{Kind: "node", Text: fmt.Sprint(i, k)})
				overview.Newest(3, r)
			}
		})
	}
	all.Wait()
	if n := len(overview.Newest(1000, r)); n != overview.MaxEvents {
		t.Errorf("%d events", n)
	}
	for k := range 250 {
		r.Add(overview.Event{Time: time.Unix(int64(k/2), 0), Kind: "config", Text: fmt.Sprint(k / 2)})
	}
	got := overview.Newest(3, r, new(overview.Recorder))
	if fmt.Sprint(got[0].Text, " ", got[1].Text, " ", got[2].Text) != "124 123 122" {
		t.Errorf("%+v", got)
	}
	r.Add(overview.Event{Time: time.Unix(999, 0), Text: strings.Repeat("\U0001f600", 1e5) + "\xff",
		Fields: []string{strings.Repeat("x\xff\n", 1e5)}})
	e := overview.Newest(1, r)[0]
	for _, text := range append(e.Fields, e.Text) {
		if !utf8.ValidString(text) || len(text) > 900 || strings.Contains(text, "\n") {
			t.Errorf("%d bytes, such as %.20q", len(text), text)
		}
	}
}

// TestEventsOfOneKindHideNoOthers: many events of nodes do not drive those out that an operator has caused.
func TestEventsOfOneKindHideNoOthers(t *testing.T) {
	r := new(overview.Recorder)
	for k := range 20 {
		r.Add(overview.Event{Time: time.Unix(int64(k), 0), Kind: overview.ConfigEvent, Text: fmt.Sprint("reload ", k)})
		r.Add(overview.Event{Time: time.Unix(int64(k), 0), Kind: overview.OperatorEvent, Text: fmt.Sprint("deed ", k)})
	}
	for k := range 5000 {
		r.Add(overview.Event{Time: time.Unix(int64(100+k), 0), Kind: overview.NodeEvent, Text: fmt.Sprint("lost ", k)})
	}
	all := overview.Newest(1000, r)
	if len(all) != overview.MaxEvents || all[0].Text != "lost 4999" {
		t.Errorf("%d events, the newest %+v", len(all), all[0])
	}
	for _, kind := range []string{overview.ConfigEvent, overview.OperatorEvent} {
		if got := overview.OfKind(kind, 100, all); len(got) != 20 {
			t.Errorf("%d events of the kind %s are left of 20", len(got), kind)
		}
	}
	if got := overview.OfKind(overview.ConfigEvent, 3, all); len(got) != 3 || got[0].Text != "reload 19" {
		t.Errorf("%+v", got)
	}
	if got := overview.OfKind("", 5, all); len(got) != 5 {
		t.Errorf("%d events of all kinds", len(got))
	}
}

// TestManyEventsHideNoChange: a state has the last 50 changes of the topology and the configuration, however many other
// events there are, and the last 50 of these.
func TestManyEventsHideNoChange(t *testing.T) {
	p := newPool(t, 1, 1)
	kinds := [2][]string{
		{overview.NodeEvent, overview.OperatorEvent, overview.ProcessEvent}, // 0 to 239, the newest first
		{overview.TopologyEvent, overview.ConfigEvent},
	}
	s := overview.NewSampler(overview.Options{
		Source: p, Table: func() *router.Table { return p.table }, Now: func() time.Time { return p.now },
		About: func() overview.About { return p.about }, Memory: func() int64 { return 5 << 20 },
		Events: func(count int) (all []overview.Event) {
			for i := range min(count, 300) {
				of := kinds[i/240]
				all = append(all, overview.Event{Kind: of[i%len(of)], Text: fmt.Sprint(i)})
			}
			return all
		},
	})
	var got, want []string
	for _, e := range s.State().Events {
		got = append(got, e.Text)
	}
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
	}
	for i := range 50 {
		want = append(want, fmt.Sprint(240+i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestLogLinesAreEvents: a line of the log about a change is an event, whatever the log's level; other lines are
// none, and go on to the log.
func TestLogLinesAreEvents(t *testing.T) {
	var out bytes.Buffer
	r := new(overview.Recorder)
	log := slog.New(r.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("pool", "a")
	log.Info("configuration changed", "key", "reads", "from", "master", "to", "nearest", "after", 1500*time.Millisecond)
	log.Warn("node unreachable", "node", "b", "reason", "connection refused")
	log.Warn("client refused", "reason", "rate")
	log.Info("node reachable again", "node", "b")
	log.Debug("topology changed")
	log.Warn("keys lie on another node than the layout says, so clients do not find them", "examples", "a secret key")
	got := ""
	for _, e := range overview.Newest(10, r) {
		got += fmt.Sprintln(e.Kind, e.Bad, e.Text, e.Fields)
	}
	const want = "keys true keys lie on another node than the layout says, so clients do not find them [pool=a]\n" +
		"node false node reachable again [pool=a node=b]\n" +
		"node true node unreachable [pool=a node=b reason=connection refused]\n" +
		"config false configuration changed [pool=a key=reads from=master to=nearest after=1.5s]\n"
	if got != want {
		t.Errorf("%s", got)
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 3 || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%s", out.String())
	}
}

// TestEventsAreLogged: each line that is to be an event is one that keyway writes.
func TestEventsAreLogged(t *testing.T) {
	var sources strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "test" || d.Name() == "overview") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			text, err := os.ReadFile(path)
			sources.Write(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range overview.LoggedMessages() {
		if !strings.Contains(sources.String(), `"`+message) {
			t.Errorf("nobody logs %q", message)
		}
	}
}
