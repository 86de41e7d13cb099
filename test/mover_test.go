package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// moves is a change of the layout, from a ring of the nodes a and b to slots on b and c, and the keyways that
// see it.
type moves struct {
	t            *testing.T
	nodes        []*redistest.Node
	keyways      []*redistest.Process // called kw-0, kw-1...
	admin        []string             // their admin addresses
	older, newer string
	oldFile      string
	newFile      string
	keys         int
}

func newMoves(t *testing.T, keyways, keys int) *moves {
	t.Helper()
	m := &moves{t: t, nodes: redistest.Three(t), keys: keys}
	m.older = redistest.Ring(m.nodes[0].Addr, m.nodes[1].Addr)
	m.newer = "layout: slots\nslots: {static: {b: 0-8191, c: 8192-16383}}\nnodes:\n" +
		fmt.Sprintf("  - {name: b, addr: %s}\n  - {name: c, addr: %s}\n", m.nodes[1].Addr, m.nodes[2].Addr)
	m.oldFile, m.newFile = redistest.WriteFile(t, "old.yml", m.older), redistest.WriteFile(t, "new.yml", m.newer)
	for range keyways {
		m.join()
	}
	c := redistest.Dial(t, m.keyways[0].Addr)
	defer c.Close()
	for i := range keys {
		c.Send("SET", fmt.Sprint("key:", i), fmt.Sprint(i))
	}
	c.Flush()
	for range keys {
		if r, err := c.Receive(); err != nil || r.Text != "OK" {
			t.Fatal(r, err)
		}
	}
	return m
}

// join starts another keyway.
func (m *moves) join() {
	m.admin = append(m.admin, fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(m.t)))
	text := fmt.Sprintf("instance: kw-%d\nadmin: %s\n", len(m.keyways), m.admin[len(m.keyways)])
	m.keyways = append(m.keyways, redistest.ServeProcess(m.t, text+m.older))
}

// run runs a command of keyway, and returns what it prints and its exit status.
func (m *moves) run(args ...string) (string, int) {
	m.t.Helper()
	out, err := exec.Command(redistest.Build(m.t), args...).CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		m.t.Fatal(err)
	}
	m.t.Logf("keyway %s\n%s", strings.Join(args, " "), out)
	if ended != nil {
		return string(out), ended.ExitCode()
	}
	return string(out), 0
}

// must runs a command that succeeds.
func (m *moves) must(args ...string) string {
	m.t.Helper()
	out, status := m.run(args...)
	if status != 0 {
		m.t.Fatalf("exit status %d", status)
	}
	return out
}

// processes are those that may move keys, as node a shows them.
func (m *moves) processes() []mover.Process {
	return mover.Processes(m.nodes[0].Do("CLIENT", "LIST").Text, 1)
}

// awaitMover waits until another keyway than these moves keys, and has moved some. It returns its number.
func (m *moves) awaitMover(than ...int) (number int) {
	m.t.Helper()
	redistest.Eventually(m.t, 60*time.Second, "a keyway moves keys", func() bool {
		i := slices.IndexFunc(m.processes(), func(p mover.Process) bool {
			_, err := fmt.Sscanf(p.Instance, "kw-%d", &number)
			return err == nil && p.Moves && p.Moved > 0 && !slices.Contains(than, number)
		})
		return i >= 0
	})
	return number
}

// awaitEnd waits until the change is done. Then each key must be where the new layout places it, and clients
// must find it.
func (m *moves) awaitEnd(keyway int) {
	m.t.Helper()
	redistest.Eventually(m.t, 30*time.Second, "the change is done", func() bool {
		return hasRecord(m.nodes[0], "keyway_1_done") && hasRecord(m.nodes[1], "keyway_1_done") &&
			hasRecord(m.nodes[2], "keyway_1_done")
	})
	if n := len(m.nodes[0].Keys()); n > 0 {
		m.t.Errorf("%d keys are left at a", n)
	}
	if b, c := len(m.nodes[1].Keys()), len(m.nodes[2].Keys()); b+c != m.keys || c < m.keys/3 {
		m.t.Errorf("b has %d keys, and c %d", b, c)
	}
	m.find(keyway, 0, m.keys)
}

// find finds keys by a keyway.
func (m *moves) find(keyway, first, after int) {
	m.t.Helper()
	c := redistest.Dial(m.t, m.keyways[keyway].Addr)
	defer c.Close()
	for i := first; i < after; i++ {
		c.Send("GET", fmt.Sprint("key:", i))
	}
	c.Flush()
	for i := first; i < after; i++ {
		if r, err := c.Receive(); err != nil || r.Text != fmt.Sprint(i) {
			m.t.Fatalf("key:%d: %s, %v", i, r, err)
		}
	}
}

// metric returns the value of a metric of a keyway, -1 if it has none.
func (m *moves) metric(keyway int, name string) int {
	m.t.Helper()
	_, value, _ := strings.Cut(get(m.t, "http://"+m.admin[keyway]+"/metrics"), "\n"+name+" ")
	value, _, _ = strings.Cut(value, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return -1
	}
	return int(n)
}

// TestKeywaysMoveKeys: keyway switch returns, and one of the keyways moves the keys. When it is killed, another
// one goes on, and so it does when that one freezes. The frozen one does no harm when it wakes up.
func TestKeywaysMoveKeys(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 3, 8000)
	m.must("switch", "--rate", "400", "--latency", "0", m.oldFile, m.newFile)
	killed := m.awaitMover()
	m.keyways[killed].Kill()
	frozen := m.awaitMover(killed)
	m.keyways[frozen].Freeze()
	last := m.awaitMover(killed, frozen)
	m.keyways[frozen].Thaw()
	m.must("rate", "unlimited", "-c", m.newFile)
	m.awaitEnd(last)
	m.find(frozen, 0, 100)
}

// TestSwitchOutlivesItsCommand: keyway switch dies right after the change was decided, or when only the first
// node has entered the epoch. The keyways carry it out.
func TestSwitchOutlivesItsCommand(t *testing.T) {
	t.Parallel()
	for name, flipped := range map[string]bool{"decided": false, "at one node": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMoves(t, 2, 500)
			home, ctx := nodeOf(m.nodes[0]), within(t, 30*time.Second)
			_, err := home.Plan(ctx, register.Plan{Record: register.Record{
				Epoch: 1, Old: layoutOf(t, m.older), New: layoutOf(t, m.newer),
			}})
			if err != nil {
				t.Fatal(err)
			}
			to, err := home.Decide(ctx, 1, register.Go)
			if err != nil {
				t.Fatal(err)
			}
			if flipped {
				if err := home.Flip(ctx, to, switching.Fence{}); err != nil {
					t.Fatal(err)
				}
			}
			m.awaitEnd(1)
		})
	}
}

// TestPause: while the change is paused no key moves, but clients find each of them, and so they do at a keyway
// that starts later. Nobody who takes over the work goes on with it. A rate bounds how many keys move.
func TestPause(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 2, 6000)
	m.must("switch", "--rate", "200", "--latency", "0", m.oldFile, m.newFile)
	first := m.awaitMover()
	m.must("pause", "-c", m.oldFile)
	obeys := func(pace int) {
		redistest.Eventually(t, 30*time.Second, "who moves keys has seen the new pace", func() bool {
			all := m.processes()
			return len(all) > 0 && all[0].Moves && all[0].Paces == pace
		})
	}
	at := func() int { return len(m.nodes[2].Keys()) }
	obeys(1)
	m.join()
	m.keyways[first].Kill()
	redistest.Eventually(t, 30*time.Second, "another process would move keys", func() bool {
		all := m.processes()
		return len(all) == 2 && all[0].Moves && all[0].Instance != fmt.Sprint("kw-", first) && all[0].Paces == 1
	})
	paused := at()
	m.find(2, 0, 500)
	brought := at() - paused
	if brought == 0 || brought > 500 {
		t.Errorf("%d keys were brought for a client", brought)
	}
	pulled := m.metric(2, `keyway_switch_moved_total{by="pull"}`) // to both nodes of the new layout
	if pulled < brought || pulled > 500 || m.metric(2, `keyway_switch_pull_seconds_count`) < 1 {
		t.Errorf("%d keys were brought to c, and the metrics have %d", brought, pulled)
	}
	time.Sleep(1500 * time.Millisecond) // longer than it takes to move hundreds, at the rate
	if n := at() - paused - brought; n > 0 {
		t.Errorf("%d keys have moved during the pause", n)
	}
	before, began := len(m.nodes[0].Keys()), time.Now()
	m.must("resume", "-c", m.newFile)
	obeys(2)
	time.Sleep(time.Second)
	left, took := len(m.nodes[0].Keys()), time.Since(began)
	const atOnce = 2 * 3 * 100 // batches of two links of each node begin at once
	if most := int(took.Seconds()*200) + atOnce; before-left > most {
		t.Errorf("%d keys have left in %s, more than %d", before-left, took, most)
	}
	for _, c := range [][]string{
		{"auto: fewer keys while a node takes longer than 1ms", "auto"},
		{"at most 20000 keys/s, and fewer while a node takes longer than 1ms", "20000"},
		{"at most 20000 keys/s\n", "20000", "--latency", "0"},
	} {
		if text := m.must(append([]string{"rate", "-c", m.newFile}, c[1:]...)...); !strings.Contains(text, c[0]) {
			t.Errorf("rate %s: %s", c[1:], text)
		}
	}
	m.awaitEnd(2)
	text, status := m.run("pause", "-c", m.newFile)
	if status != 1 || !strings.Contains(text, "no keys are on their way") {
		t.Errorf("pause after the change: %d %s", status, text)
	}
}

// status returns what keyway status says.
func (m *moves) status(file string) (s mover.Status) {
	m.t.Helper()
	out, _ := m.run("status", "--json", "-c", file)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		m.t.Errorf("%v: %s", err, out)
	}
	return s
}

// says runs keyway status, and compares its exit status and what it prints.
func (m *moves) says(file string, exit int, texts ...string) {
	m.t.Helper()
	text, got := m.run("status", "-c", file)
	if got != exit {
		m.t.Errorf("exit status %d, want %d", got, exit)
	}
	for _, want := range texts {
		if !strings.Contains(text, want) {
			m.t.Errorf("it does not say %q", want)
		}
	}
}

// TestStatus: keyway status says how far a change is, what is wrong and what to do, by the file of either
// layout.
func TestStatus(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 1, 3000)
	m.says(m.oldFile, 0, "No change of the layout is known", "kw-0", "keyway plan")

	m.keyways[0].Freeze()
	home, ctx := nodeOf(m.nodes[0]), within(t, 60*time.Second)
	p := register.Plan{Record: register.Record{Epoch: 1, Old: layoutOf(t, m.older), New: layoutOf(t, m.newer)}}
	if _, err := home.Plan(ctx, p); err != nil {
		t.Fatal(err)
	}
	m.says(m.oldFile, 2, "epoch 1: planned", "problem: not prepared: kw-0 at 127.0.0.1",
		"keyway cancel")
	m.keyways[0].Thaw()
	redistest.Eventually(t, 20*time.Second, "the keyway is prepared", func() bool {
		return m.status(m.oldFile).State == switching.Prepared
	})

	pause := func(was register.Pace) register.Pace { return register.Pace{Paused: true, Rate: 100} }
	if _, err := home.SetPace(ctx, 1, pause); err != nil {
		t.Fatal(err)
	}
	if _, err := home.Decide(ctx, 1, register.Go); err != nil { // the keyway does the rest
		t.Fatal(err)
	}
	var s mover.Status
	redistest.Eventually(t, 20*time.Second, "all nodes are in the epoch", func() bool {
		s = m.status(m.newFile)
		return s.State == switching.Moving && s.By != nil && s.Keyways[0].State == "moving"
	})
	m.says(m.newFile, 0, "epoch 1: moving", "ring of a, b", "to        slots of b, c", "pace      paused",
		"moved by  kw-0 at 127.0.0.1: 0 keys", "keyway resume", "epoch 1")
	if len(s.Keyways) != 1 || s.Keyways[0].File == "" || len(s.Nodes) != 2 {
		t.Errorf("%+v", s)
	}

	if m.metric(0, "keyway_switch_epoch") != 1 || m.metric(0, "keyway_switch_moves_keys") != 1 ||
		m.metric(0, `keyway_switch_state{state="moving"}`) != 1 {
		t.Error("the metrics do not say that the keyway moves keys")
	}
	m.loseNode()
	m.must("rate", "unlimited", "-c", m.newFile)
	m.awaitEnd(0)
	const moved = `keyway_switch_moved_total{by="mover"}`
	redistest.Eventually(t, 20*time.Second, "the metrics say that the change is over, and count its keys", func() bool {
		return m.metric(0, "keyway_switch_epoch") == 0 && m.metric(0, moved) >= m.keys/3
	})
	if n := m.metric(0, moved); n > m.keys {
		t.Errorf("of %d keys, %d were moved", m.keys, n)
	}
	m.says(m.newFile, 0, "epoch 1: done", "write the new layout into the file of each keyway", "kw-0")
	m.nodes[0].Kill()
	m.says(m.newFile, 2, "cannot be told now", "problem: the node that has the records", "start node a")
}

// loseNode ends a pause while node c is down, and starts the node again.
func (m *moves) loseNode() {
	m.nodes[2].Kill()
	m.must("resume", "-c", m.oldFile)
	redistest.Eventually(m.t, 30*time.Second, "what it waits for is said", func() bool {
		s := m.status(m.oldFile)
		return s.State == switching.Flipping && s.By != nil && strings.Contains(s.By.Waits, "node c")
	})
	redistest.Eventually(m.t, 10*time.Second, "the metrics say that it waits", func() bool {
		return m.metric(0, "keyway_switch_waits") == 1
	})
	m.says(m.oldFile, 2, "problem: node c cannot be asked (", "commands for its keys wait or fail",
		"next: start node c")
	text, _ := m.run("status", "-c", m.oldFile)
	if strings.Count(text, "refused") > 1 || strings.Contains(text, "failed:") {
		m.t.Error("it says twice what is wrong")
	}
	m.nodes[2].Run()
	m.nodes[2].Answers()
	redistest.Eventually(m.t, 20*time.Second, "clients reach node c", func() bool {
		isRefused := false
		for range 20 { // each thread of the keyway has connections of its own to the node
			c := redistest.Dial(m.t, m.keyways[0].Addr)
			for i := range 5 { // at an MGET, errors would be elements of the reply
				isRefused = c.Do("GET", fmt.Sprint("key:", i)).Kind == '-' || isRefused
			}
			c.Close()
		}
		return !isRefused
	})
}

// TestHomeOfClusterMoves: when slot 0 of a cluster moves to another node while the cluster's keys move away, that
// node is the home of the change. It knows of the pause and the plan, and status says who moves the keys.
func TestHomeOfClusterMoves(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	cluster, apart := redistest.NewCluster(t, 2, 0), redistest.Start(t)
	m := &moves{t: t, older: cluster.SeedsYAML(), newer: redistest.Ring(apart.Addr)}
	m.oldFile = redistest.WriteFile(t, "old.yml", m.older)
	m.newFile = redistest.WriteFile(t, "new.yml", m.newer+"switch: {batch: 1}\n")
	k := startReloadable(t, m.older, "instance: kw-0\n")
	startReloadable(t, m.older, "instance: kw-1\n")
	c := redistest.Dial(t, k.listen)
	for i := range 100 {
		c.Expect("OK", "SET", fmt.Sprint("key:", i), "x")
	}
	m.must("switch", "--rate", "1", m.oldFile, m.newFile)
	m.must("pause", "-c", m.oldFile)
	knows := func() bool {
		s := m.status(m.oldFile)
		return s.By != nil && s.Pace != nil && s.Pace.Paused && s.Planned != nil && len(s.Keyways) == 2
	}
	redistest.Eventually(t, 30*time.Second, "the home says how far the change is", knows)
	at := cluster.Owner(0, 0)
	from, to := cluster.Nodes[at], cluster.Nodes[1-at]
	to.Do("CLUSTER", "SETSLOT", "0", "IMPORTING", cluster.IDs[at])
	from.Do("CLUSTER", "SETSLOT", "0", "MIGRATING", cluster.IDs[1-at])
	for _, n := range []*redistest.Node{to, from} {
		n.Do("CLUSTER", "SETSLOT", "0", "NODE", cluster.IDs[1-at])
	}
	redistest.Eventually(t, 30*time.Second, "the new home says how far the change is", func() bool {
		return knows() && hasRecord(to, "keyway_1_pace_1")
	})
	if n := len(apart.Keys()); n > 50 {
		t.Errorf("in a pause, %d keys have moved", n)
	}
	m.must("rate", "unlimited", "-c", m.newFile)
	m.must("resume", "-c", m.newFile)
	redistest.Eventually(t, 30*time.Second, "the change is done", func() bool {
		return m.status(m.oldFile).State == switching.Done && len(apart.Keys()) == 100
	})
}

// TestHomeStartsEmpty: when the home of a change comes back without its data, the keyways tell it what it said
// before: the pause lasts, and the keys that are left move as planned.
func TestHomeStartsEmpty(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 2, 100)
	m.newFile = redistest.WriteFile(t, "paced.yml", m.newer+"switch: {batch: 1}\n")
	m.must("switch", "--rate", "1", m.oldFile, m.newFile)
	m.must("pause", "-c", m.oldFile)
	knows := func() bool {
		s := m.status(m.oldFile)
		return s.By != nil && s.Pace != nil && s.Pace.Paused && s.Planned != nil && len(s.Keyways) == 2
	}
	redistest.Eventually(t, 30*time.Second, "the home says how far the change is", knows)
	at := slices.IndexFunc(m.nodes, func(n *redistest.Node) bool { return hasRecord(n, "keyway_1_plan") })
	home := m.nodes[at]
	m.knowPace(home, 2)
	for range 2 { // the second time, whoever moves keys does nothing but wait for the end of the pause
		home.Kill()
		home.Run()
		redistest.Eventually(t, 30*time.Second, "the empty home says the same", func() bool {
			return hasRecord(home, "keyway_1") && knows()
		})
	}
	for i := range 10 {
		key := fmt.Sprint("absent:", i)
		redistest.Eventually(t, 30*time.Second, "keyways use it", func() bool {
			return redistest.Ask(m.keyways[0].Addr, "GET", key).Null
		})
	}
	m.must("rate", "unlimited", "-c", m.newFile)
	m.must("resume", "-c", m.newFile)
	redistest.Eventually(t, 30*time.Second, "the change is done", func() bool {
		return m.status(m.oldFile).State == switching.Done
	})
}

// knowPace waits until as many keyways say at the home of the change that they obey its first pace.
func (m *moves) knowPace(home *redistest.Node, keyways int) {
	m.t.Helper()
	redistest.Eventually(m.t, 30*time.Second, "the keyways obey the pace", func() bool {
		return strings.Count(home.Do("CLIENT", "LIST").Text, "&pace=1") == keyways
	})
}

// TestPauseOutlastsItsHome: the home of a change comes back without its data, and gets its records from a keyway that
// was frozen when the pause was ordered. The other one adds the pause.
func TestPauseOutlastsItsHome(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 2, 5_000) // more than move in the meantime
	m.must("switch", "--rate", "1", m.oldFile, m.newFile)
	at := slices.IndexFunc(m.nodes, func(n *redistest.Node) bool { return hasRecord(n, "keyway_1_plan") })
	home, knows, lags := m.nodes[at], m.keyways[0], m.keyways[1]
	redistest.Eventually(t, 30*time.Second, "both take part", func() bool {
		return strings.Count(home.Do("CLIENT", "LIST").Text, "epoch=1") >= 2 && m.status(m.oldFile).By != nil
	})
	lags.Freeze()
	m.must("pause", "-c", m.oldFile)
	m.knowPace(home, 1)
	knows.Freeze()
	home.Kill()
	home.Run()
	lags.Thaw()
	redistest.Eventually(t, 30*time.Second, "the home has its plan again", func() bool {
		return hasRecord(home, "keyway_1_plan")
	})
	if hasRecord(home, "keyway_1_pace_1") {
		t.Error("a keyway that was frozen knows the pause")
	}
	knows.Thaw()
	redistest.Eventually(t, 30*time.Second, "the change is paused again", func() bool {
		return hasRecord(home, "keyway_1_pace_1") && m.status(m.oldFile).Pace.Paused
	})
}
