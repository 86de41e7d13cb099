package bench

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/test/redistest"
)

const (
	latencyClients = 50
	latencyWindow  = 600 * time.Millisecond // of each target at each load in a round
	capacityWindow = 200 * time.Millisecond
	ofNodes        = "direct"
)

var latencyLoads = []int{20, 50, 80} // percent of capacity

// measureLatencies measures how long requests take that come at random times, through each target and straight to
// the nodes. In each round all of them get the same numbers of requests: shares of what keyway answers to
// clients that wait for each reply.
func measureLatencies(t *testing.T) *latencies {
	t.Helper()
	e := fill(t, redistest.Three(t))
	defer ofOtherCores(t)()
	targets := append([]target{{name: ofNodes}, e.keyway, e.twemproxy}, besideOthers(t)...)
	samples := make([][][]latencySample, len(latencyLoads)) // by load and target
	for i := range samples {
		samples[i] = make([][]latencySample, len(targets))
	}
	result := new(latencies)
	var capacities []float64
	for round := range *rounds + 1 {
		capacity := capacityOf(t, e.keyway)
		capacities = append(capacities, capacity)
		for i, load := range latencyLoads {
			due := scheduleOf(capacity*float64(load)/100, latencyWindow, uint64(round))
			for k := range targets {
				at := (k + round) % len(targets)
				addrs := []string{targets[at].addr}
				if targets[at].name == ofNodes {
					addrs = e.nodes
				}
				if s := measureLatency(t, addrs, due); round > 0 { // the first only warms up
					samples[i][at] = append(samples[i][at], s)
				}
			}
		}
	}
	result.Capacity = quantile(capacities[1:], 2)
	for i, load := range latencyLoads {
		result.Loads = append(result.Loads, loadOf(load, targets, samples[i]))
	}
	return result
}

// latencySample has percentiles of one target in one round, in microseconds.
type latencySample struct{ rate, p50, p99, p999, late float64 }

func measureLatency(t *testing.T, addrs []string, due []time.Duration) latencySample {
	t.Helper()
	o := connectOpen(t, addrs, latencyClients, getKey)
	defer o.close()
	o.run(due[:len(due)/10]) // connections to the nodes, and buffers
	o.run(due)
	return latencySample{
		rate: float64(len(due)) / latencyWindow.Seconds(),
		p50:  percentile(o.latency, 0.5), p99: percentile(o.latency, 0.99), p999: percentile(o.latency, 0.999),
		late: percentile(o.late, 0.99),
	}
}

// capacityOf returns how many requests a second clients get answered that wait for each reply.
func capacityOf(t *testing.T, p target) float64 {
	t.Helper()
	l := connect(t, p.addr, latencyClients, 1, getKey)
	defer settle(t, p)
	defer l.close()
	l.run(0, 1)
	answered, took := l.run(capacityWindow, pipelines)
	return float64(answered) / took.Seconds()
}

func loadOf(percent int, targets []target, samples [][]latencySample) latencyLoad {
	p50 := func(s latencySample) float64 { return s.p50 }
	p99 := func(s latencySample) float64 { return s.p99 }
	p999 := func(s latencySample) float64 { return s.p999 }
	load := latencyLoad{
		Percent: percent,
		Rate:    median(samples[0], func(s latencySample) float64 { return s.rate }),
		Late:    median(samples[0], func(s latencySample) float64 { return s.late }),
	}
	for i, p := range targets {
		load.Targets = append(load.Targets, latencyFigure{
			Target: p.name,
			P50:    median(samples[i], p50), P99: median(samples[i], p99), P999: median(samples[i], p999),
			Over50: ratios(samples[i], samples[0], p50), Over99: ratios(samples[i], samples[0], p99),
			Over999: ratios(samples[i], samples[0], p999),
		})
	}
	return load
}

// ofOtherCores moves the thread of this goroutine to cores on which no target runs, if there are any, so that the
// load does not wait for the targets' cores when a request is due. The returned function moves it back.
func ofOtherCores(t *testing.T) (back func()) {
	t.Helper()
	runtime.LockOSThread()
	var own, others unix.CPUSet
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if !own.IsSet(i) {
			others.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &others); err != nil {
		t.Logf("the load runs on the cores of the targets: %v", err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &own); err != nil {
			t.Fatal(fmt.Errorf("returning to the cores of the targets: %w", err))
		}
		runtime.UnlockOSThread()
	}
}
