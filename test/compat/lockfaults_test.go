package compat

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// watchdogMillis is Redisson's lockWatchdogTimeout: more than two request timeouts and the
// time of a failover.
const watchdogMillis = "10000"

// TestLocksOfRedissonUnderFaults has the watchdog keep sixty locks while the slots move, a
// master dies, masters change places, and keyway is killed. Another client tries to get each
// lock all the time.
func TestLocksOfRedissonUnderFaults(t *testing.T) {
	if !*long || *clients != "" && !strings.Contains(*clients, "java") {
		t.Skip("long form only: make locks")
	}
	for _, deps := range []string{"deps/*", "deps/redisson-3.45.1/*"} {
		t.Run(deps, func(t *testing.T) {
			t.Parallel()
			redissonUnderFaults(t, deps)
		})
	}
}

func redissonUnderFaults(t *testing.T, deps string) {
	cluster := redistest.NewCluster(t, 3, 1)
	keyway := redistest.ServeProcess(t, cluster.SeedsYAML()+"backend: {request_timeout: 1s, hold: 8s}\n")
	h := hold(t, append(append([]string(nil), jvm...), deps, "LockFaults.java", "slots,"+keyway.Addr, watchdogMillis))
	h.after("no fault")
	reshard(t, cluster, 0, 1)
	h.after("slots resharded")
	cluster.Failover(5)
	h.after("a failover on request")
	cluster.Nodes[1].Kill()
	redistest.Eventually(t, time.Minute, "the replica takes over", func() bool {
		return cluster.Nodes[4].Role() == "master"
	})
	h.after("a master killed")
	keyway.Kill()
	time.Sleep(500 * time.Millisecond) // the fault itself
	keyway.Restart()
	keyway.Answers()
	h.after("keyway killed")
	keyway.Freeze()
	time.Sleep(3 * time.Second) // the fault itself
	keyway.Thaw()
	h.after("keyway stopped for 3 s")
	h.end()
}

// reshard moves half of a master's slots to another.
func reshard(t *testing.T, c *redistest.Cluster, from, to int) {
	t.Helper()
	out, err := exec.Command("redis-cli", "--cluster", "reshard", c.Nodes[from].Addr, "--cluster-from", c.IDs[from],
		"--cluster-to", c.IDs[to], "--cluster-slots", "2730", "--cluster-yes").CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli --cluster reshard: %v\n%s", err, out[max(0, len(out)-500):])
	}
	c.Settle()
}

// holder is a program that holds locks. It reads the names of faults, and prints a line for
// each.
type holder struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	err   *strings.Builder
}

func hold(t *testing.T, args []string) *holder {
	h := &holder{t: t, cmd: exec.Command(args[0], args[1:]...), err: new(strings.Builder)}
	h.cmd.Dir, h.cmd.Stderr, h.cmd.WaitDelay = "java", h.err, 5*time.Second
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.in, h.lines = in, bufio.NewScanner(out)
	if err := h.cmd.Start(); err != nil {
		t.Fatalf("%v; scripts/compat installs what is needed", err)
	}
	timer := time.AfterFunc(6*time.Minute, func() { h.cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop(); h.cmd.Process.Kill(); h.cmd.Wait() })
	if line := h.read(); line != "held" {
		t.Fatalf("it printed %q; %s", line, h.err)
	}
	return h
}

func (h *holder) read() string {
	if !h.lines.Scan() {
		return ""
	}
	return h.lines.Text()
}

// after requires that all locks are still held.
func (h *holder) after(fault string) {
	h.t.Helper()
	fmt.Fprintln(h.in, fault)
	if line := h.read(); !strings.HasPrefix(line, "ok ") {
		h.t.Errorf("after %s: %q", fault, line)
	} else {
		h.t.Log(line)
	}
}

func (h *holder) end() {
	h.t.Helper()
	h.in.Close()
	if err := h.cmd.Wait(); err != nil {
		h.t.Errorf("%v\n%s", err, h.err)
	}
}
