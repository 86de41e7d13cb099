package slowlog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// frame returns a command as a client sends it.
func frame(args ...string) []byte { return resp.AppendCommand(nil, args...) }

// parsed returns the arguments of a command.
func parsed(t *testing.T, args ...string) command.Args {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next(frame(args...), &resp.DefaultLimits); err != nil || st != resp.Ready {
		t.Fatalf("%q: %v", args, err)
	}
	return p
}

// record records a command that took some milliseconds in the second at.
func record(l *Log, at, ms int64, args ...string) {
	cmd := command.Lookup([]byte(args[0]))
	if len(cmd.Subs) > 0 {
		cmd = cmd.Sub([]byte(args[1]))
	}
	l.Record(Slow{
		Command: cmd, Frame: frame(args...), Took: ms * int64(time.Millisecond),
		At: time.Unix(at, 0), Peer: "peer:1", Name: "me",
	})
}

// TestEntriesOfAllThreads: the entries of all threads have different IDs and come the latest
// first, and each thread keeps its newest ones.
func TestEntriesOfAllThreads(t *testing.T) {
	a, b := New(10*time.Millisecond, 2, 0, 2), New(10*time.Millisecond, 2, 1, 2)
	record(&a, 1, 20, "GET", "gone")
	record(&a, 2, 20, "GET", "a")
	record(&b, 3, 9, "GET", "fast")
	record(&b, 3, 20, "GET", "b")
	record(&a, 4, 20, "GET", "c")
	entry := func(id, at int, key string) string {
		return fmt.Sprintf("*6\r\n:%d\r\n:%d\r\n:20000\r\n%s$6\r\npeer:1\r\n$2\r\nme\r\n", id, at, frame("GET", key))
	}
	all := append(a.Entries(), b.Entries()...)
	want := "*3\r\n" + entry(4, 4, "c") + entry(1, 3, "b") + entry(2, 2, "a")
	if got := string(AppendEntries(nil, all, -1)); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	if got, want := string(AppendEntries(nil, all, 1)), "*1\r\n"+entry(4, 4, "c"); got != want {
		t.Errorf("one: %q\nwant %q", got, want)
	}
	if a.Reset(); a.Len() != 0 || b.Len() != 1 {
		t.Errorf("%d and %d entries", a.Len(), b.Len())
	}
}

// TestEntriesAreBounded: an entry has few and short arguments, and of an admin command none
// that may be a password.
func TestEntriesAreBounded(t *testing.T) {
	l := New(0, 10, 0, 1)
	long := strings.Repeat("x", 200)
	record(&l, 1, 1, "SET", "a", long)
	record(&l, 2, 1, append([]string{"DEL"}, strings.Fields(strings.Repeat("k ", 40))...)...)
	record(&l, 3, 1, "CONFIG", "SET", "requirepass", "hunter2")
	text := string(AppendEntries(nil, l.Entries(), -1))
	for _, want := range []string{
		long[:128] + "... (72 more bytes)\r\n", "*32\r\n$3\r\nDEL\r\n", "... (10 more arguments)\r\n",
		"$6\r\nCONFIG\r\n$3\r\nSET\r\n$10\r\n(redacted)\r\n$10\r\n(redacted)\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %q", want, text)
		}
	}
}

// TestFullLogUsesItsMemoryAgain: a full log allocates nothing for another command, and what was read of it before
// stays as it was.
func TestFullLogUsesItsMemoryAgain(t *testing.T) {
	l := New(0, 3, 0, 1)
	key := func(i int64) string { return strings.Repeat(string(rune('a'+i)), 200) }
	for i := range int64(7) {
		record(&l, i, 1, "SET", key(i), "x")
	}
	keys := func(all []Entry) (shown string) {
		for _, e := range all {
			shown += string(e.args[1][:1])
		}
		return shown
	}
	before := l.Entries()
	if got := keys(before); got != "efg" {
		t.Errorf("the log has %q", got)
	}
	slow := Slow{Command: command.Lookup([]byte("GET")), Frame: frame("GET", key(8)), Took: 1, At: time.Unix(9, 0)}
	if n := testing.AllocsPerRun(100, func() { l.Record(slow) }); n != 0 {
		t.Errorf("%v allocations for a command", n)
	}
	if got := keys(before); got != "efg" {
		t.Errorf("what was read of the log has become %q", got)
	}
	Settings(parsed(t, "CONFIG", "SET", "slowlog-max-len", "2"))(&l)
	record(&l, 10, 1, "SET", key(9), "x")
	if got := keys(l.Entries()); got != "ij" {
		t.Errorf("the shorter log has %q", got)
	}
}

// TestConfigSetChangesTheLog: CONFIG SET changes from when on commands are slow, and how many entries
// there are; other settings change nothing.
func TestConfigSetChangesTheLog(t *testing.T) {
	if Settings(parsed(t, "CONFIG", "SET", "maxmemory", "1", "slowlog-max-len", "many")) != nil {
		t.Error("a change of nothing")
	}
	l := New(time.Second, 10, 0, 1)
	for _, c := range []struct {
		name, value string
		slow, fast  int64
	}{
		{"slowlog-log-slower-than", "20", 20e3, 19e3},
		{"slowlog-log-slower-than", "-1", 1e9, 1e9 - 1}, // the history still has commands of a second
		{"latency-monitor-threshold", "5", 5e6, 5e6 - 1},
		{"slowlog-log-slower-than", "0", 0, -1},
	} {
		Settings(parsed(t, "CONFIG", "SET", c.name, c.value))(&l)
		if !l.IsSlow(c.slow) || l.IsSlow(c.fast) {
			t.Errorf("%s %s: not slow from %d ns on", c.name, c.value, c.slow)
		}
	}
	for range 3 {
		record(&l, 1, 1, "GET", "a")
	}
	if Settings(parsed(t, "CONFIG", "SET", "slowlog-max-len", "1"))(&l); l.Len() != 1 {
		t.Errorf("%d entries", l.Len())
	}
}

// TestHistoryOfAllThreads: the history has the slowest command of each second, whichever
// thread it was on.
func TestHistoryOfAllThreads(t *testing.T) {
	a, b := New(10*time.Millisecond, 2, 0, 2), New(10*time.Millisecond, 2, 1, 2)
	record(&a, 1, 20, "GET", "a")
	record(&a, 1, 40, "GET", "a")
	record(&b, 1, 30, "GET", "a")
	record(&b, 2, 10, "GET", "a")
	record(&b, 3, 9, "GET", "fast")
	h := Merge([]History{a.History(), b.History()})
	if got, want := string(h.AppendSeconds(nil)), "*2\r\n*2\r\n:1\r\n:40\r\n*2\r\n:2\r\n:10\r\n"; got != want {
		t.Errorf("seconds: %q", got)
	}
	if got, want := string(h.AppendLatest(nil)), "*1\r\n*4\r\n$7\r\ncommand\r\n:2\r\n:10\r\n:40\r\n"; got != want {
		t.Errorf("latest: %q", got)
	}
	graph := "command - high 40 ms, low 10 ms (all time high 40 ms)\n" + strings.Repeat("-", 80) + "\n#_\n#_\n#_\n##\n"
	if got := string(h.Graph()); got != graph {
		t.Errorf("%s\nwant %s", got, graph)
	}
	if got := string(h.Report()); !strings.HasPrefix(got, "command: in 2 seconds commands took longer than 10ms; "+
		"on average the worst of such a second took 25 ms, the worst of all 40 ms.\n") {
		t.Errorf("%s", got)
	}
	if !a.ResetHistory() || a.ResetHistory() {
		t.Error("not reset once")
	}
	h = a.History()
	got := string(h.Report())
	if h.Graph() != nil || !strings.HasPrefix(got, "No command has taken longer than 10ms ") {
		t.Errorf("%s", got)
	}
}

// TestHistogramsAddUpThreads: LATENCY HISTOGRAM adds up the threads' counts of the wanted commands,
// which a container includes.
func TestHistogramsAddUpThreads(t *testing.T) {
	get := command.Lookup([]byte("get")).ID
	config := command.Lookup([]byte("config"))
	for _, c := range []struct {
		args []string
		want [3]bool // of GET, CONFIG GET, and commands of modules
	}{
		{nil, [3]bool{true, true, false}},
		{[]string{"get"}, [3]bool{true, false, false}},
		{[]string{"CONFIG"}, [3]bool{false, true, false}},
		{[]string{"config|get", "no-such"}, [3]bool{false, true, false}},
		{[]string{"no-such"}, [3]bool{}},
	} {
		wanted := Wanted(parsed(t, append([]string{"LATENCY", "HISTOGRAM"}, c.args...)...))
		if got := [3]bool{wanted(get), wanted(config.Sub([]byte("get")).ID), wanted(command.LearnedID)}; got != c.want {
			t.Errorf("%q: %v", c.args, got)
		}
	}
	one := metrics.NewStats(command.Count)
	one.Count(get, 3e3, false, new(metrics.UserStats))
	one.Count(get, 9e3, false, new(metrics.UserStats))
	recent := one.Recent(func(int) bool { return true })
	threads := []map[int]metrics.Histogram{recent, recent}
	want := "%1\r\n$3\r\nget\r\n%2\r\n$5\r\ncalls\r\n:4\r\n$14\r\nhistogram_usec\r\n%2\r\n:4\r\n:2\r\n:16\r\n:4\r\n"
	if got := AppendHistograms(nil, resp.V3, threads); !bytes.Equal(got, []byte(want)) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// TestRowsSplitTheTime: /slowlog has the node of a command, and the two parts of its time.
func TestRowsSplitTheTime(t *testing.T) {
	l := New(0, 10, 0, 1)
	l.Record(Slow{
		Command: command.Lookup([]byte("get")), Frame: frame("GET", "k"), Took: int64(30 * time.Millisecond),
		At: time.Unix(1, 0), Node: "a", Queued: int64(10 * time.Millisecond),
	})
	if r := Rows(l.Entries(), 1)[0]; r.Duration != 30_000 || r.Queue != 10_000 || r.AtNode != 20_000 || r.Node != "a" {
		t.Errorf("%+v", r)
	}
}
