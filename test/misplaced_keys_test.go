package test

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// fillByRing writes n keys to three nodes through a keyway with the layout ring.
func fillByRing(t *testing.T, nodes []*redistest.Node, n int) {
	t.Helper()
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	c := k.Dial()
	for i := range n {
		c.Send("SET", fmt.Sprintf("key:%d", i), "x")
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for range n {
		if r, err := c.Receive(); err != nil || r.Text != "OK" {
			t.Fatal(r, err)
		}
	}
	c.Close()
	k.Stop()
}

// refused runs keyway serve until it ends by itself, with exit status 1, and returns what
// it prints.
func refused(t *testing.T, yaml string) string {
	t.Helper()
	file := redistest.WriteFile(t, "keyway.yml", "listen: "+freeAddr(t)+"\n"+yaml)
	p := redistest.StartProcess(t, "serve", "-c", file)
	ended := make(chan error, 1)
	go func() { ended <- p.Cmd.Wait() }()
	select {
	case err := <-ended:
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
			t.Errorf("keyway ended with %v, not with exit status 1", err)
		}
	case <-time.After(20 * time.Second):
		p.Cmd.Process.Kill()
		<-ended
		t.Fatalf("keyway does not refuse to start")
	}
	return p.Stderr.String()
}

// slotsOf returns the slots of keys, as a Redis in cluster mode computes them.
func slotsOf(t *testing.T, keys []string) (slots []int) {
	t.Helper()
	c := redistest.Dial(t, redistest.Start(t, "--cluster-enabled", "yes").Addr)
	for _, key := range keys {
		slots = append(slots, int(c.MustDo("CLUSTER", "KEYSLOT", key).Int))
	}
	return slots
}

// TestMisplacedKeysRefuseToStart: after a change of the layout, serve does not start. It
// says for each node how many keys clients would not find, which change it was, and what to
// do.
func TestMisplacedKeysRefuseToStart(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	fillByRing(t, nodes, 600)
	nodes[0].Do("SET", "keyway:own", "of keyway itself, so no layout places it")
	layouts := redistest.Layouts(nodes)
	text := refused(t, layouts["slots"])
	first := []int{0, 5461, 10923, 16384}
	for i, n := range nodes {
		keys := slices.DeleteFunc(n.Keys(), func(k string) bool { return k == "keyway:own" })
		misplaced := 0
		for _, slot := range slotsOf(t, keys) {
			if slot < first[i] || slot >= first[i+1] {
				misplaced++
			}
		}
		want := fmt.Sprintf("node %c (%s): of its %d keys, %d (%.1f %%) belong elsewhere, such as \"key:",
			'a'+i, n.Addr, len(keys), misplaced, 100*float64(misplaced)/float64(len(keys)))
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q", want)
		}
	}
	for _, want := range []string{
		"keyway.yml: placement: keys lie on other nodes than layout slots says, " +
			"so clients would not find them\n",
		"Likely cause: the keys were placed by layout: ring of this file.\n",
		"go back to the configuration by which the keys were written", "keyway plan OLD.yml NEW.yml",
		"keyway migrate OLD.yml NEW.yml",
		"placement: {misplaced: allow}",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	p := redistest.ServeProcess(t, layouts["ring"]) // the file by which the keys were written
	p.End()
	if strings.Contains(p.Stderr.String(), "WARN") {
		t.Errorf("%s", p.Stderr)
	}
}

// TestMisplacedKeysOfAnotherHash: the refusal names the hash by which the keys were written, although another hash
// explains nearly all of them, and never the hash of the file that it refuses.
func TestMisplacedKeysOfAnotherHash(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	yaml := "layout: ring\nnodes:\n"
	for i, n := range nodes {
		yaml += fmt.Sprintf("  - {name: %c, addr: %s, weight: %d}\n", 'a'+i, n.Addr, 1+i/2)
	}
	k := redistest.Serve(t, yaml+"ring: {hash: fnv1a_64}\n").Ready()
	c := k.Dial()
	for i := range 600 {
		c.Expect("OK", "SET", fmt.Sprintf("user:%d", i+1), "x")
	}
	c.Close()
	k.Stop()
	for _, hash := range []string{"", "ring: {hash: crc32}\n"} {
		text := refused(t, yaml+hash)
		if !strings.Contains(text, "Likely cause: the keys were placed by layout: ring with hash: fnv1a_64.\n") {
			t.Errorf("%s: %s", hash, text)
		}
	}
}

// TestMisplacedKeysAreRepaired: after the repair that the refusal names, keyway starts, and
// clients find all keys.
func TestMisplacedKeysAreRepaired(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	fillByRing(t, nodes, 300)
	yaml := redistest.Layouts(nodes)["slots"]
	refused(t, yaml)
	file := redistest.WriteFile(t, "keyway.yml", "listen: "+freeAddr(t)+"\n"+yaml)
	if out, err := exec.Command(redistest.Build(t), "verify", "--repair", "-c", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := redistest.ServeProcess(t, yaml)
	c := redistest.Dial(t, p.Addr)
	for i := range 300 {
		c.Expect("x", "GET", fmt.Sprintf("key:%d", i))
	}
	c.Close()
	p.End()
	if strings.Contains(p.Stderr.String(), "WARN") {
		t.Errorf("%s", p.Stderr)
	}
}

// TestLikelyCauseOfMisplacedKeys: the refusal names the change, over nodes whose keys are
// drawn at random and over those that are counted.
func TestLikelyCauseOfMisplacedKeys(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	fillByRing(t, nodes, 4500)
	a, b, c := nodes[0].Addr, nodes[1].Addr, nodes[2].Addr
	empty := redistest.Start(t)
	ring := "layout: ring\nnodes: [{name: %s, addr: %q}, {name: %s, addr: %q}, {name: %s, addr: %q}]\n"
	for yaml, want := range map[string]string{
		fmt.Sprintf(ring, "a", a, "b", b, "c", c) + "ring: {hash: fnv1a_64}\n": "layout: ring with hash: murmur.",
		fmt.Sprintf(ring, "a", b, "b", a, "c", c): "nodes have exchanged their names or addresses: " +
			"a has the keys of b, b has the keys of a.",
		fmt.Sprintf(ring, "a", a, "b", b, "other", c): "node other had another name or weight when",
		redistest.Ring(a, b, c, empty.Addr):           "node d was added, or got a larger share",
		redistest.Ring(a, c):                          "keyway finds no single change that explains it",
	} {
		text := refused(t, yaml)
		if !strings.Contains(text, want) || !strings.Contains(text, "of 1000 keys drawn at random from 1") {
			t.Errorf("lacks %q: %s", want, text)
		}
	}
}

// TestMisplacedKeysAllowed: with allow, keyway serves over misplaced keys, is ready, and
// reports them; with off it does not look.
func TestMisplacedKeysAllowed(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	fillByRing(t, nodes, 300)
	for _, misplaced := range []string{"allow", "off"} {
		adminAddr := freeAddr(t)
		p := redistest.ServeProcess(t, fmt.Sprintf("admin: %s\nplacement: {misplaced: %s}\n%s",
			adminAddr, misplaced, redistest.Layouts(nodes)["slots"]))
		if status, body := fetch(t, "http://"+adminAddr+"/readyz"); status != 200 {
			t.Errorf("%s: not ready: %s", misplaced, body)
		}
		ratios := misplacedRatios(t, adminAddr)
		p.End()
		warnings := lines(p.Stderr.String(), "level=WARN", "keys lie on another node than the layout says",
			"node=", "misplaced=", "ratio=0.", `\"key:`, "which belongs to")
		if misplaced == "allow" && (warnings != 3 || ratios["a"] < 0.4 || ratios["b"] < 0.4 || ratios["c"] < 0.4) ||
			misplaced == "off" && (warnings != 0 || len(ratios) != 0) {
			t.Errorf("%s: %d warnings, ratios %v\n%s", misplaced, warnings, ratios, p.Stderr)
		}
	}
}

// misplacedRatios returns keyway_misplaced_keys_ratio by node.
func misplacedRatios(t *testing.T, adminAddr string) map[string]float64 {
	t.Helper()
	ratios := map[string]float64{}
	for line := range strings.Lines(get(t, "http://"+adminAddr+"/metrics")) {
		rest, ok := strings.CutPrefix(line, `keyway_misplaced_keys_ratio{node="`)
		node, value, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
		if ratio, err := strconv.ParseFloat(value, 64); ok && err == nil {
			ratios[node] = ratio
		}
	}
	return ratios
}

// TestFewMisplacedKeysAreAWarning: up to a hundredth of a node's keys may lie elsewhere.
// The warning shows examples, without control characters and cut. One key more is a
// refusal, and so are such keys in another database.
func TestFewMisplacedKeysAreAWarning(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	yaml := "layout: range\n" + redistest.NodesYAML(nodes) + "range: {rules: [{from: b, to: c, node: b}], default: a}\n"
	for i := range 99 {
		nodes[0].Do("SET", fmt.Sprintf("x%d", i), "x")
	}
	nodes[0].Do("SET", "b\n\x01"+strings.Repeat("long", 100), "x")
	p := redistest.ServeProcess(t, yaml)
	p.End()
	want := `"\"b\\n\\x01` + strings.Repeat("long", 15) + `l\"..., which belongs to b"`
	if n := lines(p.Stderr.String(), "level=WARN", "node=a", "keys=100", "misplaced=1", want); n != 1 {
		t.Errorf("%s", p.Stderr)
	}
	nodes[0].Do("SET", "b", "x")
	if text := refused(t, yaml); !strings.Contains(text, "of its 101 keys, 2 (2.0 %) belong elsewhere") {
		t.Errorf("%s", text)
	}
	nodes[0].Do("DEL", "b", "b\n\x01"+strings.Repeat("long", 100))
	c := redistest.Dial(t, nodes[0].Addr)
	c.MustDo("SELECT", "7")
	c.MustDo("MSET", "b", "x", "c", "x")
	c.MustDo("SET", "b1", "x")
	want = `(2.0 %) belong elsewhere, such as "b" of database 7, which belongs to b`
	if text := refused(t, yaml); !strings.Contains(text, want) {
		t.Errorf("%s", text)
	}
}

// TestNodeThatWasAwayIsJudgedLater: a node that cannot be reached at start is not judged,
// and does not keep keyway from starting. When it is back, keyway judges it, goes on
// serving and stays ready.
func TestNodeThatWasAwayIsJudgedLater(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	nodes[1].Kill()
	adminAddr := freeAddr(t)
	addr := freeAddr(t)
	yaml := fmt.Sprintf("listen: %s\nadmin: %s\nlayout: range\n%s", addr, adminAddr, redistest.NodesYAML(nodes))
	yaml += "range: {rules: [{from: b, to: c, node: b}], default: a}\n"
	file := redistest.WriteFile(t, "keyway.yml", yaml)
	p := redistest.StartProcess(t, "serve", "-c", file)
	redistest.Eventually(t, 10*time.Second, "keyway serves without the node", func() bool {
		return redistest.Ask(addr, "EXISTS", "x").Kind == ':'
	})
	if ratios := misplacedRatios(t, adminAddr); len(ratios) != 2 || ratios["a"] != 0 || ratios["c"] != 0 {
		t.Errorf("before the node is back: %v", ratios)
	}
	nodes[1].Run()
	nodes[1].Do("SET", "x", "does not begin with b")
	redistest.Eventually(t, 70*time.Second, "the node is judged", func() bool {
		return misplacedRatios(t, adminAddr)["b"] == 1
	})
	if status, body := fetch(t, "http://"+adminAddr+"/readyz"); status != 200 {
		t.Errorf("not ready: %s", body)
	}
	p.End()
	log := p.Stderr.String()
	if lines(log, "level=WARN", "cannot judge whether the node's keys lie where the layout says", "node=b") != 1 ||
		lines(log, "level=WARN", "keys lie on another node", "node=b", "ratio=1", "belongs to a") != 1 {
		t.Errorf("%s", log)
	}
}

// TestSampleIsNamed: the connection over which keyway looks at keys says that it is keyway's before it does,
// or keyway plan would count it as a client that bypasses keyway.
func TestSampleIsNamed(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	node.Do("SET", "k", "1")
	watcher := redistest.Dial(t, node.Addr)
	watcher.Expect("OK", "MONITOR")
	redistest.ServeProcess(t, redistest.Ring(node.Addr))
	named := map[string]bool{} // by address
	for {
		r, err := watcher.Receive()
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(r.Text, "[")
		from, command, _ := strings.Cut(line, "] ")
		_, addr, _ := strings.Cut(from, " ")
		switch {
		case strings.HasPrefix(strings.ToLower(command), `"client" "setname" "keyway:sample"`):
			named[addr] = true
		case strings.HasPrefix(strings.ToLower(command), `"scan"`):
			if !named[addr] {
				t.Errorf("a connection without that name looks at keys: %s", line)
			}
			return
		}
	}
}
