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

// TestSimulation runs many seeds of clients, nodes and faults on a virtual
// clock. Whatever happens: every reply is the right one in its place, nothing
// acknowledged is lost, nothing said not to be executed was, nothing is executed
// twice, one client's commands to one key keep their order, every command ends,
// and keyway dials nobody that the topology does not know.
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
		*seeds = 100 // the detector takes its time; the runs are the same
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
					t.Errorf("seed %d: %s (%s)\nreplay: go test ./test/sim -run TestSimulation -v -args -seed %d", n, failure, summary, n)
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
}

// TestReplay: one seed is one run.
func TestReplay(t *testing.T) {
	var a, b strings.Builder
	_, first := Run(7, &a)
	_, second := Run(7, &b)
	if first != second || a.String() != b.String() {
		t.Errorf("two runs of one seed differ: %s and %s", first, second)
	}
	t.Log(first)
}
