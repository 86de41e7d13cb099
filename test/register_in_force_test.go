package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// layoutOf returns the layout of a configuration, for a record.
func layoutOf(t testing.TB, yaml string) register.Layout {
	t.Helper()
	c, err := config.Parse("x.yml", []byte(yaml), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return register.Layout{Hash: c.PlacementHash(), Config: c.PlacementText()}
}

// putInForce writes the record of an epoch on nodes, as a switch of the layout does. No keyway moves keys
// that clients do not use: that is paused.
func putInForce(t testing.TB, epoch int64, older, newer string, nodes ...*redistest.Node) {
	t.Helper()
	r := register.Record{Epoch: epoch, Old: layoutOf(t, older), New: layoutOf(t, newer)}
	code, err := r.Code()
	if err != nil {
		t.Fatal(err)
	}
	pace, err := register.Pace{Paused: true}.Code(epoch, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if r.Moves() {
			n.Do("FUNCTION", "LOAD", pace)
		}
		if got := n.Do("FUNCTION", "LOAD", code).Text; got != register.Name(epoch) {
			t.Fatalf("FUNCTION LOAD: %s", got)
		}
	}
}

// endChange says on a node that the change to an epoch is done.
func endChange(n *redistest.Node, epoch int64) {
	n.Do("FUNCTION", "LOAD", register.Note(register.DoneName(epoch)))
}

const registeredKeys = 100

// fillBy writes keys through a keyway with this configuration, which ends then.
func fillBy(t testing.TB, yaml string) {
	t.Helper()
	p := redistest.ServeProcess(t, yaml)
	c := redistest.Dial(t, p.Addr)
	for i := range registeredKeys {
		c.Expect("OK", "SET", fmt.Sprintf("key:%d", i), fmt.Sprint(i))
	}
	p.End()
}

// lost returns how many of fillBy's keys a keyway at addr does not find.
func lost(t testing.TB, addr string) (missing int) {
	t.Helper()
	c := redistest.Dial(t, addr)
	defer c.Close()
	for i := range registeredKeys {
		if c.Do("GET", fmt.Sprintf("key:%d", i)).Text != fmt.Sprint(i) {
			missing++
		}
	}
	return missing
}

// TestRegisterWinsOverFile: a keyway with an edited file serves by the layout that the nodes
// say is in force, and says so in its log, its metrics and in check. The other commands
// refuse the file.
func TestRegisterWinsOverFile(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b, added := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	ring := redistest.Ring(a.Addr, b.Addr)
	fillBy(t, ring)
	putInForce(t, 1, ring, ring, a, b)
	edited := "layout: modulo\n" + redistest.NodesYAML([]*redistest.Node{a, b, added})
	k := startReloadable(t, edited, "")
	if n := lost(t, k.listen); n != 0 || len(added.Keys()) != 0 {
		t.Errorf("%d of %d keys are hidden", n, registeredKeys)
	}
	for _, want := range []string{
		"level=WARN msg=\"the nodes say that another layout is in force than the file, so keyway serves by theirs;",
		"epoch=1 in_force=ring placement=" + layoutOf(t, ring).Hash,
		"file=modulo file_placement=" + layoutOf(t, edited).Hash,
	} {
		redistest.Eventually(t, 5*time.Second, "the log has "+want, func() bool {
			return strings.Contains(k.stderr.String(), want)
		})
	}
	for _, want := range []string{"keyway_layout_epoch 1\n", "keyway_layout_not_of_file 1\n"} {
		if text := get(t, "http://"+k.admin+"/metrics"); !strings.Contains(text, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	commandsRefuse(t, k.file, ring)
	// The file goes back.
	k.nodes = ring
	k.expect(k.reload(""), "reloaded keyway.yml\n  the layout of this file is in force\n")
	if n := lost(t, k.listen); n != 0 {
		t.Errorf("%d keys are hidden after a reload with the right file", n)
	}
	if text := get(t, "http://"+k.admin+"/metrics"); !strings.Contains(text, "keyway_layout_not_of_file 0\n") {
		t.Error("the metrics still say that another layout is in force")
	}
	out, err := exec.Command(redistest.Build(t), "check", "--connect", "-c", k.file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "this layout is in force since epoch 1") {
		t.Errorf("check: %v\n%s", err, out)
	}
	// An edit while keyway runs changes nothing either.
	k.nodes = edited
	k.expect(k.reload(""), "reloaded keyway.yml\n"+
		"  problem: the nodes say that another layout is in force (epoch 1, placement "+layoutOf(t, ring).Hash+
		") than this file's (placement "+layoutOf(t, edited).Hash+"); keyway serves by theirs; "+
		"keyway check --connect prints their layout\n")
	if n := lost(t, k.listen); n != 0 {
		t.Errorf("a reload of the edited file hides %d keys", n)
	}
}

// commandsRefuse requires that commands refuse a file while the layout inForce is in force.
func commandsRefuse(t *testing.T, file, inForce string) {
	t.Helper()
	for _, args := range [][]string{
		{"check", "--connect", "-c", file}, {"verify", "-c", file}, {"plan", file, file},
		{"migrate", file, file},
	} {
		out, err := exec.Command(redistest.Build(t), args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the nodes say that another layout is in force") {
			t.Errorf("keyway %s: %v\n%s", args[0], err, out)
		}
	}
	old := redistest.WriteFile(t, "old.yml", inForce)
	out, err := exec.Command(redistest.Build(t), "migrate", old, file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FUNCTION DELETE keyway_1") {
		t.Errorf("keyway migrate from the layout in force: %v\n%s", err, out)
	}
}

// TestRegisterAppears: a running keyway takes the layout of a register that appears. From the
// end of its connections on, it never looks for a key by the former layout.
func TestRegisterAppears(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t), redistest.Start(t)
	ring := redistest.Ring(a.Addr, b.Addr)
	modulo := "layout: modulo\n" + redistest.NodesYAML([]*redistest.Node{a, b})
	const unguarded = "placement: {misplaced: off}\n"
	fillBy(t, modulo+unguarded)
	k := startReloadable(t, ring, unguarded)
	if lost(t, k.listen) == 0 {
		t.Fatal("both layouts place all keys alike")
	}
	endChange(a, 3)
	putInForce(t, 3, ring, modulo, a, b)
	for _, n := range []*redistest.Node{a, b} {
		n.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}
	c := redistest.Dial(t, k.listen)
	answered := func() (all bool) {
		all = true
		for i := range registeredKeys {
			r := c.Do("GET", fmt.Sprintf("key:%d", i))
			if r.Text != fmt.Sprint(i) && r.Kind != '-' {
				t.Fatalf("key:%d is %q: looked up by the former layout", i, r.Text)
			}
			all = all && r.Kind != '-'
		}
		return all
	}
	redistest.Eventually(t, 20*time.Second, "keyway serves by the new layout", answered)
	redistest.Eventually(t, 10*time.Second, "the log says that", func() bool {
		return strings.Contains(k.stderr.String(), "a later epoch is in force; keyway serves by it\" epoch=3")
	})
	if text := get(t, "http://"+k.admin+"/metrics"); !strings.Contains(text, "keyway_layout_epoch 3\n") {
		t.Error("the metrics have another epoch")
	}
	// One node loses its register. It is used all the same.
	b.Do("FUNCTION", "FLUSH")
	b.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	redistest.Eventually(t, 20*time.Second, "keyway serves a node without register", answered)
	redistest.Eventually(t, 20*time.Second, "the log says which node has lost it", func() bool {
		return strings.Contains(k.stderr.String(), "msg=\"the node has lost its register, as if it had started empty; "+
			"keyway uses it all the same\" node=b addr="+b.Addr+" epoch=0 served_epoch=3")
	})
}

// TestChangeUnderWay: keyways take part in a change of the layout that somebody else has begun. They
// send nothing to a node that has not begun it, and make it begin. verify accepts keys where
// either layout places them, and repairs nothing before all nodes have begun it. The other commands refuse to
// look.
func TestChangeUnderWay(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t), redistest.Start(t)
	ring := redistest.Ring(a.Addr, b.Addr)
	modulo := "layout: modulo\n" + redistest.NodesYAML([]*redistest.Node{a, b})
	fillBy(t, ring)
	k := startReloadable(t, ring, "backend: {request_timeout: 1s}\n")
	b.Do("ACL", "SETUSER", "default", "-function|load")
	putInForce(t, 1, ring, modulo, a)
	a.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	c := redistest.Dial(t, k.listen)
	answers := map[bool]int{}
	for i := range registeredKeys { // node b has not begun the epoch, so nothing may be sent there
		r := c.Do("GET", fmt.Sprintf("key:%d", i))
		answers[r.Kind != '-']++
		if r.Kind == '-' && !strings.Contains(r.Text, "has not begun epoch 1") ||
			r.Kind != '-' && r.Text != fmt.Sprint(i) {
			t.Fatalf("key:%d: %s", i, r)
		}
		if answers[false] > 2 {
			break // each takes a second
		}
	}
	if answers[false] == 0 {
		t.Error("node b is used")
	}
	file := redistest.WriteFile(t, "k.yml", "listen: 127.0.0.1:0\n"+ring)
	const underWay = "the nodes say that the layout is being changed"
	notBegun := "node b (" + b.Addr + "): looking at its register: the node is in epoch 0"
	for _, run := range []struct {
		want string
		args []string
	}{
		{notBegun, []string{"verify", "--repair", "-c", file}},
		{underWay, []string{"check", "--connect", "-c", file}},
		{underWay, []string{"plan", file, file}},
	} {
		out, err := exec.Command(redistest.Build(t), run.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), run.want) {
			t.Errorf("%s: %v\n%s", run.args[0], err, out)
		}
	}
	verifiesChange(t, b, ring, modulo)
	b.Do("ACL", "SETUSER", "default", "+function|load")
	redistest.Eventually(t, 60*time.Second, "keyway serves all keys", func() bool { return lost(t, k.listen) == 0 })
	later := redistest.ServeProcess(t, ring) // one that starts in the middle
	if n := lost(t, later.Addr); n != 0 {
		t.Errorf("%d of %d keys are hidden from a keyway that has started meanwhile", n, registeredKeys)
	}
	endChange(b, 1)
	endChange(a, 1)
	redistest.Eventually(t, 20*time.Second, "the change is over", func() bool {
		return strings.Contains(k.stderr.String(), "keyway serves by it alone")
	})
	if n := lost(t, k.listen); n != 0 {
		t.Errorf("%d of %d keys are hidden after the change", n, registeredKeys)
	}
}

// verifiesChange requires of keyway verify, with the file of either layout, that it finds a key on node b
// that both place on a, and accepts the others.
func verifiesChange(t *testing.T, b *redistest.Node, older, newer string) {
	t.Helper()
	stray := ""
	for i := 0; stray == ""; i++ {
		key := fmt.Sprint("stray:", i)
		if routeOf(t, older, key) == "a" && routeOf(t, newer, key) == "a" {
			stray = key
		}
	}
	const clean = "All 100 keys are where the layouts place them, "
	for _, file := range []string{older, newer} {
		if out, status := keyway(t, "verify", "-c", file); status != 0 || !strings.Contains(out, clean) {
			t.Errorf("verify: status %d, lacks %q:\n%s", status, clean, out)
		}
		b.Do("SET", stray, "x")
		out, status := keyway(t, "verify", "-c", file)
		want := fmt.Sprintf("%q on b belongs to a\n1 of 101 keys", stray)
		if status != 2 || !strings.Contains(out, want) {
			t.Errorf("verify: status %d, lacks %q:\n%s", status, want, out)
		}
		b.Do("DEL", stray)
	}
}

// TestBusyNodeHidesNoEpoch: a node that is busy with a script does not say what its register is.
// keyway sends it no command until it has, so that none is executed in a later epoch, whenever the
// script ends.
func TestBusyNodeHidesNoEpoch(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t, "--busy-reply-threshold", "20"), redistest.Start(t)
	ring := redistest.Ring(a.Addr, b.Addr)
	k := startReloadable(t, ring, "backend: {request_timeout: 1s}\n")
	r := register.Record{Epoch: 1, Old: layoutOf(t, ring), New: layoutOf(t, ring)}
	r.New.Hash = "0123456789ab" // a layout that this version does not understand
	code, err := r.Code()
	if err != nil {
		t.Fatal(err)
	}
	a.Do("FUNCTION", "LOAD", code)
	a.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") // those that were greeted before
	c := redistest.Dial(t, k.listen)
	told := 0
	for range 20 { // at first, requests wait for keyway to take the layout
		script := redistest.Dial(t, a.Addr)
		script.Send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		script.Send("EVAL", redistest.BusyScript(100*time.Millisecond), "0")
		script.Flush()
		ended := make(chan error, 1)
		go func() {
			script.Receive()
			_, err := script.Receive()
			ended <- err
		}()
		for running := true; running; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				running = false // after one more round
			default:
			}
			for i := range 50 {
				c.Send("SET", fmt.Sprint(i), "x")
			}
			c.Flush()
			for range 50 {
				if r, err := c.Receive(); err != nil {
					t.Fatal(err)
				} else if strings.HasPrefix(r.Text, "BUSY ") {
					told++
				}
			}
		}
		script.Close()
	}
	if told == 0 {
		t.Error("keyway has never met the busy node")
	}
	if keys := a.Keys(); len(keys) != 0 {
		t.Errorf("node a was used: %q", keys)
	}
}

// TestClusterKeepsItsRegister: a replica that is promoted has the register of its master.
func TestClusterKeepsItsRegister(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	cluster := redistest.NewCluster(t, 3, 1)
	yaml := cluster.SeedsYAML()
	p := redistest.ServeProcess(t, yaml)
	for _, n := range cluster.Nodes {
		if n.Role() == "master" {
			putInForce(t, 1, yaml, yaml, n)
		}
	}
	cluster.Settle()
	cluster.Failover(3)
	for i, n := range cluster.Nodes {
		redistest.Eventually(t, 10*time.Second, fmt.Sprintf("node %d has the register", i), func() bool {
			return len(n.Do("FUNCTION", "LIST", "LIBRARYNAME", register.Pattern).Elems) == 1
		})
	}
	c := redistest.Dial(t, p.Addr)
	redistest.Eventually(t, 20*time.Second, "keyway serves", func() bool { return c.Do("SET", "x", "y").Kind == '+' })
	out, err := exec.Command(redistest.Build(t), "check", "--connect", "-c",
		redistest.WriteFile(t, "k.yml", yaml)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "this layout is in force since epoch 1") {
		t.Errorf("check: %v\n%s", err, out)
	}
}
