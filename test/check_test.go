package test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/test/redistest"
	"github.com/keyway-proxy/keyway/wiring"
)

// check runs keyway check and returns what it prints.
func check(t *testing.T, yaml string, flags ...string) (out string, ok bool) {
	t.Helper()
	file := redistest.WriteFile(t, "keyway.yml", yaml)
	b, err := exec.Command(redistest.Build(t), append([]string{"check", "-c", file}, flags...)...).CombinedOutput()
	return string(b), err == nil
}

// lines counts the lines of text that contain all the words.
func lines(text string, words ...string) (n int) {
	for line := range strings.Lines(text) {
		found := 0
		for _, w := range words {
			if strings.Contains(line, w) {
				found++
			}
		}
		if found == len(words) {
			n++
		}
	}
	return n
}

// TestCheckOffline: check --offline asks no server, on any layout.
func TestCheckOffline(t *testing.T) {
	t.Parallel()
	nowhere := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	for _, yaml := range []string{
		"layout: slots\nslots: {seeds: [\"" + nowhere + "\"]}\n",
		"layout: ring\nnodes: [{name: a, sentinel: {master: m, addrs: [\"" + nowhere + "\"]}}]\n",
	} {
		if out, ok := check(t, yaml, "--offline"); !ok || !strings.Contains(out, "is valid") {
			t.Errorf("%s", out)
		}
		if out, ok := check(t, yaml); ok {
			t.Errorf("without --offline: %s", out)
		}
		if out, ok := check(t, yaml, "--offline", "--connect"); ok {
			t.Errorf("%s", out)
		}
	}
}

// TestCheckConnectSendsAuth: a password for a node that has none is an error, as it is for
// keyway serve.
func TestCheckConnectSendsAuth(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t)
	yaml := redistest.Ring(n.Addr) + "backend: {password: secret}\n"
	if out, ok := check(t, yaml, "--connect"); ok || lines(out, "node a", "AUTH", "backend.password") != 1 {
		t.Errorf("%s", out)
	}
	n.Do("CONFIG", "SET", "requirepass", "secret")
	if out, ok := check(t, yaml, "--connect"); !ok || strings.Contains(out, "problem") {
		t.Errorf("%s", out)
	}
}

// TestCheckConnectWaitsForASlowNode: check waits as long as backend.connect_timeout says.
func TestCheckConnectWaitsForASlowNode(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := redistest.Start(t)
	yaml := "layout: ring\nnodes: [{name: a, addr: \"" + n.Addr + "\"}]\nbackend: {connect_timeout: 20s}\n"
	redistest.Build(t) // now, since building takes longer than the pause
	n.Do("CLIENT", "PAUSE", "2000", "ALL")
	if out, ok := check(t, yaml, "--connect"); !ok || strings.Contains(out, "problem") {
		t.Errorf("%s", out)
	}
}

// TestCheckConnect: check --connect prints what each node is, and which nodes cannot serve.
func TestCheckConnect(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	for name, yaml := range redistest.Layouts(nodes) {
		out, ok := check(t, yaml, "--connect")
		if !ok || lines(out, "master", "standalone", "noeviction") != 3 || strings.Contains(out, "problem") ||
			strings.Contains(out, "note: the nodes") {
			t.Errorf("%s: %s", name, out)
		}
	}
	nodes[2].Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	replica := redistest.Replica(t, nodes[0])
	cluster := redistest.NewCluster(t, 3, 0)
	gone := redistest.Start(t)
	gone.Kill()
	odd := append(append([]*redistest.Node{}, nodes...), replica, cluster.Nodes[0], gone)
	out, ok := check(t, "layout: ring\n"+redistest.NodesYAML(odd), "--connect")
	for _, want := range []string{
		"problem: node d is a replica, and cannot be written to; name its master",
		"problem: node e runs in cluster mode, but layout ring needs standalone nodes; write layout: slots",
		"problem: node f cannot be reached: ",
		"note: the nodes differ in maxmemory-policy",
		"3 of 6 nodes cannot serve",
	} {
		if ok || !strings.Contains(out, want) {
			t.Errorf("lacks %q: %s", want, out)
		}
	}
	out, ok = check(t, cluster.SeedsYAML(), "--connect")
	if !ok || lines(out, "master", "cluster", "noeviction") != 3 || strings.Contains(out, "problem") {
		t.Errorf("a cluster: %s", out)
	}
	redistest.Eventually(t, 10*time.Second, "no node has heard of the slots again", func() bool {
		var again bool
		for _, n := range cluster.Nodes {
			if len(n.Do("CLUSTER", "SLOTS").Elems) > 2 { // another may still have announced them
				n.Do("CLUSTER", "DELSLOTSRANGE", "10922", "16383")
				again = true
			}
		}
		return !again
	})
	out, ok = check(t, cluster.SeedsYAML(), "--connect")
	if !ok || !strings.Contains(out, "no slots") || strings.Contains(out, "problem") ||
		strings.Contains(out, "unevenly") {
		t.Errorf("a cluster with a master that has no slots: %s", out)
	}
	cluster = redistest.NewCluster(t, 3, 0)
	const lacks = "warning: 1 of 16384 slots have no owner, slot 0 for one; commands for their keys fail"
	redistest.Eventually(t, time.Minute, "check says that the cluster lacks a slot", func() bool {
		for _, n := range cluster.Nodes { // refused if it knows no owner; another may still have announced it
			n.Do("CLUSTER", "DELSLOTS", "0")
		}
		out, _ := check(t, cluster.SeedsYAML())
		return strings.Contains(out, lacks)
	})
}

// TestKeysElsewhere: after a change of layout, check --connect says that the nodes' keys lie
// where clients do not find them. It fails if serve would refuse to start.
func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	fillByRing(t, nodes, 600)
	for _, c := range []struct {
		layout, rest, kind string
		nodes              int
	}{
		{layout: "ring"},
		{"slots", "", "problem: of", 3},
		{"slots", "placement: {misplaced: allow}\n", "warning: of", 3},
	} {
		out, ok := check(t, redistest.Layouts(nodes)[c.layout]+c.rest, "--connect")
		n := lines(out, c.kind, "keys of node", "places", `elsewhere, such as "key:`, "which belongs to")
		refuses := lines(out, "keyway serve would refuse to start over misplaced keys") > 0
		if want := c.kind == "problem: of"; n != c.nodes || ok == want || refuses != want {
			t.Errorf("%s%s: %s", c.layout, c.rest, out)
		}
	}
}

// TestClusterBehindOtherLayouts: serve does not start over nodes of a cluster with a layout
// that needs standalone ones, and says so in the words that clients would get. Static slots
// are fine if they are the cluster's own.
func TestClusterBehindOtherLayouts(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	c := redistest.NewCluster(t, 3, 0)
	want := fmt.Sprintf("keyway.yml:2:9: layout: node a (%s) is part of a Redis Cluster, "+
		"but this layout needs standalone nodes; set cluster-enabled no on it, or use layout slots with seeds "+
		"(the same holds for b, c)\n", c.Nodes[0].Addr)
	for _, layout := range []string{"ring", "range", "modulo"} {
		if text := refused(t, redistest.Layouts(c.Nodes)[layout]); !strings.Contains(text, want) {
			t.Errorf("%s: %s", layout, text)
		}
	}
	static := "layout: slots\n" + redistest.NodesYAML(c.Nodes) +
		"slots: {static: {a: 0-%d, b: %d-10921, c: 10922-16383}}\n"
	text := refused(t, fmt.Sprintf(static, 5461, 5462))
	if !strings.Contains(text, "layout: node a (") || strings.Contains(text, "the same holds") {
		t.Errorf("%s", text)
	}
	adminAddr := freeAddr(t)
	p := redistest.ServeProcess(t, fmt.Sprintf("admin: %s\n"+static, adminAddr, 5460, 5461))
	for i := range 100 {
		redistest.Ask(p.Addr, "SET", fmt.Sprintf("key:%d", i), "x")
	}
	for i, n := range c.Nodes {
		if keys := len(n.Keys()); keys < 10 {
			t.Errorf("%d keys on node %d", keys, i)
		}
	}
	redistest.Eventually(t, 10*time.Second, "keyway is ready", func() bool {
		return get(t, "http://"+adminAddr+"/readyz") == "ok\n"
	})
	p.End()
	if text := p.Stderr.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
		t.Errorf("%s", text)
	}
}

// TestClusterBehindRingIsReported: a node in cluster mode that is alone, and one that comes
// back later, do not keep keyway from starting. They are errors in the log, and make keyway
// not ready.
func TestClusterBehindRingIsReported(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	alone := redistest.Start(t, "--cluster-enabled", "yes")
	c := redistest.NewCluster(t, 3, 0)
	c.Nodes[0].Kill()
	adminAddr := freeAddr(t)
	yaml := fmt.Sprintf("listen: %s\nadmin: %s\n", freeAddr(t), adminAddr) + redistest.Ring(alone.Addr, c.Nodes[0].Addr)
	p := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", yaml))
	unfit := func(node string) func() bool {
		return func() bool {
			status, body := fetch(t, "http://"+adminAddr+"/readyz")
			return status == 503 && lines(body, "node "+node, "runs in cluster mode, but layout ring needs") == 1
		}
	}
	redistest.Eventually(t, 10*time.Second, "keyway is not ready, because of a", unfit("a"))
	c.Nodes[0].Run()
	redistest.Eventually(t, 20*time.Second, "keyway is not ready, because of b", unfit("b"))
	p.End()
	if n := lines(p.Stderr.String(), "level=ERROR", "a node cannot serve its keys", "remedy="); n != 2 {
		t.Errorf("%s", p.Stderr)
	}
}

// TestDefaultHash: the ring's default hash spreads keys that count up as evenly as
// random ones, and check says that it is the default.
func TestDefaultHash(t *testing.T) {
	t.Parallel()
	yaml := "layout: ring\nnodes:\n"
	for _, name := range "abcdefgh" {
		yaml += fmt.Sprintf("  - {name: %c, addr: \"127.0.0.1:%d\"}\n", name, name)
	}
	cfg, err := config.Parse("keyway.yml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	table, err := wiring.Table(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sequential, random := table.Measured(30_000)
	for i, share := range table.Shares() {
		if sequential[i] < 0.93*share || sequential[i] > 1.07*share ||
			random[i] < 0.93*share || random[i] > 1.07*share {
			t.Errorf("node %d has %.4f of the ring, %.4f of keys that count up, %.4f of random ones",
				i, share, sequential[i], random[i])
		}
	}
	out, ok := check(t, yaml)
	if !ok || !strings.Contains(out, "note: ring.hash is not set: keyway places keys by the default, murmur") {
		t.Errorf("%s", out)
	}
	out, ok = check(t, yaml+"ring: {hash: fnv1a_64}\n")
	if !ok || strings.Contains(out, "note:") || strings.Contains(out, "warning:") {
		t.Errorf("%s", out)
	}
	// On a ring its 15 bits lie between two points.
	out, ok = check(t, yaml+"ring: {hash: crc32}\n")
	if !ok || !strings.Contains(out, "warning: the hash spreads keys unevenly") {
		t.Errorf("%s", out)
	}
}
