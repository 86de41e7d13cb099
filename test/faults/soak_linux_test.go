package faults

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var soak = flag.Duration("soak", 0, "run the soak test for so long")

// TestSoak: a hundred clients a second connect and leave. Every few seconds a connection is
// cut, or a node freezes, or dies and starts again. Memory, descriptors and goroutines must not grow,
// and at the end the data must agree with the replies that clients got.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("make soak runs it for an hour")
	}
	t.Parallel()
	var nodes []*redistest.Node
	for range 3 {
		nodes = append(nodes, redistest.Start(t, durable...))
	}
	adminAddr, adminYAML := admin(t)
	p := redistest.ServeProcess(t, adminYAML+redistest.Layouts(nodes)["ring"]+
		"backend: {integrity: 100, request_timeout: 500ms}\nlimits: {client_output: 4mb}\n")
	idle := p.Descriptors()
	l := (&load{
		addr: p.Addr, clients: 50, depth: 16, size: 256 << 10, pause: 50 * time.Millisecond,
		hangup: 100, stall: 1, reconnect: true,
	}).start(t)
	rng := rand.New(rand.NewPCG(7, 7))
	var samples []sample
	const limit = 256 << 20
	peak := int64(0)
	var last time.Time
	for began := time.Now(); time.Since(began) < *soak && !t.Failed(); {
		breakNode(t, nodes[rng.IntN(3)], rng)
		for next := time.Now().Add(5 * time.Second); time.Now().Before(next); {
			time.Sleep(200 * time.Millisecond) // paces the faults
			if peak = max(peak, p.RSS()); peak > limit {
				t.Fatalf("the process has grown to %d MiB", peak>>20)
			}
		}
		if time.Since(last) > *soak/60 {
			last = time.Now()
			samples = append(samples, sample{float64(p.RSS()), metric(t, adminAddr, "go_goroutines")})
		}
	}
	l.halt()
	l.settle(t, p.Addr)
	census(t, p.Addr, nodes)
	redistest.Eventually(t, 20*time.Second, "no descriptor is left over", func() bool {
		return p.Descriptors() <= idle+4
	})
	slope := slope(samples[len(samples)/6:]) * 10 // for ten sixtieths: ten minutes of an hour
	first, end := samples[len(samples)/6], samples[len(samples)-1]
	t.Logf("resident memory %.1f MiB after a sixth, %.1f at the end, peak %d, slope %.2f MiB in a sixth of the time",
		first.rss/(1<<20), end.rss/(1<<20), peak>>20, slope/(1<<20))
	t.Logf("%v goroutines, then %v; %d descriptors, then %d",
		first.goroutines, end.goroutines, idle, p.Descriptors())
	if slope > 1<<20 && *soak >= time.Hour {
		t.Errorf("memory grows by %.1f MiB in ten minutes", slope/(1<<20))
	}
	if end.goroutines > first.goroutines+5 {
		t.Errorf("%v goroutines at first, %v at last", first.goroutines, end.goroutines)
	}
	for _, name := range []string{"unsolicited_replies", "protocol_violations"} {
		if n := metric(t, adminAddr, "keyway_node_"+name+"_total"); n > 0 {
			t.Errorf("%v %s of the nodes", n, name)
		}
	}
	t.Logf("%d clients have come and gone", l.hangups.Load())
}

// sample is what the process uses at one time.
type sample struct{ rss, goroutines float64 }

// slope returns by how much the resident memory grows from one sample to the next, by least
// squares.
func slope(samples []sample) float64 {
	var n, sx, sy, sxx, sxy float64
	for i, s := range samples {
		x := float64(i)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+s.rss, sxx+x*x, sxy+x*s.rss
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// breakNode cuts the connections to a node, freezes it or kills it, and starts it again.
func breakNode(t *testing.T, n *redistest.Node, rng *rand.Rand) {
	t.Helper()
	switch rng.IntN(3) {
	case 0:
		cut(t, n)
	case 1:
		n.Freeze()
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond) // the fault itself
		n.Thaw()
	default:
		n.Kill()
		time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond) // the fault itself
		n.Run()
	}
}
