package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// traceCollector is a collector of traces.
type traceCollector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*trace.Span
	text  bytes.Buffer // all that was sent
}

func collectTraces(t *testing.T) *traceCollector {
	c := new(traceCollector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := new(collector.ExportTraceServiceRequest)
		if err := proto.Unmarshal(body, request); err != nil || r.URL.Path != "/v1/traces" {
			t.Error(r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.text.Write(body)
		for _, from := range request.ResourceSpans {
			for _, scope := range from.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// commandTrace is the trace of one command: its span, and those below it by their times.
type commandTrace struct {
	*trace.Span
	below []*trace.Span
}

// find waits for a trace whose root span is ok.
func (c *traceCollector) find(t *testing.T, what string, ok func(of commandTrace) bool) (found commandTrace) {
	t.Helper()
	redistest.Eventually(t, 30*time.Second, "there is a trace of "+what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.spans {
			if found = c.of(s); len(s.ParentSpanId) == 0 && ok(found) {
				return true
			}
		}
		return false
	})
	return found
}

func (c *traceCollector) of(root *trace.Span) commandTrace {
	of := commandTrace{Span: root}
	for _, s := range c.spans {
		if bytes.Equal(s.TraceId, root.TraceId) && bytes.Equal(s.ParentSpanId, root.SpanId) {
			of.below = append(of.below, s)
		}
	}
	slices.SortStableFunc(of.below, func(a, b *trace.Span) int {
		return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano)
	})
	return of
}

func (of commandTrace) names() string {
	var names []string
	for _, s := range of.below {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// attribute returns an attribute of a span as a text; empty: it has none.
func attribute(s *trace.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key != key {
			continue
		}
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			return v.StringValue
		case *common.AnyValue_IntValue:
			return fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			return fmt.Sprint(v.BoolValue)
		}
	}
	return ""
}

// took returns the duration of a span.
func took(s *trace.Span) time.Duration { return time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano) }

// within reports whether the spans of a command lie in its own, in order.
func (of commandTrace) within() bool {
	at := of.StartTimeUnixNano
	for _, s := range of.below {
		if s.StartTimeUnixNano < at || s.EndTimeUnixNano < s.StartTimeUnixNano {
			return false
		}
		at = s.StartTimeUnixNano
	}
	return at <= of.EndTimeUnixNano
}

// TestTraceOfACommand: a sampled command has a trace with its node, its client and its times. All slow commands have
// one, sampled or not, and the access log names it. No trace has an argument but the key, and that only if asked for.
func TestTraceOfACommand(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	to, node := collectTraces(t), redistest.Start(t)
	all := fmt.Sprintf("traces: {endpoint: %q, one_in: 1, keys: full}\nslowlog: {slower_than: 1m}\n", to.URL)
	r := startReloadable(t, redistest.Ring(node.Addr), all)
	c := redistest.Dial(t, r.listen)
	began := time.Now()
	c.Expect("OK", "CLIENT", "SETNAME", "shop")
	c.Expect("OK", "SET", "user:1", "a-secret-value")
	c.Expect("a-secret-value", "GET", "user:1")
	c.Do("AUTH", "a-secret-user", "a-secret-password")
	c.Do("EVAL", "return 'a-secret-script'", "1", "user:1", "a-secret-argument")
	c.Do("LPUSH", "user:1", "a-secret-element")
	get := to.find(t, "GET", func(of commandTrace) bool { return of.Name == "GET" && of.names() == "queue node" })
	for key, want := range map[string]string{
		"db.system.name": "redis", "db.operation.name": "GET", "db.namespace": "0", "keyway.key": "user:1",
		"keyway.client.name": "shop", "client.address": "127.0.0.1", "user.name": "default", "keyway.slow": "",
	} {
		if got := attribute(get.Span, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	host, port := attribute(get.below[1], "server.address"), attribute(get.below[1], "server.port")
	if host+":"+port != node.Addr || !get.within() || took(get.Span) > time.Since(began) ||
		time.Unix(0, int64(get.StartTimeUnixNano)).Before(began.Add(-time.Second)) ||
		get.Kind != trace.Span_SPAN_KIND_SERVER {
		t.Errorf("%s:%s, %v", host, port, get)
	}
	wrong := to.find(t, "an error", func(of commandTrace) bool { return of.Name == "LPUSH" && len(of.below) == 2 })
	if attribute(wrong.Span, "db.response.status_code") != "WRONGTYPE" ||
		wrong.Status.Code != trace.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", wrong)
	}
	to.find(t, "AUTH", func(of commandTrace) bool { return of.Name == "AUTH" && len(of.below) == 0 })

	r.reload(fmt.Sprintf("traces: {endpoint: %q, one_in: 0}\naccess_log: {file: access.json, one_in: 0}\n"+
		"slowlog: {slower_than: 500ms}\n", to.URL))
	c.Expect("OK", "SET", "user:1", "a-secret-value")
	c.Do("EVAL", redistest.BusyScript(600*time.Millisecond), "1", "user:2")
	slow := to.find(t, "the slow script", func(of commandTrace) bool {
		return attribute(of.Span, "keyway.slow") == "true" && len(of.below) == 2
	})
	if slow.Name != "EVAL" || slow.names() != "queue node" || took(slow.below[1]) < 500*time.Millisecond ||
		took(slow.Span) < took(slow.below[1]) || attribute(slow.Span, "keyway.key") != "" {
		t.Errorf("%v", slow)
	}
	lines := accessLines(t, filepath.Join(r.dir, "access.json"), func(all []accessLine) bool { return len(all) > 0 })
	if l := lines[0]; len(lines) != 1 || l.Command != "EVAL" || !l.Slow || l.Trace != fmt.Sprintf("%x", slow.TraceId) {
		t.Errorf("the access log: %+v", lines)
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if bytes.Contains(to.text.Bytes(), []byte("a-secret")) || bytes.Contains(to.text.Bytes(), []byte("user:2")) {
		t.Error("too much is in the traces")
	}
}

// TestTraceOfARedirect: the trace of a command whose slot moves has both nodes, and the redirect between them.
func TestTraceOfARedirect(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	to, cluster := collectTraces(t), redistest.NewCluster(t, 3, 0)
	r := startReloadable(t, cluster.SeedsYAML(), fmt.Sprintf("traces: {endpoint: %q, one_in: 1}\n", to.URL))
	c := redistest.Dial(t, r.listen)
	redistest.Eventually(t, 20*time.Second, "keyway knows the nodes", func() bool {
		return c.Do("SET", "moving", "1").Text == "OK"
	})
	slot := cluster.Nodes[0].Do("CLUSTER", "KEYSLOT", "moving").Int
	from := cluster.Owner(0, int(slot))
	target, text := (from+1)%3, strconv.FormatInt(slot, 10)
	cluster.Nodes[target].Do("CLUSTER", "SETSLOT", text, "IMPORTING", cluster.IDs[from])
	cluster.Nodes[from].Do("CLUSTER", "SETSLOT", text, "MIGRATING", cluster.IDs[target])
	c.Expect("1", "INCR", "{moving}absent")
	for _, moved := range []string{"ASK", "MOVED"} {
		got := to.find(t, moved, func(of commandTrace) bool {
			return of.names() == "queue node redirect node" && attribute(of.below[2], "keyway.reason") == moved
		})
		first, second := got.below[1], got.below[3]
		if attribute(first, "error.type") != moved || attribute(first, "keyway.node") != cluster.Nodes[from].Addr ||
			attribute(second, "keyway.node") != cluster.Nodes[target].Addr || !got.within() ||
			attribute(got.Span, "error.type") != "" {
			t.Errorf("%v", got)
		}
		if moved == "MOVED" {
			return
		}
		cluster.Nodes[from].Do("MIGRATE", "127.0.0.1", port(cluster.Nodes[target].Addr), "", "0", "5000",
			"KEYS", "moving")
		for _, i := range []int{target, from} {
			cluster.Nodes[i].Do("CLUSTER", "SETSLOT", text, "NODE", cluster.IDs[target])
		}
		c.Expect("1", "GET", "moving")
	}
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// accessLine has fields of a line of the access log.
type accessLine struct {
	Time       time.Time `json:"time"`
	Client     string    `json:"client"`
	ClientName string    `json:"client_name"`
	Command    string    `json:"command"`
	Key        string    `json:"key"`
	KeyHash    string    `json:"key_hash"`
	BytesIn    int       `json:"bytes_in"`
	BytesOut   int       `json:"bytes_out"`
	Micros     int64     `json:"duration_us"`
	Node       string    `json:"node"`
	Error      string    `json:"error"`
	Slow       bool      `json:"slow"`
	Trace      string    `json:"trace_id"`
}

// accessLines waits until the lines of a file are enough.
func accessLines(t testing.TB, file string, enough func([]accessLine) bool) (all []accessLine) {
	t.Helper()
	redistest.Eventually(t, 30*time.Second, "the access log has the lines", func() bool {
		all = nil
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			var l accessLine
			if json.Unmarshal([]byte(line), &l) != nil {
				return false // it is being written
			}
			all = append(all, l)
		}
		return enough(all)
	})
	return all
}

// TestAccessLog: with one_in: 1 there is a line for each command that clients have sent, with the size of command and
// reply, and without any argument but the key, as configured.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	const n = 500
	a := logAccess(t, "access_log: {file: access.json, one_in: 1, keys: hash}\nthreads: 2\n")
	c := redistest.Dial(t, a.listen)
	c.Expect("OK", "CLIENT", "SETNAME", "shop")
	for i := range n {
		c.Send("SET", fmt.Sprint("user:", i), "a-secret-value")
	}
	c.Flush()
	for range n {
		if reply, err := c.Receive(); err != nil || reply.Text != "OK" {
			t.Fatal(reply, err)
		}
	}
	c.Do("AUTH", "ann", "a-secret-password")
	c.Do("EVAL", "return 'a-secret-script'", "0")
	c.Do("CONFIG", "SET", "requirepass", "a-secret-password")
	c.Do("ACL", "SETUSER", "bob", ">a-secret-password")
	c.Do("a-secret|command", "a-secret-argument")
	c.Do("a-secret", "a-secret-argument") // keyway asks a node first
	c.Do("LPUSH", "user:0", "a-secret-element")
	counts := map[string]int{}
	for _, l := range a.lines(n + 8) {
		counts[l.Command]++
		if l.Command == "SET" && (len(l.KeyHash) != 16 || l.Key != "" || l.ClientName != "shop" || l.BytesOut != 5 ||
			l.BytesIn < len("SETuser:0a-secret-value") || l.Node == "" || l.Error != "") {
			t.Fatalf("%+v", l)
		}
	}
	want := map[string]int{
		"SET": n, "CLIENT SETNAME": 1, "AUTH": 1, "EVAL": 1,
		"CONFIG SET": 1, "ACL SETUSER": 1, "UNKNOWN": 2, "LPUSH": 1,
	}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("lines: %v, want %v", counts, want)
	}
	text, _ := os.ReadFile(a.file)
	if bytes.Contains(text, []byte("a-secret")) || bytes.Contains(text, []byte("user:")) {
		t.Error("too much is in the access log")
	}
	if info, err := os.Stat(a.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestAccessLogFollowsTheFile: the access log may be moved away, a reload changes what it shows, and ends it; one that
// cannot be written is an error of the file.
func TestAccessLogFollowsTheFile(t *testing.T) {
	t.Parallel()
	a := logAccess(t, "access_log: {file: access.json, one_in: 1}\n")
	c := redistest.Dial(t, a.listen)
	c.Expect("OK", "SET", "user:1", "v")
	if l := a.lines(1)[0]; l.Command != "SET" || l.Key != "" || l.KeyHash != "" {
		t.Errorf("%+v", l)
	}
	if err := os.Rename(a.file, a.file+".1"); err != nil {
		t.Fatal(err)
	}
	a.reload("access_log: {file: access.json, one_in: 1, keys: full}\n")
	c.Expect("v", "GET", "user:1")
	if l := a.lines(1)[0]; l.Command != "GET" || l.Key != "user:1" || l.KeyHash != "" {
		t.Errorf("%+v", l)
	}
	a.reload("")
	for range 100 {
		c.Expect("v", "GET", "user:1")
	}
	a.reload("access_log: {file: access.json, one_in: 1, keys: full}\n")
	c.Expect("1", "DEL", "user:1")
	if all := a.lines(2); len(all) != 2 || all[1].Command != "DEL" {
		t.Errorf("the access log has gone on: %+v", all)
	}
	a.text = "access_log: {file: missing/access.json}\n"
	a.write()
	if text := a.refused(); !strings.Contains(text, "access_log.file") ||
		!strings.Contains(text, "let keyway's user write") {
		t.Error(text)
	}
}

// accessed is a keyway with an access log.
type accessed struct {
	*reloadable
	file string
}

// logAccess starts a keyway that writes access.json, if its file says so.
func logAccess(t *testing.T, text string) *accessed {
	t.Helper()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr, redistest.Start(t).Addr), text)
	return &accessed{r, filepath.Join(r.dir, "access.json")}
}

// lines waits for so many lines, besides those of startReloadable, which asks with PING.
func (a *accessed) lines(n int) (all []accessLine) {
	a.t.Helper()
	isOther := func(l accessLine) bool { return l.Command == "PING" }
	accessLines(a.t, a.file, func(found []accessLine) bool {
		all = slices.DeleteFunc(found, isOther)
		return len(all) >= n
	})
	return all
}

// TestNobodyTakesTheTraces: clients do not notice that no collector answers, that one is stuck, and that the access
// log cannot be written; metrics and the log say it.
func TestNobodyTakesTheTraces(t *testing.T) {
	t.Parallel()
	ends := make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ends }))
	t.Cleanup(func() { close(ends); stuck.Close() })
	dead := fmt.Sprintf("http://127.0.0.1:%d", redistest.FreePort(t))
	follow := func(endpoint string) string {
		return fmt.Sprintf("traces: {endpoint: %q, one_in: 1}\n"+
			"access_log: {file: logs/access.json, one_in: 1}\n", endpoint)
	}
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "")
	logs := filepath.Join(r.dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	c := redistest.Dial(t, r.listen)
	for _, endpoint := range []string{dead, stuck.URL} {
		r.reload(follow(endpoint))
		redistest.Eventually(t, 10*time.Second, "the directory is gone", func() bool {
			return os.RemoveAll(logs) == nil // a line may just be written there
		})
		for range 40 {
			for range 200 {
				c.Send("INCR", "n")
			}
			c.Flush()
			for range 200 {
				if reply, err := c.Receive(); err != nil || reply.Kind != ':' {
					t.Fatal(reply, err)
				}
			}
		}
		if err := os.Mkdir(logs, 0o700); err != nil { // a reload refuses a file that cannot be written
			t.Fatal(err)
		}
	}
	r.logs("cannot send traces")
	r.logs("cannot write the access log")
	redistest.Eventually(t, 30*time.Second, "metrics count what is lost", func() bool {
		m := r.answers(http.StatusOK, "GET", "/metrics", "")
		return strings.Contains(m, "keyway_traces_total{result=\"dropped\"} ") &&
			!strings.Contains(m, "keyway_traces_total{result=\"dropped\"} 0\n") &&
			!strings.Contains(m, "keyway_traces_total{result=\"failed\"} 0\n") &&
			!strings.Contains(m, "keyway_access_log_lines_total{result=\"failed\"} 0\n")
	})
}
