package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// ringOf and evenSlots are layouts of the first nodes, called a, b, c and so on.
func ringOf(nodes []*redistest.Node) string {
	return "layout: ring\nring: {hash: fnv1a_64}\n" + redistest.NodesYAML(nodes)
}

func evenSlots(nodes []*redistest.Node) string {
	var owned []string
	for i := range nodes {
		owned = append(owned, fmt.Sprintf("%c: %d-%d", 'a'+i, i*16384/len(nodes), (i+1)*16384/len(nodes)-1))
	}
	return "layout: slots\n" + redistest.NodesYAML(nodes) + "slots: {static: {" + strings.Join(owned, ", ") + "}}\n"
}

// written writes keys through keyway into some databases, and returns what is where: by
// database and key.
func written(t *testing.T, yaml string, n int, dbs ...string) map[string]string {
	t.Helper()
	want := map[string]string{}
	k := redistest.Serve(t, yaml).Ready()
	defer k.Stop()
	c := redistest.Dial(t, k.Addr)
	for _, db := range dbs {
		if db != "0" {
			c.MustDo("SELECT", db)
		}
		for i := range n {
			key, value := fmt.Sprint("key:", i), fmt.Sprint("value ", db, " ", i)
			c.Send("SET", key, value)
			want[db+" "+key] = value
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for range n {
			if r, err := c.Receive(); err != nil || r.Text != "OK" {
				t.Fatalf("SET: %v %v", r, err)
			}
		}
	}
	return want
}

// once checks that the nodes have each key once, with its value, and no other key, and that
// a client of the new layout finds all.
func once(t *testing.T, yaml string, nodes []*redistest.Node, want map[string]string, dbs ...string) {
	t.Helper()
	seen := map[string]int{}
	for _, n := range nodes {
		c := redistest.Dial(t, n.Addr)
		for _, db := range dbs {
			if db != "0" {
				c.MustDo("SELECT", db)
			}
			for _, e := range c.MustDo("KEYS", "*").Elems {
				id := db + " " + e.Text
				seen[id]++
				if v := c.MustDo("GET", e.Text).Text; v != want[id] {
					t.Errorf("%q is %q, expected %q", id, v, want[id])
				}
			}
		}
	}
	for id := range want {
		if seen[id] != 1 {
			t.Errorf("%q is on %d nodes", id, seen[id])
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d keys, expected %d", len(seen), len(want))
	}
	k := redistest.Serve(t, yaml).Ready()
	defer k.Stop()
	c := redistest.Dial(t, k.Addr)
	for _, db := range dbs {
		if db != "0" {
			c.MustDo("SELECT", db)
		}
		for id, v := range want {
			if key, ok := strings.CutPrefix(id, db+" "); ok {
				c.Expect(v, "GET", key)
			}
		}
	}
}

// TestMigrate moves all keys from one layout to another and back.
func TestMigrate(t *testing.T) {
	t.Parallel()
	nodes := append(redistest.Three(t), redistest.Start(t))
	three := nodes[:3]
	for name, way := range map[string][2]string{
		"ring to slots":      {ringOf(three), evenSlots(three)},
		"a node is added":    {ringOf(three), ringOf(nodes)},
		"modulo to range":    {"layout: modulo\n" + redistest.NodesYAML(three), even(nodes)},
		"another hash":       {ringOf(three), strings.Replace(ringOf(three), "fnv1a_64", "md5", 1)},
		"the servers change": {ringOf(three[:2]), ringOf(nodes[2:])},
	} {
		t.Run(name, func(t *testing.T) {
			dbs := []string{"0"}
			if !strings.Contains(way[1], "static") {
				dbs = []string{"0", "3", "15"}
			}
			for _, n := range nodes {
				n.Do("FLUSHALL")
			}
			want := written(t, way[0], 500, dbs...)
			for i := range way {
				out, status := keyway(t, "migrate", way[i], way[1-i], "--latency", "0")
				if status != 0 {
					t.Errorf("status %d:\n%s", status, out)
				}
				all := fmt.Sprintf("All %d keys are where", len(want))
				printed(t, out, []string{"moved ", " keys, in"}, []string{all})
				once(t, way[1-i], nodes, want, dbs...)
			}
		})
	}
}

// TestFunctionsMove: functions that a node of the new layout lacks are there when keys are, and clients
// go on calling them. One that the node has stays.
func TestFunctionsMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	for _, command := range []string{"migrate", "switch"} {
		nodes := append(redistest.Three(t), redistest.Start(t))
		for _, n := range nodes[:3] {
			loadFunction(n, "first", "1")
			loadFunction(n, "second", "1")
		}
		loadFunction(nodes[3], "second", "2")
		var out string
		if command == "migrate" {
			out, _ = keyway(t, command, ringOf(nodes[:3]), ringOf(nodes))
		} else {
			k := redistest.ServeProcess(t, ringOf(nodes[:3]))
			c := redistest.Dial(t, k.Addr)
			out = switched(t, ringOf(nodes[:3]), ringOf(nodes))
			for i := range 100 {
				c.Expect("1", "FCALL", "first", "1", fmt.Sprint("key:", i))
			}
		}
		printed(t, out, []string{"node d has got functions: first"}, []string{"are where"})
		c := redistest.Dial(t, nodes[3].Addr)
		c.Expect("1", "FCALL", "first", "0")
		c.Expect("2", "FCALL", "second", "0")
	}
}

// TestMigrateToAClusterAndBack moves keys between standalone nodes and a Redis Cluster.
func TestMigrateToAClusterAndBack(t *testing.T) {
	t.Parallel()
	alone, c := redistest.Three(t), redistest.NewCluster(t, 3, 1)
	older, newer := ringOf(alone), c.SeedsYAML()
	want := written(t, older, 2000, "0")
	masters := append(alone, c.Nodes[:3]...)
	for _, way := range [][2]string{{older, newer}, {newer, older}} {
		out, status := keyway(t, "migrate", way[0], way[1])
		if status != 0 {
			t.Errorf("status %d:\n%s", status, out)
		}
		printed(t, out, []string{"moved 2000 keys"}, []string{"All 2000 keys are where"})
		once(t, way[1], masters, want, "0")
	}
	a := redistest.Dial(t, alone[0].Addr)
	a.MustDo("SELECT", "4")
	a.MustDo("SET", "k", "v")
	out, status := keyway(t, "migrate", older, newer)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"selecting database 4", "empty this database"})
	a.Expect("v", "GET", "k")
}

// migration is a migration of three nodes with keys in database 0 from a ring to slots.
type migration struct {
	nodes    []*redistest.Node
	newer    string            // the new layout
	old, new string            // the files of both layouts
	want     map[string]string // as written returns it
}

func newMigration(t *testing.T, keys int) *migration {
	t.Helper()
	return migrationOf(t, keys, func() *redistest.Node { return redistest.Start(t) })
}

func migrationOf(t *testing.T, keys int, start func() *redistest.Node) *migration {
	t.Helper()
	nodes := []*redistest.Node{start(), start(), start()}
	older, newer := ringOf(nodes), evenSlots(nodes)
	return &migration{
		nodes: nodes, newer: newer, want: written(t, older, keys, "0"),
		old: redistest.WriteFile(t, "old.yml", older), new: redistest.WriteFile(t, "new.yml", newer),
	}
}

// start starts migrate, as fast as the nodes can.
func (m *migration) start(t *testing.T, flags ...string) *redistest.Process {
	t.Helper()
	return redistest.StartProcess(t, append([]string{"migrate", m.old, m.new, "--latency", "0"}, flags...)...)
}

// restores returns how the third node counts RESTORE, and whether it has had any.
func (m *migration) restores() (count string, some bool) {
	_, rest, some := strings.Cut(m.nodes[2].Do("INFO", "commandstats").Text, "cmdstat_restore:")
	count, _, _ = strings.Cut(rest, "\r")
	return count, some
}

// finish migrates the remaining keys, and checks that each key is on one node.
func (m *migration) finish(t *testing.T) (out string) {
	t.Helper()
	out, status := keyway(t, "migrate", m.old, m.new, "--latency", "0")
	if status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}
	once(t, m.newer, m.nodes, m.want, "0")
	return out
}

// TestMigrateKilled: migrate is killed ten times on the way. The next one goes on, and
// nothing is lost or twice.
func TestMigrateKilled(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 20_000)
	rng := rand.New(rand.NewPCG(13, 13))
	for i := range 10 {
		before, _ := m.restores()
		p := m.start(t, "--rate", "4000")
		redistest.Eventually(t, 20*time.Second, "keys move", func() bool {
			now, some := m.restores()
			return some && now != before
		})
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond) // any moment will do
		if err := p.Cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("migrate %d has ended before it was killed: %v\n%s", i, err, p.Stderr)
		}
		p.Kill()
	}
	printed(t, m.finish(t), []string{"moved ", "keys/s"}, []string{"All 20000 keys are where"})
}

// TestMigrateTwiceAtOnce: two do the same work together.
func TestMigrateTwiceAtOnce(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 10_000)
	for _, p := range []*redistest.Process{m.start(t), m.start(t)} {
		if err := p.Cmd.Wait(); err != nil {
			t.Errorf("%v\n%s%s", err, p.Stdout, p.Stderr)
		}
	}
	once(t, m.newer, m.nodes, m.want, "0")
}

// TestMigrateInterrupted: Ctrl-C ends it, and it says that nothing is lost.
func TestMigrateInterrupted(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 5000)
	p := m.start(t, "--rate", "1000")
	redistest.Eventually(t, 20*time.Second, "keys move", func() bool {
		_, some := m.restores()
		return some
	})
	p.Cmd.Process.Signal(syscall.SIGINT)
	if err := p.Cmd.Wait(); err == nil || p.Cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	printed(t, p.Stderr.String(), []string{"keyway migrate was interrupted", "the same command goes on"})
	m.finish(t)
}

// TestMigrateRefused: what stands in the way is named, with what to do; nothing is lost.
func TestMigrateRefused(t *testing.T) {
	t.Parallel()
	nodes := append(redistest.Three(t), redistest.Start(t))
	older, newer := ringOf(nodes[:3]), ringOf(nodes)
	want := written(t, older, 1000, "0")
	full := nodes[3]
	full.Do("CONFIG", "SET", "maxmemory", "1")
	out, status := keyway(t, "migrate", older, newer)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"node d (" + full.Addr + ")", "OOM", "raise its maxmemory"})
	once(t, older, nodes, want, "0")

	full.Do("CONFIG", "SET", "maxmemory", "0")
	full.Do("ACL", "SETUSER", "default", "-restore")
	out, status = keyway(t, "migrate", older, newer)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"node d (" + full.Addr + ")", "NOPERM", "ACL SETUSER"})
	full.Do("ACL", "SETUSER", "default", "+restore")

	full.Kill()
	out, status = keyway(t, "migrate", older, newer)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"node d (" + full.Addr + ")", "start the node"})
	full.Run()
	if out, status = keyway(t, "migrate", older, newer); status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}
	once(t, newer, nodes, want, "0")
	if out, status = keyway(t, "migrate", older); status != 1 || lines(out, "needs two files") != 1 {
		t.Errorf("status %d:\n%s", status, out)
	}
}

// TestMigrateToAnOlderVersion is refused by each node, and nothing is lost.
func TestMigrateToAnOlderVersion(t *testing.T) {
	t.Parallel()
	newServer, oldServer := redistest.Valkey.Start(t), redistest.Redis.Start(t)
	older, newer := ringOf([]*redistest.Node{newServer}), ringOf([]*redistest.Node{oldServer})
	want := written(t, older, 10, "0")
	out, status := keyway(t, "migrate", older, newer)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"node a (" + oldServer.Addr + ")", "DUMP payload version", "7.0.15", "upgrade node a"})
	once(t, older, []*redistest.Node{newServer, oldServer}, want, "0")
}

// TestSetAsideIsToldInSpiteOfAnError: migrate and verify --repair print which values they have
// renamed, also if they fail later.
func TestSetAsideIsToldInSpiteOfAnError(t *testing.T) {
	t.Parallel()
	newServer, oldServer := redistest.Valkey.Start(t), redistest.Redis.Start(t)
	nodes := []*redistest.Node{newServer, oldServer}
	onA := "layout: range\n" + redistest.NodesYAML(nodes) + "range: {rules: [], default: a}\n"
	onB := strings.Replace(onA, "default: a", "default: b", 1)
	for _, args := range [][]string{{"migrate", onA, onB}, {"verify", "-c", onB, "--repair"}} {
		newServer.Do("FLUSHALL")
		newServer.Do("MSET", "l", "old", "refused", "x")
		oldServer.Do("SET", "l", "new")
		out, status := keyway(t, args...)
		if status != 1 {
			t.Errorf("%s: status %d", args[0], status)
		}
		printed(t, out, []string{`"l" on a`, `"keyway:stray:a:l" on a now`}, []string{"DUMP payload version"})
	}
}

// TestMigrateKeepsBothValues: a key that is at its new node before loses nothing, and a
// value that clients never saw does not win against the one that they saw.
func TestMigrateKeepsBothValues(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	onA := "layout: range\n" + redistest.NodesYAML(nodes) + "range: {rules: [], default: a}\n"
	onB := strings.Replace(onA, "default: a", "default: b", 1)
	nodes[0].Do("SET", "k", "seen")
	nodes[2].Do("SET", "k", "never seen")
	nodes[2].Do("SET", "alone", "never seen")
	nodes[0].Do("SET", "l", "old")
	nodes[1].Do("SET", "l", "new")
	out, status := keyway(t, "migrate", onA, onB)
	if status != 2 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{`"k" on c`, `"keyway:stray:c:k" on c now`},
		[]string{`"l" on a`, `"keyway:stray:a:l" on a now`},
		[]string{"All 3 keys are where"})
	for key, want := range map[string]string{"k": "seen", "l": "new", "alone": "never seen"} {
		if got := nodes[1].Do("GET", key).Text; got != want {
			t.Errorf("%q is %q, expected %q", key, got, want)
		}
	}
	if got := nodes[2].Do("GET", "keyway:stray:c:k").Text; got != "never seen" {
		t.Errorf("the second value is %q", got)
	}
}

// TestMigrateLeavesUnplacedKeys: the new layout has no node for some keys. They stay.
func TestMigrateLeavesUnplacedKeys(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	older := "layout: range\n" + redistest.NodesYAML(nodes) + "range: {rules: [], default: a}\n"
	newer := "layout: range\n" + redistest.NodesYAML(nodes) + "range: {rules: [{from: a, to: b, node: b}]}\n"
	nodes[0].Do("MSET", "a1", "x", "c1", "y")
	out, status := keyway(t, "migrate", older, newer)
	if status != 2 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"moved 1 keys"}, []string{`"c1" on a belongs to no node`})
	if v := nodes[0].Do("GET", "c1").Text + nodes[1].Do("GET", "a1").Text; v != "yx" {
		t.Errorf("%q", v)
	}
}
