package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestSlowLog: slow commands of all threads are in SLOWLOG, with their clients.
func TestSlowLog(t *testing.T) {
	k, nodes := threeThreads(t, "slowlog: {slower_than: 200ms, entries: 3}\n")
	c := k.Dial()
	c.Expect("0", "SLOWLOG", "LEN")
	c.Expect("[]", "SLOWLOG", "GET")
	runSlowCommands(k)
	c.Expect("nothing slow", "ECHO", "nothing slow")
	n := c.MustDo("SLOWLOG", "LEN").Int
	if n < 3 || n > 4 { // three of each thread
		t.Errorf("%d slow commands", n)
	}
	entries := c.MustDo("SLOWLOG", "GET", "-1").Elems
	if len(entries) != int(n) {
		t.Fatalf("%d entries", len(entries))
	}
	ids := map[int64]bool{}
	for _, e := range entries {
		id, at, micros, args, addr, name := e.Elems[0], e.Elems[1], e.Elems[2], e.Elems[3], e.Elems[4], e.Elems[5]
		if ids[id.Int] || time.Since(time.Unix(at.Int, 0)).Abs() > time.Minute ||
			micros.Int < 250_000 || micros.Int > 60_000_000 ||
			args.Elems[0].Text != "EVAL" || !strings.HasSuffix(args.Elems[4].Text, "... (72 more bytes)") ||
			!strings.HasPrefix(addr.Text, "127.0.0.1:") || name.Text != "tortoise" {
			t.Errorf("%s", e)
		}
		ids[id.Int] = true
	}
	if got := len(c.MustDo("SLOWLOG", "GET", "1").Elems); got != 1 {
		t.Errorf("SLOWLOG GET 1 gives %d", got)
	}
	c.Expect("OK", "SLOWLOG", "RESET")
	redistest.Eventually(t, 20*time.Second, "the slow log is empty", func() bool {
		return c.MustDo("SLOWLOG", "LEN").Int == 0
	})
	// If a node hangs, SLOWLOG names the command that waited for it.
	keys, victim := apart(t, k, nodes), ""
	nodes[0].Freeze()
	defer nodes[0].Thaw()
	for _, key := range keys {
		if r := c.Do("GET", key); r.Kind == '-' {
			victim = key
		}
	}
	if text := c.MustDo("SLOWLOG", "GET").String(); victim == "" || !strings.Contains(text, "GET "+victim) {
		t.Errorf("SLOWLOG does not name %q: %s", victim, text)
	}
	c.Expect("-ERR count should be greater than or equal to -1", "SLOWLOG", "GET", "-2")
}

// runSlowCommands runs four scripts of 300 ms.
func runSlowCommands(k *redistest.Keyway) {
	for i := range 4 {
		c := k.Dial()
		c.MustDo("CLIENT", "SETNAME", "tortoise")
		c.MustDo("EVAL", redistest.BusyScript(300*time.Millisecond), "1", fmt.Sprint(i), strings.Repeat("x", 200))
	}
}

// TestLatencyOfAllThreads: slow commands of all threads are events of LATENCY, and HISTOGRAM has all
// commands.
func TestLatencyOfAllThreads(t *testing.T) {
	k, _ := threeThreads(t, "slowlog: {slower_than: 200ms}\n")
	c := k.Dial()
	c.Expect("[]", "LATENCY", "LATEST")
	runSlowCommands(k)
	latest := c.MustDo("LATENCY", "LATEST").Elems
	if len(latest) != 1 || latest[0].Elems[0].Text != "command" || latest[0].Elems[3].Int < 250 {
		t.Errorf("LATENCY LATEST: %v", latest)
	}
	if h := c.MustDo("LATENCY", "HISTORY", "command").Elems; len(h) == 0 || h[0].Elems[1].Int < 250 {
		t.Errorf("LATENCY HISTORY: %v", h)
	}
	c.Expect("[]", "LATENCY", "HISTORY", "fork")
	if text := c.MustDo("LATENCY", "DOCTOR").Text; !strings.Contains(text, "the worst of all") {
		t.Errorf("%q", text)
	}
	text := c.MustDo("LATENCY", "GRAPH", "command").Text
	if !strings.Contains(text, "command - high") || !strings.Contains(text, "#") {
		t.Errorf("%q", text)
	}
	c.Expect("-ERR No samples available for event 'fork'", "LATENCY", "GRAPH", "fork")
	c.Expect("1", "LATENCY", "RESET")
	c.Expect("0", "LATENCY", "RESET", "command")
	c.MustDo("GET", "x")
	h := c.MustDo("LATENCY", "HISTOGRAM", "get", "eval", "nosuch").Elems
	if len(h) != 4 || h[0].Text+h[2].Text != "evalget" && h[0].Text+h[2].Text != "geteval" {
		t.Errorf("LATENCY HISTOGRAM: %v", h)
	}
	for i := 1; i < len(h); i += 2 {
		e := h[i].Elems
		buckets := e[3].Elems
		if e[0].Text != "calls" || e[1].Int == 0 || e[2].Text != "histogram_usec" ||
			buckets[len(buckets)-1].Int != e[1].Int {
			t.Errorf("%s", h[i])
		}
	}
}

// TestConfigSetChangesKeyway: where CONFIG is allowed, its settings of SLOWLOG, LATENCY and
// statistics also apply to keyway itself, on all threads.
func TestConfigSetChangesKeyway(t *testing.T) {
	k, nodes := threeThreads(t, "slowlog: {slower_than: 1h}\ncommands: {allow: [config]}\n")
	c := k.Dial()
	slow := func() {
		for range 6 { // on whichever threads
			k.Dial().MustDo("EVAL", redistest.BusyScript(3*time.Millisecond), "1", "k")
		}
	}
	slow()
	c.Expect("0", "SLOWLOG", "LEN")
	c.Expect("OK", "CONFIG", "SET", "slowlog-log-slower-than", "2000")
	slow()
	if n := c.MustDo("SLOWLOG", "LEN").Int; n < 6 {
		t.Errorf("SLOWLOG LEN %d", n)
	}
	c.Expect("[]", "LATENCY", "LATEST")
	c.Expect("OK", "CONFIG", "SET",
		"latency-monitor-threshold", "1", "slowlog-log-slower-than", "-1", "slowlog-max-len", "1")
	if n := c.MustDo("SLOWLOG", "LEN").Int; n > 3 {
		t.Errorf("SLOWLOG LEN %d with one entry for each thread", n)
	}
	c.Expect("OK", "SLOWLOG", "RESET")
	slow()
	c.Expect("0", "SLOWLOG", "LEN")
	if n := len(c.MustDo("LATENCY", "LATEST").Elems); n != 1 {
		t.Errorf("LATENCY LATEST has %d events", n)
	}
	c.Expect("OK", "CONFIG", "SET", "slowlog-max-len", "0", "slowlog-log-slower-than", "0")
	slow()
	c.Expect("0", "SLOWLOG", "LEN")

	// What a node refuses changes nothing.
	c.Expect("OK", "CONFIG", "SET", "slowlog-max-len", "100", "slowlog-log-slower-than", "-1")
	nodes[1].Do("CONFIG", "SET", "maxmemory", "1")
	if r := c.Do("CONFIG", "SET", "slowlog-log-slower-than", "0", "no-such-setting", "1"); r.Kind != '-' {
		t.Errorf("%s", r)
	}
	slow = func() { k.Dial().MustDo("GET", "k") }
	slow()
	c.Expect("0", "SLOWLOG", "LEN")
	if r := c.Do("CONFIG", "SET", "slowlog-log-slower-than", "x"); !strings.HasPrefix(r.Text, "ERR CONFIG SET failed") {
		t.Errorf("%s", r)
	}

	resetStatistics(t, k, c)
}

// resetStatistics: CONFIG RESETSTAT resets what clients see, and not the metrics.
func resetStatistics(t *testing.T, k *redistest.Keyway, c *redistest.Client) {
	t.Helper()
	c.Expect("OK", "CONFIG", "RESETSTAT")
	text := c.MustDo("INFO", "stats").Text
	if !strings.Contains(text, "\r\ntotal_commands_processed:1\r\n") ||
		!strings.Contains(text, "\r\ntotal_connections_received:0\r\n") {
		t.Errorf("%q", text)
	}
	if h := c.MustDo("LATENCY", "HISTOGRAM").Elems; len(h) != 4 { // CONFIG RESETSTAT and INFO
		t.Errorf("LATENCY HISTOGRAM after CONFIG RESETSTAT: %v", h)
	}
	accepted := uint64(0)
	for _, thread := range k.Snapshot() {
		accepted += thread.Accepted
	}
	if accepted < 20 {
		t.Errorf("the metrics count %d connections", accepted)
	}
}

// TestSlowLogKeepsSecrets: the value of a CONFIG SET may be a password, so it is not shown.
func TestSlowLogKeepsSecrets(t *testing.T) {
	nodes := redistest.Three(t)
	yaml := redistest.Layouts(nodes)["ring"] + "slowlog: {slower_than: 1ns}\ncommands: {allow: [config]}\n"
	c := redistest.Serve(t, yaml).Ready().Dial()
	c.Expect("OK", "CONFIG", "SET", "masterauth", "hunter2")
	if text := c.MustDo("SLOWLOG", "GET").String(); strings.Contains(text, "hunter2") ||
		!strings.Contains(text, "[CONFIG SET (redacted) (redacted)]") {
		t.Errorf("%s", text)
	}
}

func TestConfigGet(t *testing.T) {
	node := redistest.Start(t, "--masterauth", "hunter3")
	node.Do("CONFIG", "SET", "requirepass", "hunter2")
	k := redistest.Serve(t, "backend: {password: hunter2}\n"+redistest.Ring(node.Addr)).Ready()
	for _, protocol := range []string{"2", "3"} {
		c := k.Dial()
		c.MustDo("HELLO", protocol)
		c.Expect("[maxmemory-policy noeviction]", "CONFIG", "GET", "maxmemory-policy")
		c.Expect("[requirepass ]", "CONFIG", "GET", "requirepass")
		all := c.MustDo("CONFIG", "GET", "*")
		if text := all.String(); strings.Contains(text, "hunter") || len(all.Elems) < 200 ||
			(all.Kind == '%') != (protocol == "3") {
			t.Errorf("%s", text)
		}
	}
	for _, command := range []string{"SET maxmemory 1", "REWRITE", "RESETSTAT"} {
		if r := k.Dial().Do(strings.Fields("CONFIG " + command)...); !strings.Contains(r.Text, "commands.allow") {
			t.Errorf("CONFIG %s: %s", command, r)
		}
	}
}
