package bench

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

const resultsFile = "../../docs/benchmarks.json"

// results is the content of docs/benchmarks.json, of which docs/benchmarks.md, README's table and the plots
// are made.
type results struct {
	Runs   map[string]setting `json:"runs"` // by the time of their beginning
	Rows   []row              `json:"workloads"`
	Curves []curve            `json:"curves"`
	Waits  *latencies         `json:"latency,omitempty"`
}

// setting says where and how a run measured.
type setting struct {
	CPU       string `json:"cpu"`
	Cores     string `json:"cores"` // those that the processes shared
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
	Keyway    string `json:"keyway"`
	Redis     string `json:"redis"`
	Twemproxy string `json:"twemproxy"`
	Command   string `json:"command"`
	Load      string `json:"load"` // of the machine, before
	Rounds    int    `json:"rounds"`
}

// row is what a workload of redis-benchmark costs.
type row struct {
	Args    string   `json:"args"`
	Run     string   `json:"run"`
	Of      string   `json:"of"` // the targets that are compared
	By      string   `json:"by"`
	CPU     ratio    `json:"cpu"`     // of the process, for a request
	Machine ratio    `json:"machine"` // of all that ran on the same cores
	Rate    ratio    `json:"requestsPerSecond"`
	Targets []figure `json:"targets"`
	README  bool     `json:"readme"`
}

// ratio is the median of the rounds' ratios, with their quartiles.
type ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// figure is what was measured of a target: medians of the rounds.
type figure struct {
	Target  string  `json:"target"`
	CPU     float64 `json:"cpuMicros"`
	Machine float64 `json:"machineMicros,omitempty"`
	Rate    float64 `json:"requestsPerSecond"`
	P50     float64 `json:"p50Millis,omitempty"`
	P99     float64 `json:"p99Millis,omitempty"`
}

// curve is what a request costs while one number grows.
type curve struct {
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	X      string  `json:"x"`
	Run    string  `json:"run"`
	Note   string  `json:"note"`
	Points []point `json:"points"`
}

// point is one number of a curve.
type point struct {
	X       int      `json:"x"`
	Growth  ratio    `json:"growth"` // keyway's processor time compared with the first point
	Targets []figure `json:"targets"`
}

// latencyName selects latencies with -only.
const latencyName = "latency"

// latencies is how long requests take that come at random times.
type latencies struct {
	Run      string        `json:"run"`
	Capacity float64       `json:"capacity"` // requests a second
	Loads    []latencyLoad `json:"loads"`
}

// latencyLoad is what was measured at a share of the capacity.
type latencyLoad struct {
	Percent int             `json:"percent"`
	Rate    float64         `json:"requestsPerSecond"`
	Late    float64         `json:"p99LateMicros"` // how late requests left the load
	Targets []latencyFigure `json:"targets"`
}

// latencyFigure has medians of the rounds, in microseconds, and ratios to those of the nodes without a proxy.
type latencyFigure struct {
	Target  string  `json:"target"`
	P50     float64 `json:"p50Micros"`
	P99     float64 `json:"p99Micros"`
	P999    float64 `json:"p999Micros"`
	Over50  ratio   `json:"p50ToDirect"`
	Over99  ratio   `json:"p99ToDirect"`
	Over999 ratio   `json:"p999ToDirect"`
}

// targets returns the names of the curve's targets.
func (c *curve) targets() (names []string) {
	for _, f := range c.Points[0].Targets {
		names = append(names, f.Target)
	}
	return names
}

func readResults(t *testing.T) (r results) {
	t.Helper()
	text, err := os.ReadFile(resultsFile)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// merge replaces what a newer run has measured.
func (r *results) merge(run string, s setting, rows []row, curves []curve, waits *latencies) {
	for _, n := range rows {
		if i := slices.IndexFunc(r.Rows, func(o row) bool { return o.Args == n.Args && o.Of == n.Of }); i >= 0 {
			r.Rows[i] = n
		} else {
			r.Rows = append(r.Rows, n)
		}
	}
	for _, n := range curves {
		if i := slices.IndexFunc(r.Curves, func(o curve) bool { return o.Name == n.Name }); i >= 0 {
			r.Curves[i] = n
		} else {
			r.Curves = append(r.Curves, n)
		}
	}
	if waits != nil {
		r.Waits = waits
	}
	if r.Runs == nil {
		r.Runs = map[string]setting{}
	}
	r.Runs[run] = s
	used := map[string]bool{}
	for _, o := range r.Rows {
		used[o.Run] = true
	}
	for _, o := range r.Curves {
		used[o.Run] = true
	}
	if r.Waits != nil {
		used[r.Waits.Run] = true
	}
	for run := range r.Runs {
		if !used[run] {
			delete(r.Runs, run)
		}
	}
}
