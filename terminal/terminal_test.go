package terminal

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/keyway-proxy/keyway/overview"
)

// hostile is a name that somebody may have chosen to confuse an operator.
const hostile = "\x1b[2J\x1b[H evil \u202e\x00\xff" + "long long long long long long long long long long long long name"

// hostileRow has hostile texts and large numbers in all fields of a view.
func hostileRow(v View) Row {
	r := Row{"bad": true, "slow": true, "fields": []any{hostile, hostile}}
	for _, c := range v.columns {
		r[c.field] = hostile
		if c.by != nil {
			r[c.field] = 1.234e12
		}
	}
	return r
}

// TestPagesFit: whatever the names are, a page has at most 80 columns and nothing that steers the terminal.
func TestPagesFit(t *testing.T) {
	for _, k := range keys {
		state := overview.State{
			Pool: hostile, Instance: hostile, Version: "1.2.3", Nodes: []overview.Node{{}},
			Problems: []overview.Problem{{Severity: overview.Bad, Text: hostile, Help: hostile}},
		}
		top := Top{View: k.view, state: state, rows: []Row{hostileRow(k.view), {}}}
		for _, line := range top.page(Width, 0, Style{}) {
			steers := func(r rune) bool { return r < ' ' }
			if utf8.RuneCountInString(line) > Width || strings.ContainsFunc(line, steers) {
				t.Errorf("%s: %q", k.view.Name, line)
			}
		}
		colored := strings.Join(top.page(Width, 0, Style{Colors: true}), "")
		if strings.Contains(colored, "[2J") && !strings.Contains(colored, `\x1b[2J`) {
			t.Errorf("%s: %q", k.view.Name, colored)
		}
		if got := top.page(Width, 5, Style{}); len(got) > 5 {
			t.Errorf("%s: %d lines on a screen of 5", k.view.Name, len(got))
		}
	}
}

// TestRoutesAreSafe: a key cannot steer the terminal, and is quoted once.
func TestRoutesAreSafe(t *testing.T) {
	for text, want := range map[string]string{
		"\x1b[2J": `"\x1b[2J"`, `"\x1b[2J"`: `"\x1b[2J"`, "Zoë": "Zoë", "\"\x07": `"\"\a"`,
	} {
		if got := safe(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestSort: the largest numbers come first, and texts in their order.
func TestSort(t *testing.T) {
	rows := []Row{{"name": "get", "calls_per_second": 5.0}, {"name": "set", "calls_per_second": 7.0}, {"name": "del"}}
	for title, want := range map[string]string{"call/s": "set get del", "command": "del get set"} {
		v, known := Commands.SortedBy(title)
		v.Sort(rows)
		got := rows[0].text("name") + " " + rows[1].text("name") + " " + rows[2].text("name")
		if !known || got != want {
			t.Errorf("by %s: %s", title, got)
		}
	}
	v, _ := Clients.SortedBy("idle")
	if v.Params().Encode() != "sort=idle" || HotKeys.Params().Encode() != "by=commands" {
		t.Errorf("the admin address is asked for %v and %v", v.Params(), HotKeys.Params())
	}
	if _, known := Commands.SortedBy("weight"); known {
		t.Error("commands are sorted by weight")
	}
}

// TestTop: keys choose the view and how it is sorted, and a keyway that does not answer is said to.
func TestTop(t *testing.T) {
	answer := true
	top := Top{View: Nodes, Every: time.Second, Source: func(context.Context, string, url.Values) ([]byte, error) {
		if !answer {
			return nil, context.DeadlineExceeded
		}
		return json.Marshal(map[string]any{
			"version": "1.2.3", "nodes": []Row{{"name": "a", "state": "ready"}},
			"commands": []Row{{"name": "get", "calls_per_second": 5.0, "total": 12345678.0}, {"name": "set"}},
		})
	}}
	page := func() string {
		top.ask(t.Context())
		return strings.Join(top.page(Width, 0, Style{}), "\n")
	}
	if got := page(); !strings.Contains(got, "keyway 1.2.3") || !strings.Contains(got, "NODE") {
		t.Errorf("at first: %s", got)
	}
	top.press('c')
	if got := page(); !strings.Contains(got, "12345678") || !strings.Contains(got, "CALL/S*") {
		t.Errorf("commands: %s", got)
	}
	top.press('s')
	if got := page(); !strings.Contains(got, "ERROR/S*") {
		t.Errorf("sorted by the next column: %s", got)
	}
	answer = false
	never := Top{View: Nodes, Source: top.Source}
	never.ask(t.Context())
	if got := never.page(Width, 0, Style{})[0]; got != "no answer yet: context deadline exceeded" {
		t.Errorf("before the first answer: %s", got)
	}
	got := page()
	if !strings.Contains(got, "no answer for 0s: context deadline exceeded") || !strings.Contains(got, "get") {
		t.Errorf("without an answer: %s", got)
	}
	if !top.press('x') || top.press('q') {
		t.Error("it does not end with q alone")
	}
}

// TestTopOfAnySize: a terminal that says that it has no rows or no columns gets a page of the usual size.
func TestTopOfAnySize(t *testing.T) {
	top := Top{View: Nodes, Source: func(context.Context, string, url.Values) ([]byte, error) {
		return []byte(`{"version":"1.2.3","nodes":[{"name":"a","state":"ready"}]}`), nil
	}}
	top.ask(t.Context())
	usual := top.screen(Width, 24, Style{})
	if !strings.Contains(usual, "keyway 1.2.3") || !strings.Contains(usual, "\x1b[24;1Hn nodes") ||
		!strings.Contains(usual, "q quit") {
		t.Errorf("the usual size: %q", usual)
	}
	for _, size := range [][2]int{{0, 0}, {0, 24}, {Width, 0}} {
		if got := top.screen(size[0], size[1], Style{}); got != usual {
			t.Errorf("of %d columns and %d rows: %q", size[0], size[1], got)
		}
	}
	for _, size := range [][2]int{{1, 1}, {1, 24}, {2, 2}, {Width, 1}} {
		top.screen(size[0], size[1], Style{})
	}
}

// TestNumbers: figures are short, and their unit can be told.
func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(0.25): "0.2", count(12.6): "13", count(1234567): "1235k", count(2.5e10): "25000M",
		size(999): "999 B", size(1 << 20): "1.0 MB", size(70 << 30): "70 GB", latency(0): "-",
		latency(0.00042): "0.42 ms", latency(0.25): "250 ms", latency(12): "12.0 s",
		age(59): "59s", age(3700): "1h01m", age(90061): "25h01m",
		age(1e6): "11d13h", percent(0.5): "50.0 %",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestNarrowPages: a page that is too narrow leaves columns out before it makes names and addresses look equal, and
// then cuts these in the middle. A file gets everything.
func TestNarrowPages(t *testing.T) {
	var rows []Row
	for _, end := range []string{"001", "002"} {
		rows = append(rows, Row{"name": "cache-eu-west-production-node-" + end, "addr": "127.0.1.1:37" + end,
			"state": "ready", "share": 0.003, "timeouts_per_second": 7.0})
	}
	page := strings.Join(Nodes.Lines(rows, Width, Style{}), "\n")
	for _, want := range []string{"node-001  127.0.1.1:37001", "node-002  127.0.1.1:37002", "~", "STATE", "SHARE"} {
		if !strings.Contains(page, want) {
			t.Errorf("lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "TIMEOUT/S") {
		t.Errorf("a column stays that says little:\n%s", page)
	}
	sorted, _ := Nodes.SortedBy("timeout/s")
	if page := sorted.Lines(rows, Width, Style{})[0]; !strings.Contains(page, "TIMEOUT/S*") {
		t.Errorf("the column that sorts is left out: %s", page)
	}
	rows[0]["name"] = strings.Repeat("long", 100)
	page = strings.Join(Nodes.Lines(rows, Unbounded, Style{}), "\n")
	if !strings.Contains(page, rows[0].text("name")) || !strings.Contains(page, "TIMEOUT/S") {
		t.Errorf("a file lacks something: %s", page)
	}
	event := Row{"text": strings.Repeat("words ", 50), "kind": "node"}
	if lines := Events.Lines([]Row{event}, Unbounded, Style{}); len(lines) != 2 {
		t.Errorf("an event in a file has %d lines", len(lines)-1)
	}
}

// TestLatenciesOfCommands: the page of commands has the latencies that the admin address sends.
func TestLatenciesOfCommands(t *testing.T) {
	sent := overview.State{Commands: []overview.Command{{Name: "get", Calls: 5, P50: 0.00042, P99: 0.25}}}
	top := Top{View: Commands, Source: func(context.Context, string, url.Values) ([]byte, error) {
		return json.Marshal(sent)
	}}
	var page strings.Builder
	if err := top.Once(t.Context(), &page, Width, Style{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), "0.42 ms  250 ms") {
		t.Errorf("%s", page.String())
	}
}

// TestOmitted: a list that is cut says how many rows it lacks, and how to see them.
func TestOmitted(t *testing.T) {
	for of, want := range map[[2]int]string{
		{100, 100}: "", {141, 100}: "and 41 more; --count 1000 shows them",
		{2000, 1000}:    "and 1000 more; --count 10000 shows them",
		{20000, 100}:    "and 19900 more; --count 10000 shows the first 10000",
		{20000, 10_000}: "and 10000 more",
	} {
		if got := Omitted(of[0], of[1]); got != want {
			t.Errorf("%d of %d: %q", of[1], of[0], got)
		}
	}
}

// TestStatusShowsUsers: the page of a running keyway has the users with the most commands, and says how many it leaves
// out. A single user is not worth a list.
func TestStatusShowsUsers(t *testing.T) {
	page := func(count int) string {
		s := overview.State{Nodes: []overview.Node{}}
		for i := range count {
			u := overview.User{Name: fmt.Sprintf("user-%d.", i), Commands: float64(1000 + i), Clients: i}
			s.Users = append(s.Users, u)
		}
		answer, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		text, err := Status(&s, answer, Width, Style{})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := page(1); strings.Contains(got, "USER") {
		t.Errorf("of one user: %s", got)
	}
	got := page(50)
	busiest, least := strings.Index(got, "user-49."), strings.Index(got, "user-40.")
	if busiest < 0 || least < busiest || strings.Contains(got, "user-39.") || !strings.Contains(got, "and 40 more") {
		t.Errorf("of 50 users: %s", got)
	}
}
