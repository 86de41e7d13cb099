package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var (
	measure = flag.Bool("measure", false, "measure, and write docs/benchmarks.json and what shows it")
	rounds  = flag.Int("rounds", 7, "rounds of each workload and curve")
	only    = flag.String("only", "", "measure only workloads and curves whose name matches this `regexp`")
	beside  = flag.String("beside", "", "measure these too: `NAME=HOST:PORT[:PID],...`")
)

// TestBenchmarks measures keyway beside twemproxy, in front of the same nodes, and how the cost of a request
// grows. make bench pins all processes to the same cores.
func TestBenchmarks(t *testing.T) {
	if !*measure {
		t.Skip("make bench measures")
	}
	t.Cleanup(redistest.RemoveBuilt)
	chosen, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	raiseLimit(t)
	names, cores := coresOfThisProcess(t)
	began := time.Now().UTC().Format("2006-01-02 15:04 UTC")
	where := settingOf(t, names)
	var rows []row
	var curves []curve
	t.Run("workloads", func(t *testing.T) {
		rows = measureWorkloads(t, chosen, cores)
	})
	t.Run("curves", func(t *testing.T) {
		curves = measureCurves(t, chosen)
	})
	var waits *latencies
	if chosen.MatchString(latencyName) {
		t.Run(latencyName, func(t *testing.T) {
			waits = measureLatencies(t)
			waits.Run = began
			for _, l := range waits.Loads {
				t.Logf("%d %%, %.0f requests/s: %+v", l.Percent, l.Rate, l.Targets)
			}
		})
	}
	if t.Failed() {
		return
	}
	for i := range rows {
		rows[i].Run = began
	}
	for i := range curves {
		curves[i].Run = began
	}
	all := readResults(t)
	all.merge(began, where, rows, curves, waits)
	writeJSON(t, resultsFile, all)
	drawAll(t, &all)
}

func measureWorkloads(t *testing.T, chosen *regexp.Regexp, cores map[string]bool) (rows []row) {
	name := func(w workload) string {
		if w.variant != nil {
			return w.variant.name + " " + w.String()
		}
		return w.String()
	}
	left := slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return !chosen.MatchString(name(w)) })
	if len(left) == 0 {
		return nil
	}
	nodes := redistest.Three(t)
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	keyway := startKeyway(t, ringYAML(addrs))
	prepare(t, nodes, keyway.addr)
	for _, w := range left {
		t.Run(name(w), func(t *testing.T) {
			targets := targetsOf(t, w, addrs, keyway)
			r := compareTargets(t, w, targets, cores)
			t.Logf("process %v, machine %v, requests/s %v", r.CPU, r.Machine, r.Rate)
			rows = append(rows, r)
		})
	}
	return rows
}

func targetsOf(t *testing.T, w workload, addrs []string, keyway target) []target {
	t.Helper()
	if w.variant != nil {
		return w.variant.start(t, addrs, keyway)
	}
	return append([]target{keyway, startTwemproxy(t, addrs)}, besideOthers(t)...)
}

func measureCurves(t *testing.T, chosen *regexp.Regexp) (curves []curve) {
	left := slices.DeleteFunc(slices.Clone(measuredCurves), func(m measuredCurve) bool {
		return !chosen.MatchString(m.Name)
	})
	if len(left) == 0 {
		return nil
	}
	e := fill(t, redistest.Three(t))
	for _, m := range left {
		t.Run(m.Name, func(t *testing.T) {
			c := measureCurve(t, e, m)
			for _, p := range c.Points {
				t.Logf("%6d: growth %v; %+v", p.X, p.Growth, p.Targets)
			}
			curves = append(curves, c)
		})
	}
	return curves
}

// raiseLimit lets this process and those that it starts open as many files as they may. Go lowers the limit
// again for processes that a program starts, unless the program has set it.
func raiseLimit(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// coresOfThisProcess returns the cores that this process may use, in words and as /proc/stat names them.
func coresOfThisProcess(t *testing.T) (words string, names map[string]bool) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	names = map[string]bool{}
	for i := range 1024 {
		if set.IsSet(i) {
			names[fmt.Sprintf("cpu%d", i)] = true
		}
	}
	if len(names) == 1 {
		return "one core", names
	}
	return fmt.Sprintf("%d cores", len(names)), names
}

// settingOf describes what is measured, and where.
func settingOf(t *testing.T, cores string) setting {
	t.Helper()
	cpu := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(name, "model name") {
			cpu = strings.TrimSpace(model)
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	command := fmt.Sprintf("make bench ROUNDS=%d", *rounds)
	if *only != "" {
		command += fmt.Sprintf(" ONLY='%s'", *only)
	}
	if *beside != "" {
		command += fmt.Sprintf(" BESIDE='%s'", *beside)
	}
	return setting{
		CPU: cpu, Cores: cores, Kernel: firstLine(t, "uname", "-sr"), Go: runtime.Version(),
		Keyway: firstLine(t, "git", "describe", "--always", "--dirty"),
		Redis:  firstLine(t, "redis-server", "--version"), Twemproxy: firstLine(t, "nutcracker", "--version"),
		Command: command, Load: strings.Fields(string(load))[0], Rounds: *rounds,
	}
}

// firstLine returns the first line that a command prints.
func firstLine(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// ratios returns the median of the rounds' ratios, and the quartiles.
func ratios[S any](of, by []S, value func(S) float64) ratio {
	all := make([]float64, len(of))
	for i := range of {
		if b := value(by[i]); b > 0 {
			all[i] = value(of[i]) / b
		}
	}
	return ratio{Median: quantile(all, 2), Low: quantile(all, 1), High: quantile(all, 3)}
}

func median[S any](of []S, value func(S) float64) float64 {
	all := make([]float64, len(of))
	for i := range of {
		all[i] = value(of[i])
	}
	return quantile(all, 2)
}

// quantile returns the quarter-th quartile.
func quantile(of []float64, quarter int) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)-1)*quarter/4]
}
