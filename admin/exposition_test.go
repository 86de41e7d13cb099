package admin

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/metrics"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/metrics.txt and docs/metrics.md anew")

// twoThreads is a backend of two threads.
type twoThreads struct{}

func (twoThreads) Started() time.Time { return time.Now() }
func (twoThreads) Stopping() bool     { return false }

func (twoThreads) Snapshot(context.Context) ([]metrics.Snapshot, error) {
	var shots []metrics.Snapshot
	for thread := range 2 {
		s := metrics.Snapshot{Layout: "slots", Nodes: make([]metrics.Node, 4)}
		s.Calls, s.Errors = make([]uint64, command.Count), make([]uint64, command.Count)
		s.Families = make([]metrics.Histogram, len(command.FamilyNames))
		get := command.Lookup([]byte("get"))
		s.Calls[get.ID], s.Calls[command.LearnedID], s.Errors[command.LearnedID] = 10, 20, 3
		s.Calls[command.Lookup([]byte("config")).Sub([]byte("get")).ID] = 1
		s.Commands = make([]*metrics.Histogram, command.Count)
		s.Commands[get.ID] = new(metrics.Histogram)
		s.Commands[get.ID].Observe(int64(thread+1) * 4_000_000)
		s.Families[0].Count, s.Families[0].Sum, s.Families[0].Buckets[3] = 7, 70, 7
		fill(reflect.ValueOf(&s).Elem())
		for i := range s.Nodes {
			n := &s.Nodes[i]
			fill(reflect.ValueOf(n).Elem())
			n.Name, n.Addr, n.Master, n.Up = string(rune('a'+i)), "127.0.0.1:1", i < 2, i+thread > 0
			n.Latency, n.Connecting = metrics.Histogram{}, metrics.Seconds(i)*metrics.Seconds(time.Second)
		}
		s.Nodes[1].Up = true
		s.Nodes[0].Latency.Observe(3_000_000)
		s.Nodes[0].Errors.Count([]byte("-LOADING x\r\n"))
		s.Nodes[0].Errors.Count([]byte("-CUSTOM x\r\n"))
		s.Nodes[2].Lag = time.Duration(thread+1) * 1500 * time.Millisecond
		s.Nodes[3].Lag = math.MaxInt64
		s.Nodes = append(s.Nodes, metrics.Node{Name: "unused replica"})
		s.Locks = []metrics.LockNode{
			{Addr: "127.0.0.1:2", Votes: true}, {Addr: "127.0.0.1:3", Votes: thread > 0, Missed: 2},
		}
		s.Locks[0].Took.Observe(3_000_000)
		s.Threads = []metrics.Thread{{Index: thread, Busy: metrics.Seconds(time.Second)}}
		s.Threads[0].Turned(3*time.Millisecond, 1, 1)
		s.Threads[0].Turned(5*time.Microsecond, 300, 2)
		s.Rules = []metrics.LockRule{{Match: "lock:*", Spare: thread}}
		s.Users = []metrics.User{{Name: "app", HasLimits: true, Clients: 3, Commands: 2, Errors: 1, Waiting: 1,
			Waited: metrics.Seconds(3 * time.Second)}, {Name: metrics.OtherUsers, Clients: 1, Commands: 5}}
		s.Users[0].Latency.ObserveMany(3_000_000, 2)
		shots = append(shots, s)
	}
	return shots, nil
}

// fill gives each number of a struct a value of its own, by its name.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		name := fnv.New32()
		name.Write([]byte(v.Type().Field(i).Name))
		switch n := name.Sum32() % 10_000; v.Field(i).Kind() {
		case reflect.Uint64:
			v.Field(i).SetUint(uint64(n))
		case reflect.Int:
			v.Field(i).SetInt(int64(n))
		case reflect.Struct:
			fill(v.Field(i))
		}
	}
}

// lockFigures are the counts of two patterns.
func lockFigures(context.Context) ([]locks.PatternFigures, error) {
	f := locks.Figures{Acquisitions: 3, Refusals: 4, Expired: 5, Lost: 6, ForeignReleases: 7, MissedRenewals: 8}
	f.Hold.Count, f.Hold.Sum, f.Hold.Buckets[1], f.Hold.Buckets[12] = 2, 2049, 1, 1
	return []locks.PatternFigures{{Pattern: "lock:*", Figures: f}, {Pattern: "other"}}, nil
}

// TestExposition: the names, types, help texts and values in /metrics are those of
// testdata/metrics.txt, on which operators' dashboards and alarms rest.
func TestExposition(t *testing.T) {
	guarded := func() []Guarded {
		return []Guarded{{Name: "a", Addr: "127.0.0.1:1", Sampled: 100, Elsewhere: 5, Ratio: 0.05}}
	}
	h := Handler(twoThreads{}, Options{Version: "1.0", Counted: Counted{
		DroppedLines: func() uint64 { return 4 },
		Followed:     func() Followed { return Followed{Outcomes{21, 22, 23}, Outcomes{24, 25, 26}} },
	}, Guarded: guarded,
		Disagreeing: func() int { return 2 }, LockFigures: lockFigures,
		Keys: Keys{HotKeys: func(context.Context, hotkeys.By, int) ([]hotkeys.Row, error) {
			return []hotkeys.Row{{Share: 0.3}, {Share: 0.01}, {Share: 0.009}}, nil
		}},
		Certificates: func() []Certificate { return []Certificate{{"server.crt", time.Unix(1_900_000_000, 0)}} },
		Passwords:    func() []Password { return []Password{{"backend", 7, 2, time.Unix(1_800_000_000, 0)}} },
		InForce:      func() (int64, bool) { return 3, true },
		Switch: func() Switch {
			return Switch{Epoch: 3, State: "moving", Moved: 11, Conflicts: 12, Moves: true, Left: 13, Rate: 14}
		}})
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	var got []string
	for line := range strings.Lines(answer.Body.String()) {
		if strings.Contains(line, "keyway_") && !strings.HasPrefix(line, "keyway_uptime_seconds") {
			got = append(got, line)
		}
	}
	compare(t, "testdata/metrics.txt", got)
	compare(t, "../docs/metrics.md", metricsPage(got))
}

// compare compares lines with those of a file.
func compare(t *testing.T, file string, got []string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(got, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.SplitAfter(string(text), "\n")
	for i, line := range got {
		if i >= len(want) || line != want[i] {
			t.Fatalf("line %d of %s is %qwant %q; make generate", i+1, file, want[min(i, len(want)-1)], line)
		}
	}
	if len(got) != len(want)-1 {
		t.Errorf("%s has %d lines, want %d", file, len(want)-1, len(got))
	}
}

// labelName matches the name of a label.
var labelName = regexp.MustCompile(`([a-z]+)="`)

// metricsPage returns the lines of the page that lists all metrics.
func metricsPage(exposition []string) []string {
	page := []string{"# Metrics\n", "\n", "<!-- Made by make generate. -->\n", "\n",
		"What `/metrics` has, at the [admin address](operations.md#what-to-watch). With several\n",
		"[pools](deploy.md#several-pools) each metric but those of threads and the process\n",
		"has the label `pool`, too. A histogram `x` is the series `x_bucket`, `x_sum` and `x_count`.\n",
		fmt.Sprintf("The label `user` has the first %d users, and all users with limits. The others are counted\n",
			metrics.MaxUsers),
		fmt.Sprintf("together as `%s`, and so is what deleted users did.\n", metrics.OtherUsers),
		"\n", "| metric | type | labels | what it says |\n", "|---|---|---|---|\n",
	}
	for i := 0; i < len(exposition); {
		var name, help, kind string
		var labels []string
		for first := i; i < len(exposition) && (i == first || !strings.HasPrefix(exposition[i], "# HELP ")); i++ {
			line := strings.TrimSpace(exposition[i])
			if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
				name, help, _ = strings.Cut(rest, " ")
			} else if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
				kind = rest[len(name)+1:]
			} else {
				for _, of := range labelName.FindAllStringSubmatch(line, -1) {
					if of[1] != "le" && !slices.Contains(labels, "`"+of[1]+"`") {
						labels = append(labels, "`"+of[1]+"`")
					}
				}
			}
		}
		page = append(page, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), help))
	}
	return page
}

// TestThreadsAreExportedOnce: all pools share the threads, so their figures belong to no pool.
func TestThreadsAreExportedOnce(t *testing.T) {
	pools := func() []Pool { return []Pool{{Name: "a", Backend: twoThreads{}}, {Name: "b", Backend: twoThreads{}}} }
	answer := httptest.NewRecorder()
	PoolsHandler(pools, Options{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	text := answer.Body.String()
	for line, n := range map[string]int{
		"\nkeyway_thread_busy_seconds_total{thread=\"0\"} ": 1, "\nkeyway_thread_busy_seconds_total{": 2,
		"\nkeyway_clients{pool=": 2,
	} {
		if got := strings.Count(text, line); got != n {
			t.Errorf("%d lines %q, want %d", got, line, n)
		}
	}
}
