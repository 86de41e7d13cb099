package bench

import (
	"encoding/json"
	"flag"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var renew = flag.Bool("renew", false, "rewrite testdata/instructions.json")

const (
	baselineFile = "testdata/instructions.json"
	renewCommand = "go test ./test/bench -run Instructions -args -renew"

	maxGrowth      = 1.05 // compared with the baseline
	maxGrowthOther = 1.25 // if the baseline is of another Go, valgrind or processor
	maxGrowthTLS   = 1.20 // handshakes, which take more or fewer attempts to find a number, add to it
)

// counted are the benchmarks whose instructions are counted: by package, with how often each runs. A process
// has some 100,000 instructions more or less than another, and the handshake of tlsconn some millions, so
// short benchmarks run more often.
var counted = map[string]map[string]int{
	"resp": {"Parser": 50_000, "Scanner": 50_000, "ScanList": 5000},
	"router": {
		"Place/ring_of_3_nodes": 50_000, "Place/ring_of_300_nodes": 50_000,
		"Place/1_rules": 50_000, "Place/10000_rules": 50_000,
	},
	"acl":     {"Check": 50_000},
	"pool":    {"Requests": 2000},
	"proxy":   {"Pipeline16": 600, "Split16": 200},
	"tlsconn": {"Record": 4000},
}

// baseline is the content of testdata/instructions.json.
type baseline struct {
	Environment  string             `json:"environment"`
	Instructions map[string]float64 `json:"instructions"` // of one run
}

// TestInstructions compares the instructions that the hot path's benchmarks take with a baseline. valgrind
// counts them, so the machine's speed and load do not matter. Where it does not run, as on macOS, the tests
// that count allocations remain.
func TestInstructions(t *testing.T) {
	if redistest.Race {
		t.Skip("it builds without the race detector, as make test does")
	}
	if _, err := exec.LookPath("valgrind"); err != nil {
		if runtime.GOOS == "linux" {
			t.Fatal("valgrind is not installed: run scripts/tools")
		}
		t.Skip("valgrind does not run here")
	}
	t.Parallel()
	want, now := readBaseline(t), baseline{Environment: environment(t), Instructions: map[string]float64{}}
	results := make(chan map[string]float64, len(counted))
	t.Run("packages", func(t *testing.T) {
		for _, name := range slices.Sorted(maps.Keys(counted)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				results <- countPackage(t, name, counted[name])
			})
		}
	})
	for range len(results) {
		maps.Copy(now.Instructions, <-results)
	}
	if *renew {
		writeJSON(t, baselineFile, now)
		return
	}
	limit := maxGrowth
	if now.Environment != want.Environment {
		limit = maxGrowthOther
		t.Logf("the baseline is of %s, and this is %s", want.Environment, now.Environment)
	}
	for _, name := range slices.Sorted(maps.Keys(now.Instructions)) {
		compareCounts(t, name, now.Instructions[name], want.Instructions[name], limit)
	}
	t.Run("growth", func(t *testing.T) { growsLittle(t, now.Instructions) })
}

func compareCounts(t *testing.T, name string, now, was, limit float64) {
	t.Helper()
	if name == "tlsconn/Record" {
		limit = max(limit, maxGrowthTLS)
	}
	switch {
	case was == 0:
		t.Errorf("%s has no baseline: %s", name, renewCommand)
	case now > was*limit:
		t.Errorf("%s takes %.0f instructions, %.3f times those of the baseline. Find out why. If it has to: %s",
			name, now, now/was, renewCommand)
	default:
		t.Logf("%-30s %6.0f instructions, %.3f of the baseline", name, now, now/was)
	}
}

// growsLittle checks that a command costs about as much in large layouts as in small ones.
func growsLittle(t *testing.T, counts map[string]float64) {
	t.Helper()
	command := counts["proxy/Pipeline16"] / 16
	for small, large := range map[string]string{
		"router/Place/ring_of_3_nodes": "router/Place/ring_of_300_nodes",
		"router/Place/1_rules":         "router/Place/10000_rules",
	} {
		if more := counts[large] - counts[small]; more > 0.15*command {
			t.Errorf("%s takes %.0f instructions more than %s, which is over 15 %% of a command's %.0f",
				large, more, small, command)
		}
	}
}

// countPackage runs benchmarks of a package. It subtracts what the program takes to run one once, because
// that is mostly preparation.
func countPackage(t *testing.T, name string, benchmarks map[string]int) map[string]float64 {
	t.Helper()
	program := filepath.Join(t.TempDir(), name+".test")
	if out, err := exec.Command("go", "test", "-c", "-o", program, "../../"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	counts := map[string]float64{}
	for b, n := range benchmarks {
		once, more := instructions(t, name, program, b, 1), instructions(t, name, program, b, 1+n)
		counts[name+"/"+b] = math.Round((more - once) / float64(n))
	}
	return counts
}

var instructionsLine = regexp.MustCompile(`I +refs: +([0-9,]+)`)

// instructions runs a benchmark n times in one process, and returns the instructions of the process. Garbage
// is not collected, because that begins sooner or later.
func instructions(t *testing.T, dir, program, benchmark string, n int) float64 {
	t.Helper()
	run := exec.Command("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
		program, "-test.run=xxx", "-test.bench=^Benchmark"+strings.ReplaceAll(benchmark, "/", "$/^")+"$",
		"-test.benchtime="+strconv.Itoa(n)+"x")
	run.Dir = "../../" + dir
	run.Env = append(os.Environ(), "GOGC=off", "GOMAXPROCS=1")
	out, err := run.CombinedOutput()
	m := instructionsLine.FindSubmatch(out)
	if err != nil || m == nil || !strings.Contains(string(out), "ns/op") {
		t.Fatalf("%s of %s has not run: %v\n%s", benchmark, dir, err, out)
	}
	count, err := strconv.ParseFloat(strings.ReplaceAll(string(m[1]), ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// environment names what the counts depend on besides the code.
func environment(t *testing.T) string {
	t.Helper()
	version, err := exec.Command("valgrind", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	model := "processor unknown" // Go's own routines differ by its instructions
	if cpus, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, found := strings.Cut(string(cpus), "model name\t: "); found {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	return strings.Join([]string{runtime.Version(), runtime.GOARCH, strings.TrimSpace(string(version)), model}, " ")
}

func readBaseline(t *testing.T) (b baseline) {
	t.Helper()
	text, err := os.ReadFile(baselineFile)
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil && !*renew {
		t.Fatal(err)
	}
	return b
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
