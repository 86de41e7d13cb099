package bench

import (
	"encoding/csv"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// workload is a call of redis-benchmark. A call takes a second or so.
type workload struct {
	args     string
	shown    string // instead of args, if these are long
	requests int
	readme   bool
	variant  *variant // of keyway, which is compared with another instead of twemproxy
}

const aKey = " k:__rand_int__"

var workloads = []workload{
	{args: "-t get -c 1", requests: 20_000, readme: true},
	{args: "-t get -c 50", requests: 50_000, readme: true},
	{args: "-t get -c 500", requests: 50_000, readme: true},
	{args: "-t get -c 50 -P 16", requests: 300_000, readme: true},
	{args: "-t get -c 50 -P 100", requests: 500_000, readme: true},
	{args: "-t set -c 50", requests: 50_000},
	{args: "-t set -c 50 -P 16", requests: 250_000},
	{args: "-t set -c 50 -d 1024", requests: 40_000},
	{args: "-c 50 GET big:16k", requests: 30_000},
	{args: "-c 50 GET big:1m", requests: 1000},
	{args: "-c 50 MGET" + strings.Repeat(aKey, 10), shown: "-c 50 MGET, ten keys", requests: 10_000},
	{args: "-c 50 MSET" + strings.Repeat(aKey+" xxxxxxxx", 10), shown: "-c 50 MSET, ten keys", requests: 10_000},
	{args: "-c 50 LRANGE mylist 0 599", requests: 10_000, readme: true},
	{args: "-c 50 -P 16 LRANGE mylist 0 599", requests: 15_000, readme: true},
	{
		args: "-c 50 EVALSHA " + releaseSHA + " 1 lock:__rand_int__ owner", shown: "-c 50 EVALSHA, release of a lock",
		requests: 30_000,
	},
	{args: "-t ping_mbulk -c 50", requests: 50_000},
	{args: "-t ping_mbulk -c 50 -P 16", requests: 400_000},
	{args: "-t get -c 50 -P 16", requests: 200_000, variant: &secured},
	{args: "-t get -c 50", requests: 50_000, variant: &clustered},
	{args: "-t get -c 50 -P 16", requests: 300_000, variant: &clustered},
	{args: "-t get -c 50", requests: 50_000, variant: &observed},
	{args: "-t get -c 50 -P 16", requests: 300_000, variant: &observed},
	{
		args: "-c 50 EVALSHA " + releaseSHA + " 1 lock:__rand_int__ owner", shown: "-c 50 EVALSHA, release of a lock",
		requests: 30_000, variant: &observed,
	},
}

// The script with which most libraries release a lock, and its SHA-1.
const (
	releaseScript = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`
	releaseSHA    = "b70c2384248f88e6b75b9f89241a180f856ad852"
)

func (w workload) String() string {
	if w.shown != "" {
		return w.shown
	}
	return w.args
}

// prepare writes the keys that the workloads read.
func prepare(t *testing.T, nodes []*redistest.Node, addr string) {
	t.Helper()
	for _, n := range nodes {
		if sha := n.Do("SCRIPT", "LOAD", releaseScript).Text; sha != releaseSHA {
			t.Fatalf("the script is %s", sha)
		}
	}
	c := redistest.Dial(t, addr)
	const batch = 1000
	value := strings.Repeat("x", 64)
	for i := range 100 {
		for k := range batch {
			c.Send("SET", fmt.Sprintf("key:%012d", i*batch+k), value)
		}
		receive(t, c, batch)
	}
	for i := range 100 {
		for k := range batch {
			c.Send("SET", fmt.Sprintf("k:%012d", i*batch+k), value)
		}
		receive(t, c, batch)
	}
	for range 600 {
		c.Send("RPUSH", "mylist", "xxx")
	}
	receive(t, c, 600)
	c.MustDo("SET", "big:16k", strings.Repeat("x", 16<<10))
	c.MustDo("SET", "big:1m", strings.Repeat("x", 1<<20))
}

func receive(t *testing.T, c *redistest.Client, n int) {
	t.Helper()
	c.Flush()
	for range n {
		if r, err := c.Receive(); err != nil || r.Kind == '-' {
			t.Fatal(r, err)
		}
	}
}

// sample is what one call of redis-benchmark has measured.
type sample struct {
	cpu, machine   float64 // microseconds for a request
	rate, p50, p99 float64 // milliseconds
}

// compareTargets runs a workload over the targets in turn, and compares the first two.
func compareTargets(t *testing.T, w workload, targets []target, cores map[string]bool) row {
	t.Helper()
	samples := make([][]sample, len(targets))
	for round := range *rounds + 1 {
		for i := range targets {
			at := (i + round) % len(targets)
			if s := runWorkload(t, w, targets[at], cores); round > 0 { // the first only warms up
				samples[at] = append(samples[at], s)
			}
		}
	}
	r := row{Args: w.String(), Of: targets[0].name, By: targets[1].name, README: w.readme}
	cpu := func(s sample) float64 { return s.cpu }
	machine := func(s sample) float64 { return s.machine }
	rate := func(s sample) float64 { return s.rate }
	r.CPU = ratios(samples[0], samples[1], cpu)
	r.Machine = ratios(samples[0], samples[1], machine)
	r.Rate = ratios(samples[0], samples[1], rate)
	for i, p := range targets {
		r.Targets = append(r.Targets, figure{
			Target: p.name, CPU: median(samples[i], cpu), Machine: median(samples[i], machine),
			Rate: median(samples[i], rate),
			P50:  median(samples[i], func(s sample) float64 { return s.p50 }),
			P99:  median(samples[i], func(s sample) float64 { return s.p99 }),
		})
	}
	return r
}

// runWorkload calls redis-benchmark once.
func runWorkload(t *testing.T, w workload, p target, cores map[string]bool) sample {
	t.Helper()
	host, port, _ := strings.Cut(p.addr, ":")
	args := []string{"-h", host, "-p", port, "--csv", "-n", strconv.Itoa(w.requests), "-r", "100000"}
	if p.authority != "" {
		args = append(args, "--tls", "--cacert", p.authority, "--sni", "localhost")
	}
	if !strings.Contains(w.args, "-d ") {
		args = append(args, "-d", "64")
	}
	args = append(args, strings.Fields(w.args)...)
	before, all := p.cpu(t), machineCPU(t, cores)
	out, err := exec.Command("redis-benchmark", args...).Output()
	used, every := p.cpu(t)-before, machineCPU(t, cores)-all
	lines, parsed := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	if err != nil || parsed != nil || len(lines) != 2 || len(lines[1]) != 8 {
		t.Fatalf("redis-benchmark %s: %v, %v\n%.300s", w.args, err, parsed, out)
	}
	of := func(column int) float64 {
		v, err := strconv.ParseFloat(lines[1][column], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(w.requests) }
	return sample{cpu: each(used), machine: each(every), rate: of(1), p50: of(4), p99: of(6)}
}
