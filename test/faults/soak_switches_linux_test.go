package faults

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestSoakSwitches: the layout changes from a ring to a cluster and back, again and again, while clients use
// three keyways. Commands and keyways are killed, keyways and nodes are stopped, connections are cut, masters
// are replaced, changes are paused and taken back, all at random. After each change every key must be in its
// place. Locks must be exclusive throughout, and at the end the data must agree with the replies that clients got.
func TestSoakSwitches(t *testing.T) {
	if *soak == 0 {
		t.Skip("make soak runs it for an hour")
	}
	t.Parallel()
	s := newSoaked(t)
	defer func() {
		for i, k := range s.keyways {
			if t.Failed() {
				t.Logf("keyway %d at %s:\n%s", i, k.Addr, k.Stderr)
			}
		}
	}()
	counts := map[string]int{}
	for began := time.Now(); time.Since(began) < *soak && !t.Failed(); {
		s.round(counts)
	}
	t.Logf("%d changes; %v", s.changes, counts)
	for _, l := range s.loads {
		l.halt()
	}
	s.locks.halt()
	for i, l := range s.loads {
		l.settle(t, s.keyways[1-i].Addr)
	}
	acquired := 0
	for _, lock := range slices.Concat(s.locks.short, s.locks.kept) {
		if acquired += lock.acquired; lock.overlaps > 0 {
			t.Errorf("%s was held by two clients %d times", lock.name, lock.overlaps)
		}
	}
	t.Logf("locks were acquired %d times; errors %v", acquired, s.locks.errors)
	census(t, s.keyways[2].Addr, slices.Concat(s.ring, s.cluster.Nodes))
}

// soaked is what TestSoakSwitches changes and breaks.
type soaked struct {
	t       *testing.T
	rng     *rand.Rand
	ring    []*redistest.Node
	cluster *redistest.Cluster
	files   [2]string
	now     int // which layout is in force
	keyways [3]*redistest.Process
	loads   [2]*load
	locks   *lockers
	changes int
}

func newSoaked(t *testing.T) *soaked {
	s := &soaked{t: t, rng: rand.New(rand.NewPCG(16, uint64(time.Now().UnixNano())))}
	for range 3 {
		s.ring = append(s.ring, redistest.Start(t, durable...))
	}
	s.cluster = redistest.NewCluster(t, 3, 1, onRequest...)
	layouts := [2]string{"layout: ring\nhash_tag: \"{}\"\n" + redistest.NodesYAML(s.ring), s.cluster.SeedsYAML()}
	for i := range layouts {
		s.files[i] = redistest.WriteFile(t, fmt.Sprintf("layout%d.yml", i), layouts[i])
	}
	for i := range s.keyways {
		s.keyways[i] = redistest.ServeProcess(t, layouts[0])
	}
	fill(t, s.keyways[0].Addr, 20_000)
	for i := range s.loads {
		s.loads[i] = (&load{
			addr: s.keyways[i].Addr, clients: 8, keys: 50, pause: 20 * time.Millisecond, reconnect: true, hangup: 5,
			prefix: fmt.Sprintf("load%d:", i),
		}).start(t)
	}
	s.locks = newLockers(t, s.keyways[0].Addr, s.keyways[2].Addr)
	s.locks.run(t)
	out, err := exec.Command(redistest.Build(t), "switch", "--wait", s.files[0], s.files[1]).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.now, s.changes = 1, 1
	return s
}

// soakFaults are what happens while the layout changes. Each is over when its function returns.
var soakFaults = []struct {
	name   string
	strike func(*soaked)
}{
	{"nothing", func(*soaked) {}},
	{"keyway killed", func(s *soaked) {
		k := s.keyways[s.rng.IntN(3)]
		k.Kill()
		s.sleep(1500)
		k.Restart()
		k.Answers()
	}},
	{"keyway stopped", func(s *soaked) {
		k := s.keyways[s.rng.IntN(3)]
		k.Freeze()
		s.sleep(4000)
		k.Thaw()
	}},
	{"ring's node", func(s *soaked) { breakNode(s.t, s.ring[s.rng.IntN(3)], s.rng) }},
	{"cluster's node stopped", func(s *soaked) { freeze(s.cluster.Nodes[s.rng.IntN(6)]) }},
	{"cluster's master replaced", func(s *soaked) { swap(s.cluster) }},
	{"paused", func(s *soaked) {
		s.run("pause")
		s.sleep(2000)
		s.run("resume")
	}},
	{"taken back", func(s *soaked) { s.run("reverse") }},
}

// sleep waits for some milliseconds: the fault itself.
func (s *soaked) sleep(most int) { time.Sleep(time.Duration(s.rng.IntN(most)) * time.Millisecond) }

// run runs a command that may fail: the change may have ended, or not have begun.
func (s *soaked) run(command string) {
	out, err := exec.Command(redistest.Build(s.t), command, "-c", s.files[0]).CombinedOutput()
	s.t.Logf("keyway %s: %v %s", command, err, out)
}

// round changes the layout, with some faults meanwhile.
func (s *soaked) round(counts map[string]int) {
	s.t.Helper()
	cmd := exec.Command(redistest.Build(s.t), "switch", "--wait", "--rate", fmt.Sprint(2000+s.rng.IntN(20_000)),
		"-c", s.files[1-s.now])
	var out redistest.Log
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.sleep(3000)
	if s.rng.IntN(3) == 0 {
		cmd.Process.Kill()
		counts["command killed"]++
	}
	for range 1 + s.rng.IntN(2) {
		f := soakFaults[s.rng.IntN(len(soakFaults))]
		s.t.Logf("%s", f.name)
		counts[f.name]++
		f.strike(s)
		s.sleep(1000)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		s.t.Errorf("keyway switch does not end\n%s", out.String())
		cmd.Process.Kill()
	}
	s.arrive(out.String())
	s.check()
}

// arrive makes the next layout the one in force, whatever has happened. began is what the first command has
// printed.
func (s *soaked) arrive(began string) {
	s.t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		out, err := exec.Command(redistest.Build(s.t), "switch", "--wait", "-c", s.files[1-s.now]).CombinedOutput()
		if err == nil || strings.Contains(string(out), "is in force since epoch") {
			s.now, s.changes = 1-s.now, s.changes+1
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the layout does not change: %v\n%s\nat first:\n%s", err, out, began)
		}
	}
}

// check requires that each key is where the layout places it, and that clients are served.
func (s *soaked) check() {
	s.t.Helper()
	out, err := exec.Command(redistest.Build(s.t), "verify", "-c", s.files[s.now]).CombinedOutput()
	if err != nil {
		s.t.Errorf("keyway verify: %v\n%s", err, out)
	}
	for _, n := range [][]*redistest.Node{s.cluster.Nodes, s.ring}[s.now] {
		left := n.Keys()
		if len(left) > 0 {
			s.t.Errorf("after %d changes, %s still has %d keys, such as %q", s.changes, n.Addr, len(left),
				left[:min(len(left), 5)])
		}
	}
	filled(s.t, s.keyways[s.rng.IntN(3)].Addr, 20_000)
	for _, l := range s.loads {
		l.more(s.t, 100)
		if n := l.foreign.Load() + l.stale.Load() + l.otherErrors.Load(); n > 0 {
			s.t.Errorf("after %d changes: %v", s.changes, &l.tally)
		}
	}
}
