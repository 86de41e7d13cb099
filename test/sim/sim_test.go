package sim

import (
	"flag"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var (
	seeds = flag.Int("seeds", 1000, "how many seeds to simulate")
	seed  = flag.Uint64("seed", 0, "simulate this one seed and print its trace")
)

// TestSimulation simulates clients, nodes and faults with many seeds. In every run all
// replies are correct and in order, and every command gets a reply in time. No acknowledged
// write is lost. No command is executed twice, or executed although its client was told
// that it was not. The commands of one client to one key keep their order. keyway dials
// only addresses in the topology.
func TestSimulation(t *testing.T) {
	if *seed != 0 {
		var trace strings.Builder
		failure, summary := Run(*seed, &trace)
		t.Log("\n" + trace.String())
		t.Log(summary)
		if failure != "" {
			t.Error(failure)
		}
		return
	}
	if redistest.Race && *seeds == 1000 {
		*seeds = 10 // a run has one goroutine; the race detector only sees what runs share
	}
	var next, failed atomic.Uint64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				n := next.Add(1)
				if n > uint64(*seeds) || failed.Load() >= 5 {
					return
				}
				if failure, summary := Run(n, nil); failure != "" {
					failed.Add(1)
					mu.Lock()
					t.Errorf("seed %d: %s (%s)\nreplay: go test ./test/sim -run TestSimulation -v -args -seed %d",
						n, failure, summary, n)
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
}

// TestReplayIsIdentical checks that two runs of the same seed are identical.
func TestReplayIsIdentical(t *testing.T) {
	var a, b strings.Builder
	_, first := Run(7, &a)
	_, second := Run(7, &b)
	if first != second || a.String() != b.String() {
		t.Errorf("two runs of one seed differ: %s and %s", first, second)
	}
	t.Log(first)
}
