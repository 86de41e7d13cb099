package faults

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	records "github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/slots"
	changes "github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// halves returns configurations of slots that are all on a node, and then half of them on another.
func halves(t *testing.T, options ...string) (a, b *redistest.Node, older, newer string) {
	t.Helper()
	a, b = redistest.Start(t, options...), redistest.Start(t, options...)
	nodes := redistest.NodesYAML([]*redistest.Node{a, b})
	return a, b, "layout: slots\nslots: {static: {a: 0-16383}}\n" + nodes,
		"layout: slots\nslots: {static: {a: 0-8191, b: 8192-16383}}\n" + nodes
}

// TestSwitchToFullNode: a node becomes full while keys move to it. Commands on keys that do not fit are
// not executed, their keys stay, and all goes on when the node has more memory.
func TestSwitchToFullNode(t *testing.T) {
	t.Parallel()
	a, b, older, newer := halves(t)
	k := redistest.ServeProcess(t, older)
	fill(t, k.Addr, 20_000)
	s := beginSwitch(t, older, newer, "--rate", "1000").moves()
	b.Do("CONFIG", "SET", "maxmemory", "1")
	c := redistest.Dial(t, k.Addr)
	refused := ""
	for i := 0; refused == "" && i < 2_000; i++ {
		key := fmt.Sprint("cold:", i)
		switch r := c.Do("GET", key); {
		case r.Text == fmt.Sprint(i): // it stays, or had come before
		case strings.HasPrefix(r.Text, "OOM keyway: key ") && strings.HasSuffix(r.Text, "the command was not executed"):
			refused = key
		default:
			t.Fatalf("%s: %s", key, r)
		}
	}
	if refused == "" {
		t.Fatal("no command was refused")
	}
	if got := a.Do("GET", refused).Text; got != strings.TrimPrefix(refused, "cold:") {
		t.Errorf("%s is %q at its old node", refused, got)
	}
	b.Do("CONFIG", "SET", "maxmemory", "0")
	redistest.Eventually(t, 20*time.Second, "the key comes", func() bool {
		return c.Do("GET", refused).Text == strings.TrimPrefix(refused, "cold:")
	})
	s.goesThrough()
	filled(t, k.Addr, 20_000)
	if n := len(a.Keys()) + len(b.Keys()); n != 20_000 {
		t.Errorf("the nodes have %d keys", n)
	}
}

// statusSays waits until keyway status says all texts.
func statusSays(t *testing.T, yaml string, texts ...string) {
	t.Helper()
	file := redistest.WriteFile(t, "status.yml", yaml)
	redistest.Eventually(t, 40*time.Second, fmt.Sprintf("keyway status says %q", texts), func() bool {
		out, _ := exec.Command(redistest.Build(t), "status", "-c", file).CombinedOutput()
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(string(out), text) })
	})
}

// cold returns the keys of fill that a node has.
func cold(n *redistest.Node) []string {
	return slices.DeleteFunc(n.Keys(), func(key string) bool { return !strings.HasPrefix(key, "cold:") })
}

// TestReverseFromFullNode: a node becomes full while keys move to it. keyway status says so, and what can be
// done. The change is taken back, and the node stays as full as it may be.
func TestReverseFromFullNode(t *testing.T) {
	t.Parallel()
	a, b, older, newer := halves(t)
	k := redistest.ServeProcess(t, older)
	fill(t, k.Addr, 20_000)
	s := beginSwitch(t, older, newer, "--rate", "1000").moves()
	redistest.Eventually(t, 20*time.Second, "keys move", func() bool { return len(cold(b)) > 200 })
	b.Do("CONFIG", "SET", "maxmemory", "1")
	statusSays(t, newer, "problem: ", "the keys of the change do not move at ", ": node b", "OOM command not allowed",
		"keyway reverse")
	file := redistest.WriteFile(t, "older.yml", older)
	out, err := exec.Command(redistest.Build(t), "reverse", "--wait", "-c", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "All 20000 keys are where the layout places them") {
		t.Errorf("keyway reverse: %v\n%s", err, out)
	}
	s.kill()
	filled(t, k.Addr, 20_000)
	if n, left := len(cold(a)), len(cold(b)); n != 20_000 || left > 0 {
		t.Errorf("%d keys are at a, and %d at b", n, left)
	}
	if limit := b.Do("CONFIG", "GET", "maxmemory").Elems[1].Text; limit != "1" {
		t.Errorf("the limit of b is %s", limit)
	}
}

// TestSourceIsDown: the node that keys leave, which has no replica and has the records of the change, dies
// while they move. Commands on keys that are still there are not executed, those on others are. When the node is
// back, all goes on.
func TestSourceIsDown(t *testing.T) {
	if !*long {
		t.Skip("it takes 40 seconds; pass -args -long to run it")
	}
	t.Parallel()
	a, b, older, newer := halves(t, durable...)
	k := redistest.ServeProcess(t, "backend: {hold: 100ms}\n"+older)
	fill(t, k.Addr, 20_000)
	s := beginSwitch(t, older, newer, "--rate", "1000").moves()
	redistest.Eventually(t, 20*time.Second, "keys move", func() bool { return len(cold(b)) > 200 })
	c := redistest.Dial(t, k.Addr)
	moved := cold(b)[0]
	c.Expect(strings.TrimPrefix(moved, "cold:"), "GET", moved) // it is proven to have left
	left := slices.DeleteFunc(cold(a), func(key string) bool { return slots.Of([]byte(key)) < 8192 })
	a.Kill()
	if len(left) == 0 {
		t.Fatal("all keys have left")
	}
	r := c.Do("INCR", left[0])
	if r.Kind != '-' || !strings.Contains(r.Text, "was not executed") && !strings.Contains(r.Text, "TRYAGAIN") {
		t.Errorf("INCR %s: %s", left[0], r)
	}
	c.Expect(strings.TrimPrefix(moved, "cold:"), "GET", moved)
	statusSays(t, newer, "problem: the node that has the records of the change does not answer", "start node a")
	a.Run()
	s.goesThrough()
	filled(t, k.Addr, 20_000)
	if n := len(cold(a)) + len(cold(b)); n != 20_000 {
		t.Errorf("the nodes have %d keys", n)
	}
}

// TestReplicaOfDestinationIsBehind: the destination's replica is cut off while keys move, and takes over
// when its master has died soon after. Each key is there, or still at its old node.
func TestReplicaOfDestinationIsBehind(t *testing.T) {
	t.Parallel()
	a, b, older, newer := halves(t)
	link := redistest.NewFaults(t, b.Addr, func(int) redistest.Plan { return redistest.Plan{} })
	_, port, _ := strings.Cut(link.Addr, ":")
	replica := redistest.Start(t, "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1 "+port)
	redistest.Eventually(t, 20*time.Second, "the replica is in step", func() bool {
		return strings.Contains(replica.Do("INFO", "replication").Text, "master_link_status:up") &&
			strings.Contains(b.Do("INFO", "replication").Text, "state=online")
	})
	k := redistest.ServeProcess(t, older)
	fill(t, k.Addr, 20_000)
	s := beginSwitch(t, older, newer, "--rate", "2000").moves()
	redistest.Eventually(t, 20*time.Second, "keys move", func() bool { return len(b.Keys()) > 500 })
	link.Close()
	redistest.Eventually(t, 4*time.Second, "keys come that the replica lacks", func() bool {
		return len(b.Keys()) > len(replica.Keys())+10
	})
	b.Kill()
	replica.Do("REPLICAOF", "NO", "ONE")
	there := map[string]bool{}
	for _, key := range append(a.Keys(), replica.Keys()...) {
		if strings.HasPrefix(key, "cold:") {
			there[key] = true
		}
	}
	if n := len(there); n != 20_000 {
		t.Errorf("%d of 20000 keys are left", n)
	}
	s.kill()
}

// TestSwitchWithStoppedKeyway: a keyway is stopped in each state of a change, and wakes up when the change
// is done. What it had in flight is unknown to its clients; nothing is lost, doubled or stale.
func TestSwitchWithStoppedKeyway(t *testing.T) {
	t.Parallel()
	_, ring, slots := twoLayouts(t)
	k, k2 := redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)
	l := (&load{addr: k.Addr, clients: 5, keys: 50, pause: time.Millisecond}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 5, keys: 50, prefix: "other:", pause: time.Millisecond}).start(t)
	older, newer := ring, slots
	for _, state := range []string{"are prepared", "hold their commands", "are in epoch"} {
		l2.more(t, 1_000)
		(&change{when: state, then: k2.Freeze}).begin(t, older, newer).goesThrough()
		l.more(t, 1_000)
		k2.Thaw()
		l2.more(t, 1_000)
		older, newer = newer, older
	}
	l.halt()
	l2.halt()
	if l.errors() > 0 {
		t.Errorf("clients of the other keyway: %v", &l.tally)
	}
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
}

// TestFailoverBeforeReplicaIsInEpoch: a node enters the epoch, and dies before its replica has the record. The
// replica takes over, in the former epoch. Nobody uses it until it has entered, too, and no key is lost.
func TestFailoverBeforeReplicaIsInEpoch(t *testing.T) {
	t.Parallel()
	a, b, older, newer := halves(t)
	link := redistest.NewLink(t, b.Addr, 0)
	replica := replicaBehind(t, link)
	k, k2 := redistest.ServeProcess(t, older), redistest.ServeProcess(t, older)
	const keys = 2000
	fill(t, k.Addr, keys)
	all := func(string) bool { return true } // the replica has missed some writes
	l := (&load{addr: k2.Addr, clients: 4, keys: 30, pause: 5 * time.Millisecond, lossy: all}).start(t)
	l.more(t, 300)
	home := &changes.Node{Name: "a", Addr: a.Addr}
	_, err := home.Plan(t.Context(), records.Plan{Record: records.Record{
		Epoch: 1, Old: layoutOf(t, older), New: layoutOf(t, newer),
	}})
	if err != nil {
		t.Fatal(err)
	}
	link.Cut()
	if to, err := home.Decide(t.Context(), 1, records.Go); err != nil || to == nil {
		t.Fatal(to, err)
	}
	enter(t, 1, older, newer, b)
	b.Kill()
	if r := replica.Do("FUNCTION", "LIST"); r.String() != "[]" {
		t.Fatalf("the replica has %s", r)
	}
	replica.Do("REPLICAOF", "NO", "ONE")
	time.Sleep(time.Second) // the failover
	b = redistest.StartAt(t, "127.0.0.1", b.Port, "--repl-diskless-sync-delay", "0",
		"--replicaof", fmt.Sprint("127.0.0.1 ", replica.Port))
	redistest.Eventually(t, 20*time.Second, "the successor is in step", func() bool {
		return strings.Contains(b.Do("INFO", "replication").Text, "master_link_status:up")
	})
	b.Do("REPLICAOF", "NO", "ONE")
	redistest.Eventually(t, 60*time.Second, "the change is done", func() bool {
		at, err := changes.Read(t.Context(), home, nil)
		return err == nil && at.State == changes.Done
	})
	l.more(t, 300)
	l.halt()
	l.settle(t, k.Addr)
	filled(t, k.Addr, keys)
	if n := len(cold(a)) + len(cold(b)); n != keys || len(cold(b)) < keys/3 {
		t.Errorf("the nodes have %d keys, b has %d", n, len(cold(b)))
	}
}
