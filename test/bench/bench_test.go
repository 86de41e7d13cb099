package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var (
	measure = flag.Bool("measure", false, "measure keyway and twemproxy")
	rounds  = flag.Int("rounds", 7, "rounds of each workload")
	update  = flag.Bool("update", false, "rewrite the table in README.md and docs/performance.svg")
)

// workload is a call of redis-benchmark.
type workload struct {
	args     string
	requests int
}

var workloads = []workload{
	{"-t get -c 1", 30_000},
	{"-t get -c 50", 80_000},
	{"-t get -c 500", 80_000},
	{"-t get -c 50 -P 16", 600_000},
	{"-t get -c 50 -P 100", 1_000_000},
	{"-c 50 LRANGE mylist 0 599", 20_000},
	{"-c 50 -P 16 LRANGE mylist 0 599", 30_000},
}

// result is what a workload costs, in processor time for each request.
type result struct {
	workload
	keyway, twemproxy time.Duration // medians
	ratio             float64       // median of the rounds' ratios
	low, high         float64       // their quartiles
}

// TestAgainstTwemproxy measures both proxies in front of the same three nodes. They take
// turns within each round, and ratios are taken round by round, because a machine's speed
// changes. make bench pins all processes to one core.
func TestAgainstTwemproxy(t *testing.T) {
	if !*measure {
		t.Skip("make bench measures")
	}
	t.Cleanup(redistest.RemoveBuilt)
	nodes := redistest.Three(t)
	keyway := redistest.ServeProcess(t, "layout: ring\nring: {hash: fnv1a_64}\nthreads: 1\n"+redistest.NodesYAML(nodes))
	proxies := []*redistest.Process{twemproxy(t, nodes), keyway}
	load(t, keyway.Addr)
	var results []result
	for _, w := range workloads {
		r := compare(t, w, proxies)
		t.Logf("%-32s keyway %8v, twemproxy %8v a request: %.2f [%.2f %.2f]",
			w.args, r.keyway, r.twemproxy, r.ratio, r.low, r.high)
		results = append(results, r)
	}
	t.Log(machine(t))
	if *update {
		write(t, results)
	}
}

// twemproxy starts twemproxy in front of the nodes. It places keys as the ring does.
func twemproxy(t *testing.T, nodes []*redistest.Node) *redistest.Process {
	t.Helper()
	if _, err := exec.LookPath("nutcracker"); err != nil {
		t.Fatal("twemproxy is not installed; install it with: apt-get install -y nutcracker (Debian)")
	}
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	yml := "p:\n  listen: " + addr + "\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  servers:\n"
	for i, n := range nodes {
		yml += fmt.Sprintf("   - %s:1 %c\n", n.Addr, 'a'+i)
	}
	p := redistest.StartCommand(t, "nutcracker", "-c", redistest.WriteFile(t, "nutcracker.yml", yml),
		"-s", strconv.Itoa(redistest.FreePort(t)), "-m", "16384")
	p.Addr = addr
	p.Answers()
	return p
}

// load writes the keys that the workloads read.
func load(t *testing.T, addr string) {
	t.Helper()
	c := redistest.Dial(t, addr)
	const batch = 1000
	value := strings.Repeat("x", 64)
	for i := range 100 {
		for k := range batch {
			c.Send("SET", fmt.Sprintf("key:%012d", i*batch+k), value)
		}
		c.Flush()
		for range batch {
			if _, err := c.Receive(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 600 {
		c.MustDo("RPUSH", "mylist", "xxx")
	}
}

// compare runs a workload through twemproxy and keyway in turn.
func compare(t *testing.T, w workload, proxies []*redistest.Process) result {
	t.Helper()
	costs := make([][]float64, len(proxies))
	for round := range *rounds + 1 {
		for i := range proxies {
			at := (i + round) % len(proxies)
			p := proxies[at]
			before := p.CPU()
			run(t, w, p.Addr)
			if round > 0 { // the first only warms up
				costs[at] = append(costs[at], float64(p.CPU()-before)/float64(w.requests))
			}
		}
	}
	by, of := costs[0], costs[1]
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = of[i] / by[i]
	}
	return result{
		workload: w, keyway: time.Duration(quantile(of, 2)), twemproxy: time.Duration(quantile(by, 2)),
		ratio: quantile(ratios, 2), low: quantile(ratios, 1), high: quantile(ratios, 3),
	}
}

// run sends one workload to a proxy.
func run(t *testing.T, w workload, addr string) {
	t.Helper()
	_, port, _ := strings.Cut(addr, ":")
	options, lrange, isLRange := strings.Cut(w.args, " LRANGE ")
	args := []string{"-p", port, "-q", "-n", strconv.Itoa(w.requests), "-d", "64", "-r", "100000"}
	args = append(args, strings.Fields(options)...)
	if isLRange {
		args = append(args, append([]string{"LRANGE"}, strings.Fields(lrange)...)...)
	}
	if out, err := exec.Command("redis-benchmark", args...).CombinedOutput(); err != nil {
		t.Fatalf("redis-benchmark %s: %v\n%s", w.args, err, out)
	}
}

// quantile returns the quarter-th quartile.
func quantile(of []float64, quarter int) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)-1)*quarter/4]
}

// machine describes what was measured, and where.
func machine(t *testing.T) string {
	t.Helper()
	cpu := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(name, "model name") {
			cpu = strings.TrimSpace(model)
		}
	}
	say := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	return strings.Join([]string{cpu, say("uname", "-sr"), runtime.Version(),
		say("redis-server", "--version"), say("nutcracker", "--version")}, "; ")
}
