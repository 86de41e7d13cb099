package faults

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// scenarios are what a change of the layout must survive over each kind of server.
var scenarios = []struct {
	name string
	play func(t *testing.T)
	in   string // the test that does this over redis-server, in a similar way
}{
	{"A: many keys move under load", manyKeysMove, "TestSwitchCommand"},
	{"B: who moves keys is killed, and the next one is stopped", moversEnd, "TestKeywaysMoveKeys"},
	{"C: a keyway is stopped while nodes enter the epoch", stoppedAcross, "TestSwitchWithStoppedKeyway"},
	{"D: taken back in the middle, and who moved keys wakes up", takenBackWhileStopped, "TestMoverOfAnEarlierEpoch"},
	{"E: nobody knows of a keyway that serves clients", unknownKeyway, ""},
	{"F: into a cluster of other nodes", intoCluster, "TestSwitchWhileTheClusterChanges"},
	{"G: there and back again, and processes die", thereAndBack, "TestSwitchInEachState"},
}

// TestSwitchScenarios: clients of several keyways lose nothing, and no lock has two holders, whatever becomes of
// the processes that take part. make servers runs it over each other kind of server; the long form plays
// all scenarios over redis-server, too, with more keys.
func TestSwitchScenarios(t *testing.T) {
	redistest.OfAProcess(t)
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			if s.in != "" && redistest.Chosen(t).Name == redistest.Redis.Name && !*long {
				t.Skipf("%s does this over redis-server", s.in)
			}
			t.Parallel()
			began := time.Now()
			s.play(t)
			t.Logf("%.1f s", time.Since(began).Seconds())
		})
	}
}

// scene is a layout that changes while clients use it by several keyways, called kw-0, kw-1...
type scene struct {
	t       *testing.T
	layouts [2]string
	files   [2]string
	now     int // which layout is in force
	home    *redistest.Node
	nodes   []*redistest.Node
	cold    int // keys that no client uses
	keyways []*redistest.Process
	loads   []*load
	locks   *lockers
	// disturbed has the keyways that were stopped or killed: what their clients had in flight is unknown.
	disturbed map[int]bool
}

// newScene starts keyways and their clients. The home of each change is the first node.
func newScene(t *testing.T, layouts [2]string, nodes []*redistest.Node, keyways, cold int) *scene {
	t.Helper()
	s := &scene{t: t, layouts: layouts, home: nodes[0], nodes: nodes, cold: cold, disturbed: map[int]bool{}}
	var addrs []string
	for i := range layouts {
		s.files[i] = redistest.WriteFile(t, fmt.Sprintf("layout%d.yml", i), s.layouts[i])
	}
	for i := range keyways {
		yaml := fmt.Sprintf("instance: kw-%d\nbackend: {request_timeout: 20s}\n", i)
		s.keyways = append(s.keyways, redistest.ServeProcess(t, yaml+s.layouts[0]))
		addrs = append(addrs, s.keyways[i].Addr)
	}
	fill(t, addrs[0], cold)
	for i, addr := range addrs {
		s.loads = append(s.loads, (&load{
			addr: addr, clients: 4, keys: 30, pause: 20 * time.Millisecond, prefix: fmt.Sprintf("load%d:", i),
			reconnect: true,
		}).start(t))
	}
	s.locks = newLockers(t, addrs...)
	s.locks.run(t)
	return s
}

// ofFour returns a scene of a ring of three nodes, and slots on two of them and another one.
func ofFour(t *testing.T, keyways, cold int) *scene {
	t.Helper()
	nodes, ring, slots := twoLayouts(t)
	return newScene(t, [2]string{ring, slots}, nodes, keyways, cold)
}

// begin begins a change to the other layout.
func (s *scene) begin(flags ...string) *change {
	s.t.Helper()
	return beginSwitch(s.t, s.layouts[s.now], s.layouts[1-s.now], flags...)
}

// beginAndStop is like begin, and stops a keyway before it holds its commands. Had it been stopped earlier, the
// change would not begin.
func (s *scene) beginAndStop(i int, flags ...string) *change {
	s.t.Helper()
	c := &change{when: "are prepared", then: func() { s.stop(i) }}
	return c.begin(s.t, s.layouts[s.now], s.layouts[1-s.now], flags...)
}

// goesThrough waits until a change is done.
func (s *scene) goesThrough(c *change) {
	s.t.Helper()
	c.goesThrough()
	s.now = 1 - s.now
}

// awaitMover waits until another keyway than these has moved some keys. It returns its number.
func (s *scene) awaitMover(epoch int64, than ...int) (number int) {
	s.t.Helper()
	redistest.Eventually(s.t, 60*time.Second, "a keyway moves keys", func() bool {
		all := mover.Processes(s.home.Do("CLIENT", "LIST").Text, epoch)
		return slices.ContainsFunc(all, func(p mover.Process) bool {
			_, err := fmt.Sscanf(p.Instance, "kw-%d", &number)
			return err == nil && p.Moves && p.Moved > 0 && !slices.Contains(than, number)
		})
	})
	return number
}

// stop stops a keyway.
func (s *scene) stop(i int) {
	s.disturbed[i] = true
	s.keyways[i].Freeze()
}

// kill kills a keyway.
func (s *scene) kill(i int) {
	s.disturbed[i] = true
	s.keyways[i].Kill()
}

// run runs a command of keyway.
func (s *scene) run(args ...string) {
	s.t.Helper()
	if out, err := exec.Command(redistest.Build(s.t), args...).CombinedOutput(); err != nil {
		s.t.Errorf("keyway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// end ends the load, and checks what is there.
func (s *scene) end() {
	s.t.Helper()
	for _, l := range s.loads {
		l.more(s.t, 100)
	}
	for i, l := range s.loads {
		l.halt()
		l.settle(s.t, s.keyways[(i+1)%len(s.keyways)].Addr)
		if l.errors()+l.lost.Load() > 0 && !s.disturbed[i] {
			s.t.Errorf("clients of kw-%d got errors", i)
		}
	}
	s.locks.halt()
	if len(s.disturbed) == 0 {
		s.locks.judge(s.t)
	}
	for _, lock := range slices.Concat(s.locks.short, s.locks.kept) {
		if lock.overlaps > 0 {
			s.t.Errorf("%s was held by two clients %d times", lock.name, lock.overlaps)
		}
	}
	s.run("verify", "-c", s.files[s.now])
	filled(s.t, s.keyways[len(s.keyways)-1].Addr, s.cold)
	census(s.t, s.keyways[0].Addr, s.nodes)
}

func manyKeysMove(t *testing.T) {
	s := ofFour(t, 2, scale(6000, 200_000))
	s.goesThrough(s.begin())
	s.end()
}

func moversEnd(t *testing.T) {
	s := ofFour(t, 3, scale(2000, 20_000))
	c := s.begin("--rate", "150", "--latency", "0").moves()
	killed := s.awaitMover(1)
	s.kill(killed)
	stopped := s.awaitMover(1, killed)
	s.stop(stopped)
	s.awaitMover(1, killed, stopped)
	s.run("rate", "unlimited", "-c", s.files[0])
	c.goesThrough()
	s.now = 1
	s.keyways[stopped].Thaw()
	s.keyways[killed].Restart()
	s.end()
}

func stoppedAcross(t *testing.T) {
	s := ofFour(t, 2, scale(2000, 20_000))
	c := s.beginAndStop(1, "--rate", "500").moves()
	s.loads[0].more(t, 300)
	s.keyways[1].Thaw()
	s.goesThrough(c)
	s.end()
}

func takenBackWhileStopped(t *testing.T) {
	s := ofFour(t, 2, scale(2000, 20_000))
	c := s.begin("--rate", "150", "--latency", "0").moves()
	stopped := s.awaitMover(1)
	s.now = 1
	s.goesThrough(s.beginAndStop(stopped))
	s.keyways[stopped].Thaw()
	c.kill()
	s.end()
}

// unknownKeyway: the home refuses a keyway, so nobody knows of it, and it does not hold its commands. It has keys of
// another node in use, which move. That node ends its connections when it enters the epoch. Without that, which
// is planted in test/mutants as "a node enters an epoch, and connections of earlier ones stay", it would go on
// there, and its clients would see old values.
func unknownKeyway(t *testing.T) {
	nodes := append(redistest.Three(t), redistest.Start(t))
	layout := func(last *redistest.Node, name string) string {
		list := redistest.NodesYAML([]*redistest.Node{nodes[0], nodes[1], last})
		return "layout: slots\nslots: {static: {a: 0-5460, b: 5461-10922, " + name + ": 10923-16383}}\n" +
			strings.Replace(list, "name: c", "name: "+name, 1)
	}
	s := &scene{t: t, layouts: [2]string{layout(nodes[2], "c"), layout(nodes[3], "d")}, home: nodes[0], nodes: nodes}
	for _, n := range nodes {
		n.Do("ACL", "SETUSER", "stranger", "on", ">pw", "~*", "&*", "+@all")
	}
	s.keyways = []*redistest.Process{
		redistest.ServeProcess(t, s.layouts[0]),
		redistest.ServeProcess(t, "backend: {username: stranger, password: pw, request_timeout: 20s}\n"+s.layouts[0]),
	}
	tag := 0
	for slots.Of(fmt.Append(nil, tag)) < 10923 {
		tag++
	}
	l := (&load{
		addr: s.keyways[1].Addr, clients: 6, keys: 50, pause: 4 * time.Millisecond, prefix: fmt.Sprintf("{%d}", tag),
	}).start(t)
	l.more(t, 2000)
	s.home.Do("ACL", "SETUSER", "stranger", "off")
	s.home.Do("CLIENT", "KILL", "USER", "stranger")
	c := s.begin("--rate", "300", "--latency", "0").moves()
	if strings.Contains(s.home.Do("CLIENT", "LIST").Text, "user=stranger") {
		t.Error("the home serves the keyway that nobody should know of")
	}
	redistest.Eventually(t, 20*time.Second, "keys have moved", func() bool { return len(nodes[3].Keys()) > 300 })
	l.more(t, 1000)
	s.home.Do("ACL", "SETUSER", "stranger", "on")
	c.goesThrough()
	l.more(t, 1000)
	l.halt()
	for _, k := range s.keyways {
		l.settle(t, k.Addr)
	}
	census(t, s.keyways[0].Addr, s.nodes)
	if left := len(nodes[2].Keys()); left > 0 {
		t.Errorf("%d keys are left at c", left)
	}
}

func intoCluster(t *testing.T) {
	cluster, apart := redistest.NewCluster(t, 3, 0), redistest.Three(t)
	ring := "layout: ring\nhash_tag: \"{}\"\n" + redistest.NodesYAML(apart)
	s := newScene(t, [2]string{ring, cluster.SeedsYAML()}, append(apart, cluster.Nodes...), 2, scale(2000, 20_000))
	s.goesThrough(s.begin())
	for _, n := range apart {
		if left := len(n.Keys()); left > 0 {
			t.Errorf("%s still has %d keys", n.Addr, left)
		}
	}
	s.end()
}

func thereAndBack(t *testing.T) {
	s := ofFour(t, 3, scale(2000, 20_000))
	rng := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	const none = -1
	asleep := none // the keyway that was stopped in the change before; it wakes up in the middle of the next
	for i := range scale(2, 10) {
		victim, fault, stopped := rng.IntN(3), rng.IntN(3), none
		rate := fmt.Sprint(1000 + rng.IntN(5000))
		var c *change
		if i%2 == 0 {
			stopped = victim
			c = s.beginAndStop(stopped, "--rate", rate)
		} else {
			c = s.begin("--rate", rate)
		}
		if rng.IntN(3) > 0 {
			c.moves()
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond) // the fault comes at any time
		if asleep != none {
			s.keyways[asleep].Thaw()
		}
		asleep = stopped
		switch {
		case fault == 0:
			t.Logf("%d: the command is killed; stopped: %d", i, stopped)
			c.kill()
		case fault == 1 && victim != stopped:
			t.Logf("%d: kw-%d is killed", i, victim)
			s.kill(victim)
			s.keyways[victim].Restart()
		default:
			t.Logf("%d: stopped: %d", i, stopped)
		}
		s.arrive(c)
	}
	if asleep != none {
		s.keyways[asleep].Thaw()
	}
	s.end()
}

// arrive makes the next layout the one in force, whatever has happened to the change.
func (s *scene) arrive(c *change) {
	s.t.Helper()
	err := <-c.ended
	c.ended <- err
	args := []string{"switch", "--wait", "-c", s.files[1-s.now]}
	for end := time.Now().Add(time.Minute); err != nil; time.Sleep(200 * time.Millisecond) {
		var out []byte
		out, err = exec.Command(redistest.Build(s.t), args...).CombinedOutput()
		if strings.Contains(string(out), "; name both files: ") { // the command had not planned the first change
			args = []string{"switch", "--wait", s.files[s.now], s.files[1-s.now]}
			continue
		}
		if strings.Contains(string(out), "is in force since epoch") {
			break
		}
		if err != nil && time.Now().After(end) {
			s.t.Fatalf("the layout does not change: %v\n%s\nat first:\n%s", err, out, c.out.String())
		}
	}
	s.now = 1 - s.now
}
