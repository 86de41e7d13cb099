package test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// spread is how long something took.
type spread []time.Duration

func (s spread) at(part float64) time.Duration {
	slices.Sort(s)
	return s[int(part*float64(len(s)-1))]
}

func (s spread) String() string {
	return fmt.Sprintf("%d times: at least %s, median %s, at most %s", len(s),
		s.at(0).Round(10*time.Microsecond), s.at(0.5).Round(10*time.Microsecond), s.at(1).Round(10*time.Microsecond))
}

// TestQuorumTooFewFailInTime: while three of five nodes are killed, frozen or partitioned,
// acquiring fails within the timeout and 20 ms. On a busy machine some attempts take longer,
// so the quickest one counts.
func TestQuorumTooFewFailInTime(t *testing.T) {
	t.Parallel()
	const timeout = 50 * time.Millisecond
	type fault struct {
		strike, mend func(*redistest.Node, *redistest.Link)
	}
	for name, f := range map[string]fault{
		"killed": {func(n *redistest.Node, _ *redistest.Link) { n.Kill() },
			func(n *redistest.Node, _ *redistest.Link) { n.Run() }},
		"frozen": {func(n *redistest.Node, _ *redistest.Link) { n.Freeze() },
			func(n *redistest.Node, _ *redistest.Link) { n.Thaw() }},
		"partitioned": {func(_ *redistest.Node, l *redistest.Link) { l.Cut() },
			func(_ *redistest.Node, l *redistest.Link) { l.Heal() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startLockNodes(t)
			links, addrs := n.link([5]time.Duration{})
			c := n.serveAt(addrs, "timeout: 50ms, max_lease: 60s").Dial()
			var took spread
			for i := range 10 {
				redistest.Eventually(t, 20*time.Second, "all nodes vote", func() bool {
					n.vote()
					c.Do("SET", "lock:all", "t", "NX", "PX", "60000")
					have := n.holding("lock:all", "t")
					c.Do("DEL", "lock:all")
					return have == 5
				})
				for j := range 3 {
					f.strike(n.five[j], links[j])
				}
				began := time.Now()
				got := c.Do("SET", fmt.Sprint("lock:", i), "t", "NX", "PX", "30000").Text
				took = append(took, time.Since(began))
				if !strings.HasPrefix(got, "CLUSTERDOWN keyway: ") ||
					!strings.HasSuffix(got, "; the lock was not acquired") {
					t.Fatalf("the reply is %s", got)
				}
				for j := range 3 {
					f.mend(n.five[j], links[j])
				}
			}
			t.Log(took)
			if quickest := took.at(0); quickest > timeout+20*time.Millisecond {
				t.Errorf("the quickest of %d refusals took %s, and the timeout is %s", len(took), quickest, timeout)
			}
		})
	}
}

// link puts a link before each node, with a time for each direction.
func (n *lockNodes) link(latency [5]time.Duration) (links []*redistest.Link, addrs []string) {
	for i, node := range n.five {
		l := redistest.NewLink(n.t, node.Addr, latency[i])
		links, addrs = append(links, l), append(addrs, l.Addr)
	}
	return links, addrs
}

// TestQuorumCostsOneRoundTrip: an acquisition takes at most 1.5 times the round trip to the
// slowest node of the quickest majority, measured beside it. The other nodes do not matter.
func TestQuorumCostsOneRoundTrip(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	const ms = time.Millisecond
	_, addrs := n.link([5]time.Duration{100 * ms, 10 * ms, 125 * ms, 5 * ms, 15 * ms})
	c, third := n.serveAt(addrs, "timeout: 1s, max_lease: 60s, fencing: true").Dial(), redistest.Dial(t, addrs[4])
	best := 1000.0
	for attempt := 0; attempt < 5 && best > 1.5; attempt++ {
		var acquire, roundTrip spread
		for i := range 30 {
			began := time.Now()
			third.Expect("PONG", "PING")
			roundTrip = append(roundTrip, time.Since(began))
			began = time.Now()
			c.Expect("OK", "SET", fmt.Sprintf("lock:%d:%d", attempt, i), "t", "NX", "PX", "30000")
			acquire = append(acquire, time.Since(began))
		}
		best = min(best, float64(acquire.at(0.5))/float64(roundTrip.at(0.5)))
		t.Logf("acquired %s; the round trip %s", acquire, roundTrip)
	}
	if best > 1.5 {
		t.Errorf("an acquisition takes %.2f times the round trip of the third quickest node", best)
	}
}

// BenchmarkQuorumAcquire measures acquisitions of free locks, one after another.
func BenchmarkQuorumAcquire(b *testing.B) {
	n := startLockNodes(b)
	n.vote()
	c := n.serve("timeout: 1s, max_lease: 60s, fencing: true").Dial()
	var took spread
	for b.Loop() {
		began := time.Now()
		c.Expect("OK", "SET", "lock:a", "t", "NX", "PX", "30000")
		took = append(took, time.Since(began))
		c.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", "t")
	}
	b.ReportMetric(float64(took.at(0.5).Microseconds()), "µs-median")
	b.ReportMetric(float64(took.at(0.99).Microseconds()), "µs-p99")
}

// BenchmarkQuorumPauses measures what 20 clients see while three of five nodes are stopped for 100 ms,
// once a second: how many commands fail, and the longest reply.
func BenchmarkQuorumPauses(b *testing.B) {
	for _, timeout := range []time.Duration{50 * time.Millisecond, 250 * time.Millisecond} {
		b.Run("timeout="+timeout.String(), func(b *testing.B) {
			n := startLockNodes(b)
			n.vote()
			k := n.serve(fmt.Sprintf("timeout: %s, max_lease: 60s", timeout))
			seen := make(chan spread, 20)
			var failed atomic.Int64
			stop := make(chan struct{})
			for i := range cap(seen) {
				c := k.Dial()
				go func() { seen <- useLock(c, fmt.Sprint("lock:", i), &failed, stop) }()
			}
			for b.Loop() {
				time.Sleep(900 * time.Millisecond)
				for _, node := range n.five[:3] {
					node.Freeze()
				}
				time.Sleep(100 * time.Millisecond)
				for _, node := range n.five[:3] {
					node.Thaw()
				}
			}
			time.Sleep(500 * time.Millisecond)
			close(stop)
			var all spread
			for range cap(seen) {
				all = append(all, <-seen...)
			}
			b.ReportMetric(float64(len(all)), "commands")
			b.ReportMetric(float64(failed.Load()), "failed")
			b.ReportMetric(float64(all.at(0.5).Microseconds())/1000, "ms-median")
			b.ReportMetric(float64(all.at(1).Microseconds())/1000, "ms-longest")
		})
	}
}

// useLock acquires and releases a lock 50 times a second. It returns how long each command took, and
// counts those that fail.
func useLock(c *redistest.Client, key string, failed *atomic.Int64, stop chan struct{}) (took spread) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return took
		case <-tick.C:
		}
		for _, args := range [][]string{
			{"SET", key, "t", "NX", "PX", "30000"}, {"EVAL", compareAndDelete, "1", key, "t"},
		} {
			began := time.Now()
			r, err := c.TryDo(args...)
			took = append(took, time.Since(began))
			if err != nil || r.Kind == '-' {
				failed.Add(1)
			}
		}
	}
}
