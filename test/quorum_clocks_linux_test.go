package test

import (
	_ "embed"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

//go:embed testdata/clock.c
var clockSource string

// wallClock is the wall clock of one node.
type wallClock struct {
	t     *testing.T
	file  string
	ahead time.Duration
}

// startWithClocks starts five lock nodes whose wall clocks the test can set. Redis ends leases
// by that clock. This works on Linux only, by a library that is loaded before the C library.
func startWithClocks(t *testing.T) (*lockNodes, []*wallClock) {
	t.Helper()
	dir := t.TempDir()
	library := filepath.Join(dir, "clock.so")
	compile := exec.Command("cc", "-shared", "-fPIC", "-O1", "-xc", "-o", library, "-")
	compile.Stdin = strings.NewReader(clockSource)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compiling test/testdata/clock.c; is a C compiler missing? make tools installs it: %v\n%s", err, out)
	}
	n := &lockNodes{t: t, other: redistest.Start(t)}
	var clocks []*wallClock
	for range 5 {
		c := &wallClock{t: t, file: redistest.WriteFile(t, "ahead", strings.Repeat("\x00", 8))}
		clocks = append(clocks, c)
		n.five = append(n.five, redistest.StartWith(t, []string{"LD_PRELOAD=" + library, "CLOCK_FILE=" + c.file}))
	}
	return n, clocks
}

// jump moves the clock forward, or back if by is negative.
func (c *wallClock) jump(by time.Duration) {
	c.t.Helper()
	c.ahead += by
	f, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(binary.NativeEndian.AppendUint64(nil, uint64(c.ahead))); err != nil {
		c.t.Fatal(err)
	}
}

// acquireOnThree acquires a lock for t1 on the first three nodes only, through a keyway whose
// timeout is 300 ms. Afterwards all five nodes take part again. It returns a time before the
// lease of t1 began.
func (n *lockNodes) acquireOnThree(c *redistest.Client, key, lease string) (began time.Time) {
	n.t.Helper()
	for _, node := range n.five[2:] {
		node.Freeze()
	}
	if got := c.Do("GET", key); got.Kind != '-' { // it waits for the frozen nodes, which then count as absent
		n.t.Fatalf("GET while three nodes are frozen: %s", got)
	}
	n.five[2].Thaw()
	redistest.Eventually(n.t, 20*time.Second, "three nodes are a majority, and the others absent", func() bool {
		return c.Do("GET", key).Kind != '-'
	})
	began = time.Now()
	c.Expect("OK", "SET", key, "t1", "NX", "PX", lease)
	n.five[3].Thaw()
	n.five[4].Thaw()
	return began
}

// TestQuorumClocksJumpForward: on nodes whose clocks jump forward leases end too early. These
// nodes do not vote for max_lease, so nobody acquires a lock that another client still has.
// Each node that has the lock matters: two others lack it.
func TestQuorumClocksJumpForward(t *testing.T) {
	t.Parallel()
	for name, jumpers := range map[string][]int{"one": {0}, "two": {0, 1}, "three": {0, 1, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, clocks := startWithClocks(t)
			n.vote()
			c := n.serve("timeout: 300ms, max_lease: 4s").Dial()
			began := n.acquireOnThree(c, "lock:a", "4000")
			for _, i := range jumpers {
				clocks[i].jump(time.Hour)
				if n.holding("lock:a", "t1", n.five[i]) != 0 {
					t.Fatal("the node still has the lock: its clock has not jumped")
				}
			}
			if got := n.holding("lock:a", "t1"); got != 3-len(jumpers) {
				t.Fatalf("%d nodes have the lock", got)
			}
			redistest.Eventually(t, 20*time.Second, "another client has the lock", func() bool {
				reply := c.Do("SET", "lock:a", "t2", "NX", "PX", "4000")
				if late := time.Since(began); reply.Text == "OK" && late < 4*time.Second {
					t.Fatalf("another client acquires the lock %s after the first, whose lease is 4s", late)
				}
				return reply.Text == "OK"
			})
			redistest.Eventually(t, 20*time.Second, "all nodes vote and have the lock", func() bool {
				if got := c.Do("EVAL", compareAndExpire, "1", "lock:a", "t2", "4000").String(); got == "0" {
					t.Fatal("t2 has lost the lock")
				}
				return n.holding("lock:a", "t2") == 5
			})
			c.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", "t2")
		})
	}
}

// TestQuorumClocksJumpBack: on nodes whose clocks jump back leases end too late. The other
// nodes decide. If the clocks jump forward again, these nodes do not vote for max_lease.
func TestQuorumClocksJumpBack(t *testing.T) {
	t.Parallel()
	n, clocks := startWithClocks(t)
	n.vote()
	c := n.serve("timeout: 1s, max_lease: 3s").Dial()
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "2500")
	redistest.Eventually(t, 5*time.Second, "all nodes have the lock", func() bool {
		return n.holding("lock:a", "t1") == 5
	})
	clocks[0].jump(-time.Hour)
	clocks[1].jump(-time.Hour)
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "2500")
	var began time.Time
	redistest.Eventually(t, 10*time.Second, "the lease has ended on the others", func() bool {
		began = time.Now()
		return c.Do("SET", "lock:a", "t2", "NX", "PX", "3000").Text == "OK"
	})
	c.Expect("t2", "GET", "lock:a")
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t2", "3000")
	clocks[0].jump(time.Hour)
	clocks[1].jump(time.Hour)
	clocks[2].jump(time.Hour)
	redistest.Eventually(t, 20*time.Second, "the next client has the lock", func() bool {
		reply := c.Do("SET", "lock:a", "t3", "NX", "PX", "3000")
		if late := time.Since(began); reply.Text == "OK" && late < 3*time.Second {
			t.Fatalf("another client acquires the lock %s after t2, whose lease is 3s", late)
		}
		return reply.Text == "OK"
	})
}
