package test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// stateAt returns what /overview shows.
func stateAt(t *testing.T, adminAddr string) (s overview.State) {
	t.Helper()
	if err := json.Unmarshal([]byte(get(t, "http://"+adminAddr+"/overview")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// eventOf returns the newest event of a kind whose text and fields contain all the words.
func eventOf(t *testing.T, adminAddr, kind string, words ...string) *overview.Event {
	t.Helper()
	var all struct{ Events []overview.Event }
	if err := json.Unmarshal([]byte(get(t, "http://"+adminAddr+"/events")), &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Events {
		text := e.Text + " " + strings.Join(e.Fields, " ")
		ok := e.Kind == kind
		for _, word := range words {
			ok = ok && strings.Contains(text, word)
		}
		if ok {
			return &e
		}
	}
	return nil
}

// keyOfEach returns a key of each node.
func keyOfEach(t *testing.T, addr string, nodes []*redistest.Node) (keys []string) {
	c := redistest.Dial(t, addr)
	for _, n := range nodes {
		for i := 0; len(n.Keys()) == 0; i++ {
			c.MustDo("SET", fmt.Sprint("key:", i), "x")
		}
		keys = append(keys, n.Keys()[0])
	}
	return keys
}

// keepAsking reads a key on each node again and again, each over a connection of its own, until the test ends.
func keepAsking(t *testing.T, addr string, keys []string) {
	stop := make(chan struct{})
	ended := make(chan struct{}, len(keys))
	t.Cleanup(func() {
		close(stop)
		for range keys {
			<-ended
		}
	})
	for _, key := range keys {
		go func() {
			defer func() { ended <- struct{}{} }()
			for {
				redistest.Ask(addr, "GET", key)
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
	}
}

// TestOverview: /overview names the node that is frozen, at the latest two seconds after its first timeout, the
// node that has died, and the change of the configuration.
func TestOverview(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes, adminAddr := redistest.Three(t), freeAddr(t)
	yaml := "threads: 2\nadmin: " + adminAddr + "\nbackend: {request_timeout: 1s, hold: 0s}\n" +
		redistest.Layouts(nodes)["ring"]
	redistest.ServeProcess(t, "instance: other\n"+redistest.Layouts(nodes)["ring"])
	k := redistest.ServeProcess(t, yaml)
	keepAsking(t, k.Addr, keyOfEach(t, k.Addr, nodes))
	redistest.Eventually(t, 10*time.Second, "all nodes are well, and commands are counted", func() bool {
		s := stateAt(t, adminAddr)
		return len(s.Nodes) == 3 && len(s.Problems) == 0 && s.Now.Commands > 10 && s.Now.Clients > 0
	})
	s := stateAt(t, adminAddr)
	if s.Layout != "ring" || len(s.Threads) != 2 || len(s.Keyways) == 0 || !s.Keyways[0].Self || s.Instance == "" ||
		s.Now.Memory == 0 || s.Now.MemoryLimit == 0 || s.Listen[0] != k.Addr || s.Nodes[1].Share == 0 {
		t.Errorf("%+v", s)
	}
	redistest.Eventually(t, 20*time.Second, "the other keyway and the nodes' versions are known", func() bool {
		s := stateAt(t, adminAddr)
		return len(s.Keyways) == 2 && s.Keyways[1].Instance == "other" && s.Keyways[1].Agrees && !s.Keyways[1].Self &&
			s.Nodes[0].Version != "" && s.Nodes[0].Memory > 0
	})
	blames := func(node string) func() bool {
		return func() bool {
			all := stateAt(t, adminAddr).Problems
			return slices.ContainsFunc(all, func(p overview.Problem) bool { return p.Node == node })
		}
	}
	nodes[1].Freeze()
	redistest.Eventually(t, 3*time.Second, "the frozen node is named", blames("b"))
	nodes[1].Thaw()
	nodes[2].Kill()
	redistest.Eventually(t, 3*time.Second, "the dead node is named", blames("c"))
	dead := stateAt(t, adminAddr).Nodes[2]
	e := eventOf(t, adminAddr, "node", "node unreachable", "node=c")
	isShown := dead.State != overview.Ready && dead.Reason != "" && time.Since(dead.Since) < 10*time.Second
	if e == nil || !e.Bad || !isShown {
		t.Errorf("%+v, event %+v", dead, e)
	}
	text := strings.Replace(yaml, "hold: 0s", "hold: 10ms, password: geheim", 1)
	text = "shutdown: {drain: 0s}\nlisten: " + k.Addr + "\n" + text
	if err := os.WriteFile(k.Cmd.Args[len(k.Cmd.Args)-1], []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	outputOf(t, "reload", "--admin", adminAddr, "-c", k.Cmd.Args[len(k.Cmd.Args)-1])
	if eventOf(t, adminAddr, "config", "configuration changed", "key=backend.hold", "from=0s", "to=10ms") == nil ||
		eventOf(t, adminAddr, "config", "reloaded", "cause=keyway reload") == nil {
		t.Errorf("%s", get(t, "http://"+adminAddr+"/events"))
	}
	if all := get(t, "http://"+adminAddr+"/events?count=200"); strings.Contains(all, "geheim") {
		t.Errorf("a password is shown: %s", all)
	}
}

// TestLayoutIsShown: /layout has the layout that is in force as JSON, by which keys are where /route says.
func TestLayoutIsShown(t *testing.T) {
	t.Parallel()
	nodes, adminAddr := redistest.Three(t), freeAddr(t)
	redistest.ServeProcess(t, "admin: "+adminAddr+"\n"+redistest.Layouts(nodes)["slots"])
	var l admin.Layout
	if err := json.Unmarshal([]byte(get(t, "http://"+adminAddr+"/layout")), &l); err != nil {
		t.Fatal(err)
	}
	if l.Type != "slots" || l.Places != 16384 || len(l.Nodes) != 3 || l.Nodes[1].Addr != nodes[1].Addr ||
		l.From != nil {
		t.Errorf("%+v", l)
	}
	for i := range 20 {
		var e router.Explanation
		if err := json.Unmarshal([]byte(get(t, fmt.Sprintf("http://%s/route?key=k%d", adminAddr, i))), &e); err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(l.Spans, func(s admin.LayoutSpan) bool {
			return s.First <= uint64(*e.Slot) && uint64(*e.Slot) <= s.Last
		})
		if at < 0 || l.Spans[at].Node != e.Node {
			t.Errorf("%+v is not in %+v", e, l.Spans)
		}
	}
}

// TestMigratingSlotsAreShown: /layout and the page name the slots that a real cluster moves, as long as it does.
func TestMigratingSlotsAreShown(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	cluster, adminAddr := redistest.NewCluster(t, 3, 0), freeAddr(t)
	redistest.ServeProcess(t, "admin: "+adminAddr+"\n"+cluster.SeedsYAML())
	const slot = 5
	from := cluster.Owner(0, slot)
	to := (from + 1) % 3
	source, target := cluster.Nodes[from], cluster.Nodes[to]
	migrating := func() string {
		var l admin.Layout
		if err := json.Unmarshal([]byte(get(t, "http://"+adminAddr+"/layout")), &l); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(l.Cluster, l.Migrating)
	}
	if got := migrating(); got != "true []" {
		t.Errorf("before: %s", got)
	}
	target.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "IMPORTING", cluster.IDs[from])
	source.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "MIGRATING", cluster.IDs[to])
	want := fmt.Sprintf("true [{%d %s %s}]", slot, source.Addr, target.Addr)
	redistest.Eventually(t, 20*time.Second, "the layout names the slot", func() bool { return migrating() == want })
	words := fmt.Sprintf("The cluster moves slots %d from %s to %s.", slot, source.Addr, target.Addr)
	if text := get(t, "http://"+adminAddr+"/"); !strings.Contains(text, words) {
		t.Errorf("the page does not say %q", words)
	}
	target.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "STABLE")
	source.Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "STABLE")
	redistest.Eventually(t, 20*time.Second, "no slot is on its way", func() bool { return migrating() == "true []" })
}

// list returns the list of a page.
func list(t *testing.T, adminAddr, page, name string) []map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(get(t, "http://"+adminAddr+page)), &all); err != nil {
		t.Fatal(page, err)
	}
	var rows []map[string]any
	for _, row := range all[name].([]any) {
		rows = append(rows, row.(map[string]any))
	}
	return rows
}

// TestWhoIsConnected: /clients, /subscriptions and /slowlog show the clients of all threads, what they listen to, and
// their slow commands, with texts that are valid JSON.
func TestWhoIsConnected(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	adminAddr := freeAddr(t)
	k := redistest.ServeProcess(t, "threads: 2\nslowlog: {slower_than: 1us, entries: 1000}\nadmin: "+adminAddr+"\n"+
		redistest.Ring(node.Addr))
	var all []*redistest.Client
	for i := range 8 {
		c := redistest.Dial(t, k.Addr)
		c.MustDo("CLIENT", "SETNAME", fmt.Sprint("client-", i))
		all = append(all, c)
	}
	for range 20 {
		all[5].MustDo("SET", "\xff\x00\"<script>", "v")
	}
	for i, c := range all[:4] {
		c.MustDo("SUBSCRIBE", "everybody")
		if i < 2 {
			c.MustDo("PSUBSCRIBE", "some\xff*")
		}
	}
	if rows := list(t, adminAddr, "/clients?sort=commands&count=1", "clients"); len(rows) != 1 ||
		rows[0]["name"] != "client-5" || rows[0]["last_command"] != "set" || rows[0]["commands"].(float64) < 21 {
		t.Errorf("%v", rows)
	}
	names := ""
	for _, row := range list(t, adminAddr, "/clients?sort=name", "clients") {
		if name := row["name"].(string); name != "" {
			names += fmt.Sprint(name, row["subscriptions"], row["flags"], " ")
		}
	}
	const want = "client-02P client-12P client-21P client-31P client-40N client-50N client-60N client-70N "
	if names != want {
		t.Errorf("%s\nwant %s", names, want)
	}
	redistest.Eventually(t, 5*time.Second, "the threads know each other's subscribers", func() bool {
		rows := list(t, adminAddr, "/subscriptions", "subscriptions")
		return len(rows) == 2 && fmt.Sprint(rows[0]) == "map[clients:4 kind:channel name:everybody]" &&
			fmt.Sprint(rows[1]) == `map[clients:2 kind:pattern name:"some\xff*"]`
	})
	slow := list(t, adminAddr, "/slowlog?count=200", "slowlog")
	if i := slices.IndexFunc(slow, func(row map[string]any) bool {
		return fmt.Sprint(row["args"]) == `[SET "\xff\x00\"<script>" v]` && row["name"] == "client-5"
	}); i < 0 {
		t.Errorf("%v", slow)
	}
	for page, words := range map[string]string{
		"/clients?sort=colour": "sort must be one of addr,", "/clients?count=-1": "count must be",
		"/slowlog?count=x": "count must be",
	} {
		if status, body := fetch(t, "http://"+adminAddr+page); status != 400 || !strings.HasPrefix(body, words) {
			t.Errorf("%s: %d %s", page, status, body)
		}
	}
}

// TestWhoSendsKeys: of a command that goes to all nodes, the page and its like name the client that has sent it last,
// also if that was quick and the client does something else since.
func TestWhoSendsKeys(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "threads: 2\n")
	for _, name := range []string{"other", "report"} {
		c := redistest.Dial(t, r.listen)
		c.Expect("OK", "CLIENT", "SETNAME", name)
		c.Expect("[]", "KEYS", "no such key")
		c.MustDo("GET", "a")
	}
	redistest.Eventually(t, 20*time.Second, "/overview names the client", func() bool {
		for _, c := range stateAt(t, r.admin).Commands {
			if c.Name == "get" && c.ClientName != "" {
				t.Fatalf("GET does not go to all nodes: %+v", c)
			}
			if c.Name == "keys" {
				return c.ClientName == "report" && strings.HasPrefix(c.Client, "127.0.0.1:") && c.ClientID > 0
			}
		}
		return false
	})
	if page := get(t, "http://"+r.admin+"/"); !strings.Contains(page, "<small>report</small>") {
		t.Error("the page does not name the client")
	}
	if out := outputOf(t, "top", "--once", "--by", "commands", "--admin", r.admin); !strings.Contains(out, "report") {
		t.Errorf("keyway top: %s", out)
	}
}
