package test

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestHotKeysAreNamed: of the keys of real nodes, one that a client uses for 1 % of the traffic is the first
// in the list after 100,000 commands, with its client and node, over the Redis protocol, as JSON and in the metrics.
func TestHotKeysAreNamed(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\nthreads: 2\n")
	crowd, busy, operator := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	busy.Expect("OK", "CLIENT", "SETNAME", "busy")
	for n := range 1000 { // a thread looks at some 8,000 commands a second, so these give the share to within 0.001
		for i := range 99 {
			crowd.Send("GET", fmt.Sprint("key:", n*99+i))
		}
		busy.Send("SET", "hot", "v")
		crowd.Flush()
		busy.Flush()
		for range 99 {
			if _, err := crowd.Receive(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := busy.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	row := fields(operator.MustDo("KEYWAY", "HOTKEYS", "COUNT", "1").Elems)[0]
	share, _ := strconv.ParseFloat(row["share"], 64)
	if row["key"] != "hot" || math.Abs(share-0.01) > 0.003 || row["client-name"] != "busy" ||
		row["client"] != busy.Conn.LocalAddr().String() || row["share-of-client"] != "1.0000" {
		t.Errorf("%v", row)
	}
	at := slices.IndexFunc(nodes, func(n *redistest.Node) bool {
		return redistest.Dial(t, n.Addr).MustDo("EXISTS", "hot").Int == 1
	})
	if at < 0 || row["node"] != string(rune('a'+at)) {
		t.Errorf("the key is on node %d, and the row says %s", at, row["node"])
	}
	var shown struct{ HotKeys []hotkeys.Row }
	_, text := fetch(t, "http://"+r.admin+"/hotkeys?by=writes&count=5")
	if err := json.Unmarshal([]byte(text), &shown); err != nil || len(shown.HotKeys) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	if h := shown.HotKeys[0]; h.Key != "hot" || h.Writes == 0 || h.Name != "busy" || h.Addr != row["client"] {
		t.Errorf("%+v", h)
	}
	_, text = fetch(t, "http://"+r.admin+"/metrics")
	hottest := metricOf(t, text, "keyway_hottest_key_share")
	if math.Abs(hottest-0.01) > 0.003 || metricOf(t, text, "keyway_hot_keys") > 1 {
		t.Errorf("the metrics say %v", hottest)
	}
}

// metricOf returns the value of a metric without labels.
func metricOf(t *testing.T, text, name string) float64 {
	t.Helper()
	_, rest, _ := strings.Cut(text, "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// fields returns the rows of a reply: maps, of RESP2, in an array.
func fields(rows []redistest.Reply) (all []map[string]string) {
	for _, r := range rows {
		m := map[string]string{}
		for i := 0; i+1 < len(r.Elems); i += 2 {
			m[r.Elems[i].Text] = r.Elems[i+1].String()
		}
		all = append(all, m)
	}
	return all
}

// TestBigKeysAreSeen: keyway names the keys of large values and replies as they pass, from bigkeys.over on, which a
// reload changes. redis-cli finds big and hot keys through keyway in its own way.
func TestBigKeysAreSeen(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	for _, n := range nodes {
		redistest.Dial(t, n.Addr).Expect("OK", "CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
	}
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\nthreads: 2\n")
	writer, reader := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	writer.Expect("OK", "SET", "large", strings.Repeat("v", 3<<20))
	writer.Expect("OK", "SET", "small", strings.Repeat("v", 1000))
	writer.MustDo("APPEND", "grown", strings.Repeat("v", 1<<19))
	writer.MustDo("APPEND", "grown", strings.Repeat("v", 1<<19)) // each is below 1 MB, and the whole is not
	for _, key := range []string{"grown", "small"} {
		reader.MustDo("GET", key)
	}
	got := func() (text string) {
		for _, row := range fields(writer.MustDo("KEYWAY", "BIGKEYS").Elems) {
			text += fmt.Sprintf("%s %s %s %s; ", row["key"], row["kind"], row["bytes"], row["client"])
		}
		return text
	}
	by := func(c *redistest.Client) string { return c.Conn.LocalAddr().String() }
	want := fmt.Sprintf("large value %d %s; ", 3<<20, by(writer)) +
		fmt.Sprintf("grown reply %d %s; ", 1<<20+len("$1048576\r\n\r\n"), by(reader))
	if text := got(); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	r.reload("layout: ring\nthreads: 2\nbigkeys: {over: 1kb}\n")
	writer.Expect("OK", "SET", "small", strings.Repeat("v", 1024))
	if text := got(); text != want+fmt.Sprintf("small value 1024 %s; ", by(writer)) {
		t.Errorf("after the reload: %s", text)
	}
	var shown struct{ BigKeys []bigkeys.Row }
	_, text := fetch(t, "http://"+r.admin+"/bigkeys?count=2")
	err := json.Unmarshal([]byte(text), &shown)
	if err != nil || len(shown.BigKeys) != 2 || shown.BigKeys[0].Key != "large" {
		t.Errorf("%v: %s", err, text)
	}
	_, port, _ := strings.Cut(r.listen, ":")
	for _, option := range []string{"--bigkeys", "--memkeys", "--hotkeys"} {
		out, err := exec.Command("redis-cli", "-p", port, option).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "large") || strings.Contains(string(out), "ERR") {
			t.Errorf("redis-cli %s: %v\n%s", option, err, out)
		}
	}
}
