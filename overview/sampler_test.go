package overview_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

// pool is a pool whose counters a test sets. Its clock begins at 1,000 s.
type pool struct {
	threads []metrics.Snapshot
	table   *router.Table
	about   overview.About
	now     time.Time
	*overview.Sampler
}

func (p *pool) Snapshot(context.Context) ([]metrics.Snapshot, error) {
	shots := make([]metrics.Snapshot, len(p.threads))
	for i := range p.threads {
		shots[i] = metrics.Sum(p.threads[i : i+1]) // a copy
	}
	return shots, nil
}
func (p *pool) Started() time.Time { return time.Unix(0, 0) }
func (p *pool) Stopping() bool     { return false }

// newPool returns a pool with nodes node-0, node-1 and so on that are up.
func newPool(t testing.TB, threads, nodes int) *pool {
	p := &pool{now: time.Unix(1000, 0), about: overview.About{Started: time.Unix(0, 0)}}
	var of []router.Node
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		of = append(of, router.Node{Name: name, Addr: fmt.Sprintf("10.0.0.%d:6379", i), Master: true})
	}
	var err error
	by := router.Hashed{Hash: "crc32", Weights: slices.Repeat([]int{1}, nodes)}
	if p.table, err = router.NewModulo(of, by); err != nil {
		t.Fatal(err)
	}
	for range threads {
		s := metrics.Snapshot{Layout: "modulo", Covered: true}
		s.Counters = metrics.NewStats(command.Count).Counters
		s.Threads = []metrics.Thread{{Index: len(p.threads)}}
		s.Families = make([]metrics.Histogram, len(command.FamilyNames))
		s.Commands = make([]*metrics.Histogram, command.Count)
		for _, n := range of {
			s.Nodes = append(s.Nodes, metrics.Node{Name: n.Name, Addr: n.Addr, Master: true, Up: true})
		}
		p.threads = append(p.threads, s)
	}
	p.Sampler = p.sampler(nil)
	return p
}

func (p *pool) sampler(losses func() []overview.Loss) *overview.Sampler {
	return overview.NewSampler(overview.Options{
		Source: p, Table: func() *router.Table { return p.table }, Now: func() time.Time { return p.now },
		About: func() overview.About { return p.about }, Memory: func() int64 { return 5 << 20 }, Losses: losses,
	})
}

// pass lets a second pass, at whose end a sample is taken.
func (p *pool) pass(t testing.TB) {
	p.now = p.now.Add(time.Second)
	p.Sample(t.Context())
}

// work makes all threads count random work of a second.
func (p *pool) work(r *rand.Rand) {
	for i := range p.threads {
		s := &p.threads[i]
		for range 50 {
			id := r.IntN(20) * 7
			calls := r.Uint64N(10)
			s.Calls[id] += calls
			s.Errors[id] += calls / 3
			for range calls {
				took := int64(math.Exp(r.Float64()*18) * 1000) // 1 us to 65 s
				s.Families[command.FamilyOf[id]].Observe(took)
				if s.Commands[id] == nil {
					s.Commands[id] = new(metrics.Histogram)
				}
				s.Commands[id].Observe(took)
			}
		}
		for u, name := range []string{"app", "batch", metrics.OtherUsers} {
			if len(s.Users) == u {
				s.Users = append(s.Users, metrics.User{Name: name, HasLimits: u == 0})
			}
			of, calls := &s.Users[u], 1+r.Uint64N(50)
			of.Clients, of.Waiting = 1+r.IntN(9), (1+r.IntN(5))*(1-min(u, 1))
			of.Commands += calls + 1
			of.Errors += 1 + calls/3
			of.Latency.ObserveMany(int64(math.Exp(r.Float64()*18)*1000), calls)
		}
		s.NearHits += 1 + r.Uint64N(99)
		s.NearMisses += 1 + r.Uint64N(9)
		s.NotExecuted += r.Uint64N(9)
		s.UnknownOutcome += r.Uint64N(9)
		s.Denied += r.Uint64N(9)
		s.AuthFailures += r.Uint64N(9)
		s.BytesIn += r.Uint64N(1e6)
		s.BytesOut += r.Uint64N(1e6)
		s.Clients = r.IntN(100)
		s.Threads[0].Busy += metrics.Seconds(r.IntN(1e9))
		for n := range s.Nodes {
			s.Nodes[n].InFlight = r.IntN(50)
			s.Nodes[n].BytesIn += 1 + r.Uint64N(1000)
			s.Nodes[n].BytesOut += 1 + r.Uint64N(1000)
			s.Nodes[n].Requests += 1 + r.Uint64N(1000)
			s.Nodes[n].Timeouts += 1 + r.Uint64N(9)
			s.Nodes[n].FailedCommands.NotExecuted += 1 + r.Uint64N(9)
			s.Nodes[n].FailedCommands.UnknownOutcome += r.Uint64N(9)
			s.Nodes[n].Errors.Count([]byte("-ERR wrong\r\n"))
			s.Nodes[n].Errors.Count([]byte("-MOVED 1 a:1\r\n"))
			s.Nodes[n].Latency.ObserveMany(int64(math.Exp(r.Float64()*18)*1000), 1+r.Uint64N(50))
		}
	}
}

// exposition is what /metrics shows, by name and labels.
type exposition map[string]float64

func (p *pool) exposition(t *testing.T) exposition {
	answer := httptest.NewRecorder()
	admin.Handler(p, admin.Options{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	all := exposition{}
	for line := range strings.Lines(answer.Body.String()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(line, "keyway_") {
			continue
		}
		if i := strings.LastIndexByte(line, ' '); i > 0 { // labels may have spaces
			name, value = line[:i], strings.TrimSpace(line[i+1:])
		}
		n, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[name] = n
	}
	return all
}

// sum adds up all series of a metric whose labels contain some text.
func (e exposition) sum(name, label string) (n float64) {
	for series, value := range e {
		if of, labels, _ := strings.Cut(series, "{"); of == name && strings.Contains(labels, label) {
			n += value
		}
	}
	return n
}

// quantile is that of PromQL, computed from what was added to the buckets since before.
func (e exposition) quantile(before exposition, q float64) float64 {
	return e.quantileOf("keyway_command_duration_seconds_bucket", "", before, q)
}

// quantileOf is quantile for a metric, and the series whose labels contain some text.
func (e exposition) quantileOf(name, with string, before exposition, q float64) float64 {
	bound := func(i int) string {
		return fmt.Sprintf("le=%q", strconv.FormatFloat(float64(uint64(1)<<i)/(1<<20), 'g', -1, 64))
	}
	upTo := func(le string) (n float64) {
		for series, value := range e {
			if strings.HasPrefix(series, name+"{") && strings.Contains(series, le) && strings.Contains(series, with) {
				n += value - before[series]
			}
		}
		return n
	}
	rank := q * upTo(`le="+Inf"`)
	low, below := 0.0, 0.0
	for i := range metrics.LatencyBuckets - 1 {
		high, count := float64(uint64(1)<<i)/(1<<20), upTo(bound(i))
		if count >= rank && count > below {
			return low + (high-low)*(rank-below)/(count-below)
		}
		low, below = high, count
	}
	return low
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*(1+math.Abs(a)) }

// TestEveryFigureIsTheMetric: each figure is what Prometheus would compute from /metrics of five seconds ago
// and of now.
func TestEveryFigureIsTheMetric(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 17))
	p := newPool(t, 3, 4)
	p.pass(t)
	var then []exposition
	for range 12 {
		then = append(then, p.exposition(t))
		p.work(r)
		p.pass(t)
	}
	now, before, last := p.exposition(t), then[len(then)-5], then[len(then)-1]
	s := p.State()
	all := append(ofPool(&s, now, before, last), ofParts(&s, now, before)...)
	for _, f := range all {
		if !near(f.got, f.want) || f.want == 0 && !strings.Contains(f.name, "_command") {
			t.Errorf("%s: %v, the metric says %v", f.name, f.got, f.want)
		}
	}
	if len(s.Nodes) != 4 || len(s.Commands) < 15 || len(s.Threads) != 3 || len(s.Errors) != len(classMetrics) ||
		len(s.Users) != 3 {
		t.Errorf("%+v", s)
	}
}

// figure is a figure of a State, and what it should be.
type figure struct {
	name      string
	got, want float64
}

// ofPool returns the figures of the pool as a whole.
func ofPool(s *overview.State, now, before, last exposition) []figure {
	rate := func(name, label string) float64 { return (now.sum(name, label) - before.sum(name, label)) / 5 }
	n := len(s.History.Commands) - 1
	return []figure{
		{"clients", float64(s.Now.Clients), now.sum("keyway_clients", "")},
		{"commands", s.Now.Commands, rate("keyway_commands_total", "")},
		{"errors", s.Now.Errors, rate("keyway_command_errors_total", "")},
		{"hits", s.Now.NearHits, rate("keyway_near_cache_reads_total", `"hit"`)},
		{"misses", s.Now.NearMisses, rate("keyway_near_cache_reads_total", `"miss"`)},
		{"bytes in", s.Now.BytesIn, rate("keyway_client_bytes_total", `"in"`)},
		{"bytes out", s.Now.BytesOut, rate("keyway_client_bytes_total", `"out"`)},
		{"in flight", float64(s.Now.InFlight), now.sum("keyway_node_in_flight", "")},
		{"p50", s.Now.P50, now.quantile(before, 0.5)}, {"p99", s.Now.P99, now.quantile(before, 0.99)},
		{"p99.9", s.Now.P999, now.quantile(before, 0.999)},
		{"history", float64(s.History.Commands[n]), float64(float32(
			now.sum("keyway_commands_total", "") - last.sum("keyway_commands_total", "")))},
		{"history p99", float64(s.History.P99[n]), float64(float32(now.quantile(last, 0.99)))},
		{"history clients", float64(s.History.Clients[n]), now.sum("keyway_clients", "")},
	}
}

// classMetrics has the metric and the label of each class of errors.
var classMetrics = map[string][2]string{
	"not_executed": {"keyway_failed_commands_total", "not_executed"}, "denied": {"keyway_permission_denied_total"},
	"unknown": {"keyway_failed_commands_total", `"unknown"`}, "auth": {"keyway_auth_failures_total"},
	"unknown_command": {"keyway_unknown_commands_total"}, "large_command": {"keyway_large_commands_refused_total"},
}

// ofParts returns the figures of classes of errors, nodes, commands and threads.
func ofParts(s *overview.State, now, before exposition) (all []figure) {
	rate := func(name, label string) float64 { return (now.sum(name, label) - before.sum(name, label)) / 5 }
	for _, c := range s.Errors {
		m := classMetrics[c.Class]
		all = append(all, figure{c.Class, c.PerSecond, rate(m[0], m[1])},
			figure{c.Class + " total", float64(c.Total), now.sum(m[0], m[1])})
	}
	for _, node := range s.Nodes {
		label := fmt.Sprintf("node=%q", node.Name)
		all = append(all, figure{node.Name, float64(node.InFlight), now.sum("keyway_node_in_flight", label)},
			figure{node.Name + " commands", node.Commands, rate("keyway_node_requests_total", label)},
			figure{node.Name + " errors", node.Errors, rate("keyway_node_errors_total", `error="ERR",`+label) +
				rate("keyway_node_failed_commands_total", label)},
			figure{node.Name + " timeouts", node.Timeouts, rate("keyway_node_timeouts_total", label)},
			figure{node.Name + " p99", node.P99,
				now.quantileOf("keyway_node_request_duration_seconds_bucket", label, before, 0.99)},
			figure{node.Name + " in", node.BytesIn, rate("keyway_node_bytes_total", `direction="in",`+label)})
	}
	const durations = "keyway_commands_duration_seconds_bucket"
	calls := 0.0
	for _, c := range s.Commands {
		label := fmt.Sprintf("command=%q", c.Name)
		all = append(all, figure{c.Name, c.Calls, rate("keyway_commands_total", label)},
			figure{c.Name + " errors", c.Errors, rate("keyway_command_errors_total", label)},
			figure{c.Name + "_command p50", c.P50, now.quantileOf(durations, label, before, 0.5)},
			figure{c.Name + "_command p99", c.P99, now.quantileOf(durations, label, before, 0.99)},
			figure{c.Name + " failed_command", float64(c.Failed), now.sum("keyway_command_errors_total", label)},
			figure{c.Name + " total", float64(c.Total), now.sum("keyway_commands_total", label)})
		calls += c.Calls
	}
	for _, u := range s.Users {
		label := fmt.Sprintf("user=%q", u.Name)
		all = append(all, figure{u.Name, float64(u.Clients), now.sum("keyway_user_clients", label)},
			figure{u.Name + " commands", u.Commands, rate("keyway_user_commands_total", label)},
			figure{u.Name + " errors", u.Errors, rate("keyway_user_command_errors_total", label)},
			figure{u.Name + " total", float64(u.Total), now.sum("keyway_user_commands_total", label)},
			figure{u.Name + " failed", float64(u.Failed), now.sum("keyway_user_command_errors_total", label)},
			figure{u.Name + " p50", u.P50,
				now.quantileOf("keyway_user_command_duration_seconds_bucket", label, before, 0.5)},
			figure{u.Name + " p99", u.P99,
				now.quantileOf("keyway_user_command_duration_seconds_bucket", label, before, 0.99)},
			figure{u.Name + " waiting_command", float64(u.Waiting), now.sum("keyway_user_waiting_clients", label)})
	}
	threads, busiest := 0.0, 0.0
	for _, thread := range s.Threads {
		threads += thread.Commands
		label := fmt.Sprintf("thread=\"%d\"", thread.Index)
		busy := rate("keyway_thread_busy_seconds_total", label)
		all, busiest = append(all, figure{"busy " + label, thread.Busy, busy}), max(busiest, busy)
	}
	all = append(all, figure{"busy", s.Now.Busy, busiest})
	return append(all, figure{"by name", calls, s.Now.Commands}, figure{"by thread", threads, s.Now.Commands})
}

// TestSamplesThatAreLate: on a machine without processor time a sample is late, and the next one comes right after
// it. The history must not show the commands of seconds as if they were of that moment.
func TestSamplesThatAreLate(t *testing.T) {
	p := newPool(t, 1, 1)
	p.pass(t)
	for _, d := range []time.Duration{3 * time.Second, 10 * time.Millisecond, 990 * time.Millisecond} {
		p.now = p.now.Add(d)
		p.threads[0].Calls[0] += 100 // those of the second sample were counted before it
		p.threads[0].Nodes[0].Requests += 100
		p.Sample(t.Context())
	}
	s := p.State()
	if got := fmt.Sprint(s.History.Commands); got != "[33.333332 33.333332 33.333332 200]" {
		t.Errorf("history %s", got)
	}
	if s.Now.Commands != 75 || s.Nodes[0].Commands != 75 {
		t.Errorf("%v commands per second, node: %v", s.Now.Commands, s.Nodes[0].Commands)
	}
}

// TestSamplesThatAreMissing: while the threads do not answer, that is the first problem, and State answers all
// the same. Later the history has a point for each second, and no rate counts the pause twice.
func TestSamplesThatAreMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1, 1)
		p.pass(t)
		p.threads[0].Calls[0] += 100
		p.pass(t)
		stuck := overview.NewSampler(overview.Options{
			Source: silent{}, Table: func() *router.Table { return p.table },
			About: func() overview.About { return p.about },
		})
		stuck.Sample(t.Context())
		time.Sleep(2 * time.Second)
		s := stuck.State()
		if len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0].Text, "a thread has not answered for 3 s") {
			t.Errorf("%+v", s.Problems)
		}
		p.now = p.now.Add(9 * time.Second) // without samples
		p.threads[0].Calls[0] += 1000
		p.pass(t)
		s = p.State()
		if got := fmt.Sprint(s.History.Commands); got != "[100 100 100 100 100 100 100 100 100 100 100]" {
			t.Errorf("history %s", got)
		}
		if s.Now.Commands != 100 || len(s.Problems) != 0 {
			t.Errorf("%v commands per second, %+v", s.Now.Commands, s.Problems)
		}
	})
}

type silent struct{}

func (silent) Snapshot(ctx context.Context) ([]metrics.Snapshot, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("reading the counters: %w", ctx.Err())
}

// TestProcessNearItsLimits: a thread that hardly sleeps and memory that is nearly used up are problems.
func TestProcessNearItsLimits(t *testing.T) {
	p := newPool(t, 2, 1)
	p.about.MemoryLimit = 100 << 20
	p.pass(t)
	p.threads[1].Threads[0].Busy += metrics.Seconds(940 * time.Millisecond)
	p.pass(t)
	if got := p.problem(t); got != "" {
		t.Errorf("%q", got)
	}
	p.threads[1].Threads[0].Busy += metrics.Seconds(980 * time.Millisecond)
	p.pass(t)
	if got := p.problem(t); got != "warn  thread 1 is busy 96 % of the time, so its clients wait" {
		t.Errorf("%q", got)
	}
	for range 6 {
		p.pass(t)
	}
	p.about.MemoryLimit = 11 << 19 // the process has 5 MB
	if got := p.problem(t); got != "warn  the process uses 91 % of limits.memory" {
		t.Errorf("%q", got)
	}
}

// TestRunEnds: Run takes a sample a second, and ends with its context.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1, 1)
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer stop()
		sampler := overview.NewSampler(overview.Options{ // with the clock by which Run ticks
			Source: p, Table: func() *router.Table { return p.table }, About: func() overview.About { return p.about },
		})
		sampler.Run(ctx)
		if n := len(sampler.State().History.Commands); n != 10 {
			t.Errorf("%d points, want 10", n)
		}
	})
}

// TestOverviewIsBounded: with 300 nodes, all that is kept takes less than 2 MB, and a State in JSON less than
// 300 KB, also after the history is full and nodes have come and gone.
func TestOverviewIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := newPool(t, 1, 300)
	p.work(r)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 950 {
		p.threads[0].Nodes[i%300].Addr = fmt.Sprintf("10.1.0.%d:%d", i%300, i)
		p.pass(t)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 2<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
	text, err := json.Marshal(p.State())
	if err != nil || len(text) > 300<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if n := len(p.State().History.P99); n != 900 {
		t.Errorf("%d points", n)
	}
}

// BenchmarkState makes the State of 300 nodes with a full history.
func BenchmarkState(b *testing.B) {
	p := newPool(b, 4, 300)
	for range 950 {
		p.pass(b)
	}
	for b.Loop() {
		p.State()
	}
}

// BenchmarkSample takes a sample of 300 nodes and four threads.
func BenchmarkSample(b *testing.B) {
	p := newPool(b, 4, 300)
	for b.Loop() {
		p.pass(b)
	}
}
