package page_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/router"
	sample "github.com/keyway-proxy/keyway/test/page"
	"github.com/keyway-proxy/keyway/topology"
)

// get returns the answer of a page to a request for it.
func get(t *testing.T, source page.Source, query string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	page.New(source).ServePage(answer, httptest.NewRequest("GET", "/?"+query, nil), nil)
	if answer.Code != 200 {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	return answer
}

// parse returns all elements of a page, and its text.
func parse(t *testing.T, source page.Source, query string) (elements []*html.Node, text string) {
	t.Helper()
	root, err := html.Parse(get(t, source, query).Body)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for n := range root.Descendants() {
		switch n.Type {
		case html.ElementNode:
			elements = append(elements, n)
		case html.TextNode:
			all.WriteString(n.Data + " ")
		}
	}
	return elements, strings.Join(strings.Fields(all.String()), " ")
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// TestPageIsWholeWithoutScript: the page that the server sends has all figures, in words, for each kind of layout.
func TestPageIsWholeWithoutScript(t *testing.T) {
	for _, table := range []*router.Table{sample.Slots(4), sample.Ring(4), sample.Modulo(4), sample.Ranges()} {
		s := sample.NewSample(4, table)
		s.Change(func(st *overview.State) {
			lag, left, rate := 2.5, int64(900), 30
			st.Now.NearHits, st.Now.NearMisses = 9000, 1000
			st.Problems = []overview.Problem{{Severity: overview.Bad, Text: "node-1 is dead", Help: "Start it."}}
			dead := &st.Nodes[1]
			dead.State, dead.Reason, dead.Since = "down", "connection refused", st.Time.Add(-8*time.Second)
			st.Nodes[2].Slow, st.Nodes[2].SlowReason = true, "7 wait"
			st.Nodes[3].Role, st.Nodes[3].Master, st.Nodes[3].Lag = overview.Replica, "node-0", &lag
			st.Switch = &overview.Switch{Epoch: 9, From: "slots", To: "ring", State: "planned", Left: &left,
				Rate: &rate, Waits: true, Pace: "at most 7 keys/s", PaceBy: "ann at host"}
		})
		_, text := parse(t, s.Source(), "key=user:1")
		for _, want := range []string{
			"Commands/s 48.2 k", "15 min: 40.6 k to 51.6 k", "Latency, p99 1.9 ms", "p50 310 µs p99.9 11.2 ms",
			"Errors/s 0.4", "9,000/s by near_cache, 90 % of the GETs of hot keys",
			"not executed: 0.2/s, 312 in all", "Clients 1,284", "Memory 412 MB", "20.1 % of 2 GB",
			"57 requests in flight",
			table.Name + " layout", "epoch 3", "listens on 10.0.0.4:6380", "up 3 d 1 h", "keyway 1.4.0",
			"Bad: node-1 is dead Start it.", "down connection refused, for 8 s", "slow 7 wait", "replica of node-0",
			"2.5 s",
			"epoch 9: planned", "about 900 keys left, 30 keys in a second: 30 s more",
			"do not move: keyway status says why",
			"Pause keyway pause -c FILE stop moving keys", "keyway rate 1000 -c FILE", "keyway reverse -c FILE",
			"pace: at most 7 keys/s, said by ann at host", "Reload keyway reload -c FILE",
			"level of the log, which is info", "needs the token of admin.token_file",
			"cart:{42} 19.7 %", "10.0.2.17:51022 checkout", "export:2026-11 38 MB",
			"KEYS session:* 212 ms 90 µs node-1 10.0.2.31:60110 report",
			"keys 0.2 180 ms 210 ms 0 41 0 10.0.2.31:60110 report",
			"news channel 31", "lock:invoice held", "worker-3", "get 39.1 k 280 µs 1.7 ms 0 7.81 G 0", "kw-2",
			"checkout 1,204 3 41.2 k 300 µs 1.8 ms 0.1 8.12 G 92", "other users 17 0 12",
			"set 8,904 330 µs 2.1 ms 0.2 1.73 G 316", "Busiest thread 43.5 %", "thread 0 41 % thread 1 43.5 %",
			"14:25:00 5 min ago config the configuration was reloaded timeouts.request: 2s -> 1s",
			"Nov 27 12:30:00 1 d ago node",
			"user:1 lives on",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the page does not say %q", table.Name, want)
			}
		}
		if t.Failed() {
			t.Log(text)
		}
	}
}

// TestPageShowsWhatThereIs: a page of a source that knows figures only has no place for the rest, and one that cannot
// be asked says so.
func TestPageShowsWhatThereIs(t *testing.T) {
	full := sample.NewSample(3, sample.Slots(3)).Source()
	_, text := parse(t, page.Source{State: full.State}, "key=a")
	for _, absent := range []string{"Operate", "Pause", "Hot keys", "Where does", "Locks", "Slow commands"} {
		if strings.Contains(text, absent) {
			t.Errorf("the page has %q", absent)
		}
	}
	full.Clients = func(context.Context, clients.Query) ([]clients.Row, error) {
		return nil, errors.New("a thread <hangs>")
	}
	if _, text = parse(t, full, ""); !strings.Contains(text, "This cannot be read: a thread <hangs>") {
		t.Error("the page does not say why there are no clients")
	}
}

// TestManyDeadNodesAreOneProblem: many nodes that cannot be reached are one box, in which each can be unfolded.
func TestManyDeadNodesAreOneProblem(t *testing.T) {
	s := sample.NewSample(15, sample.Slots(15))
	s.Change(func(st *overview.State) {
		for _, n := range st.Nodes {
			st.Problems = append(st.Problems, overview.Problem{Severity: overview.Bad, Kind: overview.Unreachable,
				Node: n.Name, Text: "node " + n.Name + " cannot be reached: connection refused"})
		}
		st.Problems = append(st.Problems, overview.Problem{Severity: overview.Warn, Text: "something else"})
	})
	body := get(t, s.Source(), "").Body.String()
	_, problems, _ := strings.Cut(body, `<ul class="problems"`)
	problems, _, _ = strings.Cut(problems, `<div id="progress"`)
	for text, want := range map[string]int{"<strong>": 2, "15 nodes cannot be reached: node-0, node-1": 1,
		"node node-14 cannot be reached: connection refused": 1, "<details": 1, "something else": 1} {
		if n := strings.Count(strings.ToLower(problems), text); n != want {
			t.Errorf("%q is %d times in %s", text, n, problems)
		}
	}
}

// TestOrdersOfAChange: the page offers what can be done to a change of the layout in its state, and nothing if it only
// shows.
func TestOrdersOfAChange(t *testing.T) {
	s := sample.NewSample(3, sample.Slots(3))
	for _, c := range []struct {
		of     overview.Switch
		orders string
	}{
		{overview.Switch{State: "moving"}, "switch/pause switch/rate switch/reverse "},
		{overview.Switch{State: "moving", Paused: true}, "switch/resume switch/rate switch/reverse "},
		{overview.Switch{State: "prepared", IsPlanned: true}, "switch/cancel "},
	} {
		s.Change(func(st *overview.State) { st.Switch = &c.of })
		for _, acts := range []bool{true, false} {
			source, orders := s.Source(), ""
			if !acts {
				source.Orders = nil
			}
			elements, text := parse(t, source, "")
			for _, n := range elements {
				if order := attribute(n, "data-order"); strings.HasPrefix(order, "switch/") || !acts {
					orders += order + " "
				}
			}
			if acts && orders != c.orders || !acts && strings.TrimSpace(orders) != "" ||
				acts == strings.Contains(text, "This page only shows.") {
				t.Errorf("%+v, acts: %v: %q", c.of, acts, orders)
			}
		}
	}
}

// TestHostileTexts: whatever keys, clients and nodes are called, the page shows it and obeys none of it.
func TestHostileTexts(t *testing.T) {
	plain, _ := parse(t, sample.NewSample(len(sample.Hostile), sample.Slots(len(sample.Hostile))).Source(), "key=a")
	s := sample.NewSample(len(sample.Hostile), sample.Slots(len(sample.Hostile)))
	s.Change(func(st *overview.State) {
		for i, text := range sample.Hostile {
			n := &st.Nodes[i]
			n.Name, n.Addr, n.Reason, n.State, n.Version = text, text, text, text, text
			st.Commands = append(st.Commands, overview.Command{Name: text})
			st.Keyways = append(st.Keyways, overview.Keyway{Instance: text, Host: text, Version: text})
			st.Events = append(st.Events, overview.Event{Kind: text, Text: text, Fields: []string{text}})
			st.Problems = append(st.Problems, overview.Problem{Text: text, Help: text})
			st.Errors = append(st.Errors, overview.ErrorClass{Class: text, Total: 1})
			st.Listen = append(st.Listen, text)
		}
	})
	for _, key := range append(sample.Hostile, strings.Repeat("<b>", 50_000)) {
		elements, text := parse(t, s.Source(), "key="+url.QueryEscape(key))
		for _, n := range elements {
			if n.Data == "script" && (attribute(n, "src") == "" || n.FirstChild != nil) || n.Data == "img" ||
				n.Data == "b" {
				t.Errorf("%.40q makes an element %s", key, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.Contains(a.Val, "javascript:") {
					t.Errorf("%.40q makes an attribute %s=%q", key, a.Key, a.Val)
				}
			}
		}
		if len(elements) < len(plain) {
			t.Errorf("%.40q hides elements", key)
		}
		if i := strings.IndexFunc(text, func(r rune) bool {
			return r < ' ' || r == '\u202e' ||
				r == '\ufffd'
		}); i >= 0 {
			t.Errorf("%.40q: the page has %q", key, text[i:i+6])
		}
	}
	_, text := parse(t, s.Source(), "")
	for _, want := range []string{sample.Hostile[0], sample.Hostile[1], `\x00\x1b[31mred\a\r\n`,
		`\xff\xfe not UTF-8 \xc3`,
		`right\u202eto left`, sample.Hostile[5], "KB more)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

// TestPageIsWellFormed: every id is there once, what is referred to exists, and tables have heads.
func TestPageIsWellFormed(t *testing.T) {
	elements, _ := parse(t, sample.NewSample(300, sample.Slots(300)).Source(), "")
	ids, rows := map[string]int{}, 0
	for _, n := range elements {
		if id := attribute(n, "id"); id != "" && id != "hatch" {
			ids[id]++
		}
		if n.Data == "th" && attribute(n, "scope") == "" {
			t.Error("a head of a table has no scope")
		}
		if n.Data == "tr" {
			rows++
		}
	}
	for id, count := range ids {
		if count != 1 {
			t.Errorf("%s is there %d times", id, count)
		}
	}
	for _, n := range elements {
		for _, name := range []string{"aria-labelledby", "for"} {
			if id := attribute(n, name); id != "" && ids[id] == 0 {
				t.Errorf("%s=%s, which is not there", name, id)
			}
		}
		if to := attribute(n, "href"); strings.HasPrefix(to, "#") && ids[to[1:]] == 0 {
			t.Errorf("a link to %s, which is not there", to)
		}
	}
	if rows < 300 {
		t.Errorf("%d rows", rows)
	}
}

// TestWhereAKeyLives: the page's answer is that of the table, also for keys that are no text.
func TestWhereAKeyLives(t *testing.T) {
	for _, table := range []*router.Table{sample.Slots(3), sample.Ring(3), sample.Modulo(3), sample.Ranges()} {
		s := sample.NewSample(4, table)
		for asked, key := range map[string]string{"user:1500000": "user:1500000", "": "", "{a}b": "{a}b", "zz": "zz",
			`"\x00\xff"`: "\x00\xff", `"`: `"`, `"a`: `"a`, "a b+c": "a b+c"} {
			_, text := parse(t, s.Source(), "key="+url.QueryEscape(asked))
			if e := table.ExplainKey([]byte(key)); !strings.Contains(text, "lives on "+e.Node+" ("+e.Addr+"):") {
				t.Errorf("%s: the page does not say that %q is on %s", table.Name, asked, e.Node)
			}
		}
	}
	moving := router.Moving(sample.Slots(3), sample.Slots(4))
	_, text := parse(t, sample.NewSample(4, moving).Source(), "key=zz")
	if from := moving.From([]byte("zz")); !strings.Contains(text, "may still be on "+moving.Nodes[from].Name) {
		t.Errorf("the page does not say that the key may be on %d", from)
	}
}

// TestPictureHasAllKeys: the pieces of each picture cover it, and what is drawn is bounded.
func TestPictureHasAllKeys(t *testing.T) {
	for _, c := range []struct {
		table *router.Table
		arcs  bool
		most  int
	}{{sample.Slots(3), false, 3}, {sample.Slots(300), false, 300}, {sample.Modulo(9), false, 10}, {sample.Ring(3),
		true, 1000},
		{sample.Ring(300), true, 1400}, {sample.Modulo(300), false, 1000}, {sample.Ranges(), false, 6}} {
		elements, _ := parse(t, sample.NewSample(4, c.table).Source(), "")
		pieces, width := 0, 0.0
		for _, n := range elements {
			if class := attribute(n, "class"); len(class) != 2 || class[0] != 'c' || attribute(n.Parent,
				"class") == "swatch" {
				continue
			}
			pieces++
			var percent float64
			_, _ = fmt.Sscanf(attribute(n.Parent, "width"), "%f%%", &percent)
			width += percent
		}
		if strips := 1 + width/150; pieces == 0 || pieces > c.most || !c.arcs && (width < 99*float64(int(strips)) ||
			width > 201) {
			t.Errorf("%s: %d pieces of %.1f %% in all", c.table.Name, pieces, width)
		}
	}
}

// TestSlotsOnTheirWay: slots that a cluster moves are hatched in the strip, wide enough to be seen, and named in words.
// The picture follows.
func TestSlotsOnTheirWay(t *testing.T) {
	source := sample.NewSample(3, sample.Slots(3)).Source()
	moved := []topology.Migration{{Slot: 5, From: "10.0.1.1:6379", To: "10.0.1.2:6379"},
		{Slot: 6, From: "10.0.1.1:6379", To: "10.0.1.2:6379"}, {Slot: 16383, From: "10.0.1.3:6379", To: "abc"}}
	source.Migrating = func() []topology.Migration { return moved }
	p := page.New(source)
	look := func() string {
		answer := httptest.NewRecorder()
		p.ServePage(answer, httptest.NewRequest("GET", "/", nil), nil)
		return answer.Body.String()
	}
	text := look()
	for _, want := range []string{
		`<svg x="0.031%" width="0.400%" height="52"><title>slots 5–6 from node-0 to node-1</title><rect class="c1"`,
		`<svg x="99.600%" width="0.400%" height="52"><title>slots 16,383 from node-2 to abc</title><rect class="c-1"`,
		"The cluster moves slots 5–6 from node-0 to node-1; 16,383 from node-2 to abc.", "hatched: keys that move",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if moved = moved[2:]; strings.Contains(look(), "5–6") || !strings.Contains(look(), "moves slots 16,383 from") {
		t.Error("the picture does not follow")
	}
	moved = nil
	if text := look(); strings.Contains(text, "moves slots") || strings.Contains(text, "hatched") {
		t.Error("the picture shows what is over")
	}
}

// TestPageIsProtected: browsers neither run scripts of others in the page nor show it to other sites.
func TestPageIsProtected(t *testing.T) {
	s := sample.NewSample(1, sample.Slots(1))
	head := get(t, s.Source(), "").Header()
	for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'; script-src 'self';",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8"} {
		if !strings.HasPrefix(head.Get(name), want) {
			t.Errorf("%s: %q", name, head.Get(name))
		}
	}
	if cors := head.Get("Access-Control-Allow-Origin"); cors != "" {
		t.Errorf("other sites may read it: %s", cors)
	}
}

// TestAssets: the page refers to its own files only, with their versions.
func TestAssets(t *testing.T) {
	elements, _ := parse(t, sample.NewSample(1, sample.Slots(1)).Source(), "")
	var used []string
	for _, n := range elements {
		for _, name := range []string{"src", "href"} {
			if to := attribute(n, name); to != "" && !strings.HasPrefix(to, "#") {
				used = append(used, "/"+to)
			}
		}
	}
	if len(used) != len(page.Assets()) {
		t.Errorf("the page uses %q", used)
	}
	for _, path := range used {
		answer := httptest.NewRecorder()
		page.ServeAsset(answer, httptest.NewRequest("GET", path, nil))
		name, _, _ := strings.Cut(path, "?")
		if answer.Code != 200 || answer.Body.Len() == 0 || !slices.Contains(page.Assets(), name) ||
			!strings.Contains(answer.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %v", path, answer.Code, answer.Header())
		}
	}
	answer := httptest.NewRecorder()
	if page.ServeAsset(answer, httptest.NewRequest("GET", "/page.html", nil)); answer.Code != http.StatusNotFound {
		t.Errorf("the template is served: %d", answer.Code)
	}
}
