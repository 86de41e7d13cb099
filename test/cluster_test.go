package test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestReshardUnderLoad moves a third of the slots while clients write and read
// back: no error, nothing lost, no foreign reply.
func TestReshardUnderLoad(t *testing.T) {
	c := redistest.NewCluster(t, 3, 0)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	var tl tally
	stop := make(chan struct{})
	writers, wait := load(t, 20, k.Addr, &tl, 16, 10*time.Second, stop)
	out, err := exec.Command("redis-cli", "--cluster", "reshard", c.Nodes[0].Addr,
		"--cluster-from", c.IDs[0], "--cluster-to", c.IDs[1], "--cluster-slots", "5461", "--cluster-yes", "--cluster-pipeline", "20").CombinedOutput()
	close(stop)
	wait()
	if err != nil {
		t.Fatalf("redis-cli --cluster reshard: %v\n%s", err, out[max(0, len(out)-500):])
	}
	if strings.Contains(string(out), "ERR") {
		t.Logf("redis-cli said: %s", out[max(0, len(out)-500):])
	}
	moved, asked := uint64(0), uint64(0)
	for _, n := range k.Snapshot()[0].Nodes {
		moved, asked = moved+n.Moved, asked+n.Ask
	}
	t.Logf("%v; %d MOVED, %d ASK followed", &tl, moved, asked)
	if tl.errors() != 0 || tl.foreign.Load() != 0 {
		t.Errorf("errors or foreign replies: %v", &tl)
	}
	if moved == 0 {
		t.Error("no redirect was followed: the test has not tested anything")
	}
	for _, w := range writers {
		if lost := w.verify(t, k.Addr, nil); lost > 0 {
			t.Errorf("client %d: %d writes lost", w.id, lost)
		}
	}
}

// TestFailoverUnderLoad kills a master that has a replica: errors only until
// the failover, nothing lost on the masters that stayed, no foreign reply, and
// keyway recovers by itself.
func TestFailoverUnderLoad(t *testing.T) {
	c := redistest.NewCluster(t, 3, 1)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	var tl tally
	stop := make(chan struct{})
	writers, wait := load(t, 20, k.Addr, &tl, 16, 10*time.Second, stop)
	redistest.Eventually(t, 20*time.Second, "the load runs", func() bool { return tl.replies.Load() > 20000 })
	if n := tl.errors(); n != 0 {
		t.Fatalf("errors before anything went wrong: %v", &tl)
	}
	c.Nodes[0].Kill()
	redistest.Eventually(t, 30*time.Second, "the replica is promoted", func() bool {
		return c.Owner(3, 0) == 3
	})
	promoted := time.Now()
	probe := k.Dial()
	key := keyOfSlot(0)
	redistest.Eventually(t, 10*time.Second, "keyway serves the dead master's slots again", func() bool { return probe.Do("SET", key, "x").Text == "OK" })
	t.Logf("served again %s after the promotion", time.Since(promoted))
	redistest.Eventually(t, 10*time.Second, "every node is reachable", func() bool { return k.Snapshot()[0].Covered })
	errors, replies := tl.errors(), tl.replies.Load()
	redistest.Eventually(t, 20*time.Second, "the load goes on", func() bool { return tl.replies.Load() > replies+20000 })
	if n := tl.errors(); n > errors+64 {
		t.Errorf("%d errors after the failover", n-errors)
	}
	close(stop)
	wait()
	t.Logf("%v", &tl)
	if tl.foreign.Load() > 0 {
		// What the dead master had acknowledged and not replicated is
		// Redis's to lose: reads that miss it are not foreign. Only values
		// of another key or client are.
		for kind, example := range tl.first {
			if kind == "foreign" && !ownButOlder(example) {
				t.Errorf("foreign reply: %s", example)
			}
		}
	}
	if n := tl.otherErrors.Load(); n > 0 {
		t.Errorf("%d errors of no class: %v", n, &tl)
	}
	for _, w := range writers {
		lost := w.verify(t, k.Addr, func(key string) bool { return slots.Of([]byte(key)) > 5460 })
		if lost > 0 {
			t.Errorf("client %d: %d writes of masters that stayed are lost", w.id, lost)
		}
	}
}

// ownButOlder tells whether a reply that was counted as foreign is only an
// older value of the same key, or none: a write that the failover lost.
func ownButOlder(example string) bool {
	key, rest, _ := strings.Cut(strings.TrimPrefix(example, "GET "), " ")
	return strings.HasSuffix(example, "nil, though written") || strings.Contains(rest, `"`+key+`|`)
}

// keyOfSlot returns a key of that slot.
func keyOfSlot(slot uint16) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("s%d", i); slots.Of([]byte(key)) == slot {
			return key
		}
	}
}

// TestFrozenNode stops a node for ten seconds: only requests to it fail, each
// within the timeout, and what it says afterwards reaches nobody.
func TestFrozenNode(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, layouts(nodes)["slots"]+"backend: {request_timeout: 1s}\n").Ready()
	var tl tally
	stop := make(chan struct{})
	writers, wait := load(t, 20, k.Addr, &tl, 1, 1500*time.Millisecond, stop)
	redistest.Eventually(t, 20*time.Second, "the load runs", func() bool { return tl.replies.Load() > 20000 })
	nodes[0].Freeze()
	defer nodes[0].Thaw()
	frozen := time.Now()
	healthy, dead := k.Dial(), k.Dial()
	asked := 0
	for time.Since(frozen) < 10*time.Second {
		if r := healthy.Do("SET", keyOfSlot(9000), "x"); r.Kind == '-' {
			t.Errorf("a request to a node that runs failed: %s", r)
		}
		began := time.Now()
		r := dead.Do("GET", keyOfSlot(100))
		if took := time.Since(began); r.Kind != '-' || took > 1100*time.Millisecond {
			t.Errorf("a request to the frozen node: %s after %s", r, took)
		}
		asked++
		time.Sleep(20 * time.Millisecond)
	}
	nodes[0].Thaw()
	redistest.Eventually(t, 10*time.Second, "the node is served again", func() bool { return dead.Do("SET", keyOfSlot(100), "x").Text == "OK" })
	before := tl.replies.Load()
	redistest.Eventually(t, 20*time.Second, "the load goes on", func() bool { return tl.replies.Load() > before+20000 })
	close(stop)
	wait()
	t.Logf("%d requests to the frozen node; load: %v", asked, &tl)
	if tl.foreign.Load() != 0 || tl.otherErrors.Load() != 0 || tl.late.Load() != 0 {
		t.Errorf("foreign, unclassed or late replies: %v", &tl)
	}
	for _, w := range writers {
		if lost := w.verify(t, k.Addr, nil); lost > 0 {
			t.Errorf("client %d: %d writes lost", w.id, lost)
		}
	}
}
