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
	seeds = flag.Int("seeds", 0, "how many seeds each test simulates; 0: as many as it chooses")
	first = flag.Uint64("first", 1, "the first of these seeds")
	seed  = flag.Uint64("seed", 0, "simulate this one seed and print its trace")
)

// TestSimulation simulates clients, nodes and faults with many seeds. In every run all
// replies are correct and in order, and every command gets a reply in time. No acknowledged
// write is lost. No command is executed twice, or executed although its client was told
// that it was not. The commands of one client to one key keep their order. keyway dials
// only addresses in the topology.
func TestSimulation(t *testing.T) { simulate(t, "TestSimulation", Run, 1000) }

// TestChangeOfLayout simulates keyways that change to another layout while clients run, and perhaps back,
// with many seeds. Nodes begin the change one after another. Keyways learn of it late, freeze and
// die; so do nodes. Yet the clients see one Redis: a key is on one node, or on two
// with equal values before any client has used the copy; a client's command runs only at the
// new owner, after the old one has lost the key; and nothing creates it there again. SCAN and KEYS miss
// no key that is there throughout, and show none that keyway has created.
func TestChangeOfLayout(t *testing.T) { simulate(t, "TestChangeOfLayout", RunChange, 100) }

// TestMissingFenceIsNoticed: if nodes begin an epoch and leave the earlier connections open, the
// simulation fails. So its checks see the mistake that the fence prevents.
func TestMissingFenceIsNoticed(t *testing.T) {
	noticed := 0
	for n := range uint64(10) {
		if failure, _ := runChange(n+1, nil, noFence); strings.Contains(failure, "I4: ") {
			noticed++
		}
	}
	if noticed < 5 {
		t.Errorf("%d of 10 runs without a fence fail", noticed)
	}
}

// simulate runs a number of seeds, which the flag may scale.
func simulate(t *testing.T, name string, run func(uint64, *strings.Builder) (failure, summary string), count int) {
	if *seed != 0 {
		var trace strings.Builder
		failure, summary := run(*seed, &trace)
		t.Log("\n" + trace.String())
		t.Log(summary)
		if failure != "" {
			t.Error(failure)
		}
		return
	}
	if *seeds != 0 {
		count = *seeds
	} else if redistest.Race {
		count = 10 // a run has one goroutine; the race detector only sees what runs share
	}
	var next, failed atomic.Uint64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				n := *first - 1 + next.Add(1)
				if n >= *first+uint64(count) || failed.Load() >= 5 {
					return
				}
				if failure, summary := run(n, nil); failure != "" {
					failed.Add(1)
					mu.Lock()
					t.Errorf("seed %d: %s (%s)\nreplay: go test ./test/sim -run %s -v -args -seed %d",
						n, failure, summary, name, n)
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
}

// TestReplayIsIdentical checks that two runs of the same seed are identical.
func TestReplayIsIdentical(t *testing.T) {
	for _, run := range []func(uint64, *strings.Builder) (string, string){Run, RunChange} {
		var a, b strings.Builder
		_, first := run(7, &a)
		_, second := run(7, &b)
		if first != second || a.String() != b.String() {
			t.Errorf("two runs of one seed differ: %s and %s", first, second)
		}
		t.Log(first)
	}
}

// TestSwitch is TestChangeOfLayout with the code that plans and decides changes, flips nodes and moves keys,
// as it runs in production: keyways follow the records on the home, hold commands, help, and move keys;
// commands change the layout there and back, cancel, go on and wait, several at once. They freeze and die
// between any two commands, and lose connections. A change is decided once, and no node is in an
// epoch that is not decided. What is said to be drained or done has no key left that moves. In the end
// every change is done. The timeouts are those of production. With every fourth seed, the nodes and
// their network have no faults; then no command of a client fails, unless its keyway has not held commands.
func TestSwitch(t *testing.T) { simulate(t, "TestSwitch", RunSwitch(t), 20) }
