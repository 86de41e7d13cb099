package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	records "github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

func layoutOf(t *testing.T, yaml string) records.Layout {
	t.Helper()
	c, err := config.Parse("x.yml", []byte(yaml), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return records.Layout{Hash: c.PlacementHash(), Config: c.PlacementText()}
}

// enter puts an epoch in force on nodes, one after the other in any order, and ends the connections
// of all clients.
func enter(t *testing.T, epoch int64, older, newer string, nodes ...*redistest.Node) {
	t.Helper()
	r := records.Record{Epoch: epoch, Old: layoutOf(t, older), New: layoutOf(t, newer)}
	code, err := r.Code()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range rand.Perm(len(nodes)) {
		c := redistest.Dial(t, nodes[i].Addr)
		c.Expect("OK", "MULTI")
		c.Expect("QUEUED", "FUNCTION", "LOAD", code)
		c.Expect("QUEUED", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		c.Do("EXEC")
		c.Close()
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	}
}

// twoLayouts starts the nodes a to d, and returns two configurations: a ring of the first three, and
// slots on all but c.
func twoLayouts(t *testing.T) (nodes []*redistest.Node, ring, slots string) {
	t.Helper()
	nodes = append(redistest.Three(t), redistest.Start(t))
	a, b, d := nodes[0], nodes[1], nodes[3]
	return nodes, "layout: ring\n" + redistest.NodesYAML(nodes[:3]),
		"layout: slots\nslots: {static: {a: 0-5460, b: 5461-10922, d: 10923-16383}}\n" +
			strings.Replace(redistest.NodesYAML([]*redistest.Node{a, b, d}), "name: c", "name: d", 1)
}

// TestSwitchUnderLoad: the layout changes there and back, and nothing is lost, doubled or reordered.
func TestSwitchUnderLoad(t *testing.T) {
	t.Parallel()
	nodes, ring, slots := twoLayouts(t)
	k, k2 := redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)
	l := (&load{addr: k.Addr, clients: 10, keys: 100, pause: time.Millisecond}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 10, prefix: "other:", keys: 100, pause: time.Millisecond}).start(t)
	l.more(t, 5_000)
	for epoch := int64(1); epoch <= 6; epoch++ {
		older, newer := ring, slots
		if epoch%2 == 0 {
			older, newer = slots, ring
		}
		enter(t, epoch, older, newer, nodes...)
		l.more(t, 5_000)
		l2.more(t, 5_000)
		t.Logf("epoch %d: %v", epoch, &l.tally)
	}
	l.halt()
	l2.halt()
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
}

// TestSwitchCommand: keyway switch changes the layout there and back under load. No client gets an
// error.
func TestSwitchCommand(t *testing.T) {
	t.Parallel()
	_, ring, slots := twoLayouts(t)
	k, k2 := redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)
	l := (&load{addr: k.Addr, clients: 10, keys: 100, pause: time.Millisecond}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 10, prefix: "other:", keys: 100, pause: time.Millisecond}).start(t)
	l.more(t, 5_000)
	for i := range 4 {
		older, newer := ring, slots
		if i%2 == 1 {
			older, newer = slots, ring
		}
		cmd := exec.Command(redistest.Build(t), "switch", "--wait", redistest.WriteFile(t, "old.yml", older),
			redistest.WriteFile(t, "new.yml", newer))
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Errorf("%v", err)
		}
		l.more(t, 5_000)
		l2.more(t, 5_000)
	}
	l.halt()
	l2.halt()
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
	t.Logf("%v\n%v", &l.latency[0], &l2.latency[0])
	if l.errors()+l2.errors() > 0 {
		t.Error("clients got errors")
	}
}

// TestSwitchBackInTheMiddle: a switch that was killed in the middle is taken back, and then goes
// through after another one was killed.
func TestSwitchBackInTheMiddle(t *testing.T) {
	t.Parallel()
	nodes, ring, slots := twoLayouts(t)
	k, k2 := redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)
	conn := redistest.Dial(t, k.Addr)
	each(t, conn, 20_000, func(i int) (want string, command []string) {
		return "OK", []string{"SET", fmt.Sprint("cold:", i), fmt.Sprint(i)}
	})
	l := (&load{addr: k.Addr, clients: 5, keys: 100, pause: time.Millisecond}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 5, prefix: "other:", keys: 100, pause: time.Millisecond}).start(t)
	old, next := redistest.WriteFile(t, "old.yml", ring), redistest.WriteFile(t, "new.yml", slots)
	half := func(from, to string) {
		cmd := exec.Command(redistest.Build(t), "switch", "--wait", "--rate", "2000", from, to)
		var out redistest.Log
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		redistest.Eventually(t, 60*time.Second, "keys move", func() bool {
			return strings.Contains(out.String(), "all nodes are in epoch")
		})
		l.more(t, 2_000) // the keys take seven seconds
		l2.more(t, 2_000)
		cmd.Process.Kill()
		cmd.Wait()
		t.Logf("%s", out.String())
	}
	whole := func(from, to string) {
		out, err := exec.Command(redistest.Build(t), "switch", "--wait", from, to).CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Errorf("%v", err)
		}
		l.more(t, 2_000)
	}
	half(old, next)
	whole(next, old)
	half(old, next)
	half(next, old)
	half(old, next)
	whole(old, next)
	l.halt()
	l2.halt()
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
	if l.errors()+l2.errors() > 0 {
		t.Error("clients got errors")
	}
	each(t, conn, 20_000, func(i int) (want string, command []string) {
		return fmt.Sprint(i), []string{"GET", fmt.Sprint("cold:", i)}
	})
	if n := len(nodes[2].Keys()); n > 0 {
		t.Errorf("%d keys are left at c", n)
	}
}

// each sends n commands in pipelines, and requires the replies.
func each(t *testing.T, c *redistest.Client, n int, of func(i int) (want string, command []string)) {
	t.Helper()
	const depth = 20_000
	for first := 0; first < n; first += depth {
		next := min(n, first+depth)
		for i := first; i < next; i++ {
			_, command := of(i)
			c.Send(command...)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for i := first; i < next; i++ {
			want, command := of(i)
			if r, err := c.Receive(); err != nil || r.Text != want {
				t.Fatalf("%q: %s, %v", command, r, err)
			}
		}
	}
}

// TestMoverOfAnEarlierEpoch: a process was stopped while it moved keys, and wakes up when the switch has been
// taken back. It moves nothing any more.
func TestMoverOfAnEarlierEpoch(t *testing.T) {
	t.Parallel()
	nodes, ring, slots := twoLayouts(t)
	k := redistest.ServeProcess(t, ring)
	conn := redistest.Dial(t, k.Addr)
	each(t, conn, 20_000, func(i int) (want string, command []string) {
		return "OK", []string{"SET", fmt.Sprint("cold:", i), fmt.Sprint(i)}
	})
	conn.Close()
	k.End()
	first := beginSwitch(t, ring, slots, "--rate", "1000").moves() // no keyway moves keys
	redistest.Eventually(t, 20*time.Second, "some keys have moved", func() bool { return len(nodes[3].Keys()) > 500 })
	first.cmd.Process.Signal(syscall.SIGSTOP)
	k = redistest.ServeProcess(t, ring)
	conn = redistest.Dial(t, k.Addr)
	beginSwitch(t, slots, ring).goesThrough()
	first.cmd.Process.Signal(syscall.SIGCONT)
	first.fails("epoch 2")
	if n := len(nodes[3].Keys()); n > 0 {
		t.Errorf("%d keys are at d", n)
	}
	each(t, conn, 20_000, func(i int) (want string, command []string) {
		return fmt.Sprint(i), []string{"GET", fmt.Sprint("cold:", i)}
	})
}
