package test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// switched runs keyway switch until all keys have moved, and returns what it has printed.
func switched(t testing.TB, older, newer string, flags ...string) string {
	t.Helper()
	args := append([]string{"switch", "--wait"}, flags...)
	args = append(args, redistest.WriteFile(t, "old.yml", older), redistest.WriteFile(t, "new.yml", newer))
	out, err := exec.Command(redistest.Build(t), args...).CombinedOutput()
	if err != nil {
		t.Errorf("keyway switch: %v\n%s", err, out)
	}
	return string(out)
}

// pairsOfLayouts returns configurations between which nearly all keys move, by what they are.
func pairsOfLayouts(t testing.TB) map[string][2]string {
	t.Helper()
	var all [][]*redistest.Node // others for each pair: they keep their registers
	for range 3 {
		all = append(all, append(redistest.Three(t), redistest.Three(t)...))
	}
	named := func(names string, of ...*redistest.Node) string {
		s := "nodes:\n"
		for i, n := range of {
			s += fmt.Sprintf("  - {name: %c, addr: %s}\n", names[i], n.Addr)
		}
		return s
	}
	return map[string][2]string{
		"ring to slots": {
			"layout: ring\nhash_tag: \"{}\"\n" + named("abc", all[0][:3]...),
			"layout: slots\nslots: {static: {d: 0-5460, e: 5461-10922, f: 10923-16383}}\n" +
				named("def", all[0][3:]...),
		},
		"a node more, and modulo": {
			"layout: ring\nhash_tag: \"{}\"\n" + named("abc", all[1][:3]...),
			"layout: modulo\nhash_tag: \"{}\"\nmodulo: {hash: crc32}\n" + named("abcd", all[1][:4]...),
		},
		"modulo to ranges": {
			"layout: modulo\nhash_tag: \"{}\"\n" + named("abc", all[2][:3]...),
			"layout: range\nhash_tag: \"{}\"\nrange: {default: y, rules: [{from: t0, to: t9, node: x}]}\n" +
				named("xy", all[2][3:5]...),
		},
	}
}

// TestSwitchIntoCluster: the same into a Redis Cluster and out of it.
func TestSwitchIntoCluster(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	c := redistest.NewCluster(t, 3, 0, "--cluster-node-timeout", "15000")
	keepsWhatClientsAreIn(t, [2]string{
		"layout: ring\nhash_tag: \"{}\"\n" + redistest.NodesYAML(redistest.Three(t)), c.SeedsYAML(),
	})
}

// TestSwitchFromClusterToCluster: the same from one Redis Cluster to another, there and back. The new one
// needs a name, since seeds do not tell clusters apart.
func TestSwitchFromClusterToCluster(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	from, to := redistest.NewCluster(t, 2, 0), redistest.NewCluster(t, 2, 0)
	older, newer := from.SeedsYAML(), to.SeedsYAML()
	k := redistest.ServeProcess(t, older)
	client := redistest.Dial(t, k.Addr)
	for i := range registeredKeys {
		client.Expect("OK", "SET", fmt.Sprintf("key:%d", i), fmt.Sprint(i))
	}
	files := []string{redistest.WriteFile(t, "old.yml", older), redistest.WriteFile(t, "new.yml", newer)}
	const refusal = "slots.seeds: these seeds belong to another cluster than those of the old layout"
	for command, want := range map[string]string{"switch": refusal, "plan": "NOT READY: names\n"} {
		out, status := keyway(t, append([]string{command}, files...)...)
		if status == 0 || !strings.Contains(out, refusal) || !strings.Contains(out, want) {
			t.Errorf("%s: status %d, lacks %q:\n%s", command, status, want, out)
		}
	}
	named := strings.Replace(newer, "seeds:", "cluster: new, seeds:", 1)
	keepsWhatClientsAreIn(t, [2]string{older, named})
	switched(t, older, named)
	if n := lost(t, k.Addr); n > 0 {
		t.Errorf("%d keys are hidden", n)
	}
	for i := range from.Nodes {
		if len(from.Nodes[i].Keys()) > 0 || len(to.Nodes[i].Keys()) == 0 {
			t.Errorf("node %d: keys have stayed: %q; have come: %q", i, from.Nodes[i].Keys(), to.Nodes[i].Keys())
		}
	}
	restarted := redistest.ServeProcess(t, older) // with the file that it had
	if n := lost(t, restarted.Addr); n > 0 {
		t.Errorf("%d keys are hidden from a keyway with the old file", n)
	}
	for _, n := range from.Nodes {
		n.Kill()
	}
	if n := lost(t, k.Addr) + lost(t, restarted.Addr); n > 0 {
		t.Errorf("%d keys are lost with the nodes of the old cluster", n)
	}
	for i := range 10 { // nobody looks for them at the old cluster any more
		client.Expect("OK", "SET", fmt.Sprint("later:", i), "1")
	}
}

// TestSwitchFromNodeWithOwnPassword: keys move away from a node that only the old layout has, and that
// has a password of its own.
func TestSwitchFromNodeWithOwnPassword(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b, leaves := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	newer := "layout: ring\n" + redistest.NodesYAML([]*redistest.Node{a, b})
	older := newer + fmt.Sprintf("  - {name: c, addr: %s, password: secret}\n", leaves.Addr)
	leaves.Do("CONFIG", "SET", "requirepass", "secret")
	k := redistest.ServeProcess(t, older)
	c := redistest.Dial(t, k.Addr)
	for i := range registeredKeys {
		c.Expect("OK", "SET", fmt.Sprintf("key:%d", i), fmt.Sprint(i))
	}
	done := make(chan string, 1)
	go func() { done <- switched(t, older, newer, "--rate", "20") }()
	for end := time.Now().Add(60 * time.Second); len(done) == 0 && time.Now().Before(end); {
		if n := lost(t, k.Addr); n > 0 { // these keys are brought as long as switch has not moved them
			t.Fatalf("%d keys are hidden", n)
		}
	}
	t.Log(<-done)
}

// keysOfTag returns keys that live together in every layout.
func keysOfTag(tag string) (a, b string) { return "a{" + tag + "}", "b{" + tag + "}" }

// TestSwitchKeepsWhatClientsAreIn: clients that are inside a blocking command, a transaction, WATCH
// or a subscription, or that cache, notice nothing of a switch but what Redis allows.
func TestSwitchKeepsWhatClientsAreIn(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	for name, pair := range pairsOfLayouts(t) {
		t.Run(name, func(t *testing.T) { keepsWhatClientsAreIn(t, pair) })
	}
}

func keepsWhatClientsAreIn(t *testing.T, pair [2]string) {
	t.Helper()
	k, other := redistest.ServeProcess(t, pair[0]), redistest.ServeProcess(t, pair[0])
	dial := func() *redistest.Client { return redistest.Dial(t, k.Addr) }
	far := redistest.Dial(t, other.Addr)
	for i, way := range [][2]string{pair, {pair[1], pair[0]}} {
		a, b := keysOfTag(fmt.Sprint("t", i))
		far.Expect("OK", "MSET", a, "1", b, "2")
		blocked := dial()
		blocked.Send("BLPOP", "list{"+a+"}", "60")
		blocked.Flush()
		stream := dial()
		stream.Send("XREAD", "BLOCK", "60000", "STREAMS", "stream{"+a+"}", "$")
		stream.Flush()
		queued := dial()
		queued.Expect("OK", "MULTI")
		queued.Expect("QUEUED", "INCR", a)
		watching := dial()
		watching.Expect("OK", "WATCH", b)
		watching.Expect("OK", "MULTI")
		watching.Expect("QUEUED", "INCR", b)
		listening := dial()
		listening.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		caching := dial()
		caching.MustDo("HELLO", "3")
		caching.Expect("OK", "CLIENT", "TRACKING", "ON")
		caching.Expect("2", "GET", b)
		time.Sleep(50 * time.Millisecond) // most of them wait at their nodes now

		t.Logf("%s", switched(t, way[0], way[1]))

		queued.Expect("QUEUED", "INCR", a)
		queued.Expect("[2 3]", "EXEC")
		if r := watching.Do("EXEC"); r.String() != "(nil)" && r.String() != "[3]" {
			t.Errorf("EXEC after WATCH: %s", r)
		}
		far.Expect("1", "RPUSH", "list{"+a+"}", "x")
		if r, err := blocked.Receive(); err != nil || r.String() != "[list{"+a+"} x]" {
			t.Errorf("BLPOP: %s, %v", r, err)
		}
		far.MustDo("XADD", "stream{"+a+"}", "*", "f", "v")
		if r, err := stream.Receive(); err != nil || !strings.Contains(r.String(), "[f v]") {
			t.Errorf("XREAD: %s, %v", r, err)
		}
		far.MustDo("PUBLISH", "news", "hello")
		if r, err := listening.Receive(); err != nil || r.String() != "[message news hello]" {
			t.Errorf("message: %s, %v", r, err)
		}
		far.Expect("OK", "SET", b, "5")
		if r, err := caching.Receive(); err != nil || !strings.Contains(r.String(), "invalidate") {
			t.Errorf("invalidation: %s, %v", r, err)
		}
	}
}

// TestStraysStopASwitch: a key on a node where the old layout does not place it hides the one that clients see
// once its node is the new one. The change does not begin, and says what to do.
func TestStraysStopASwitch(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	file := func(prefix string) string {
		return redistest.WriteFile(t, prefix+".yml", fmt.Sprintf("layout: range\nrange: {default: a, rules: "+
			"[{from: %s0, to: %s9, node: b}]}\nnodes:\n  - {name: a, addr: %s}\n  - {name: b, addr: %s}\n",
			prefix, prefix, nodes[0].Addr, nodes[1].Addr))
	}
	nodes[0].Do("SET", "new5", "seen")
	nodes[1].Do("SET", "new5", "stray")
	load := func(file string) *config.Config {
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx := within(t, 30*time.Second)
	change, err := reshard.NewSwitch(ctx, load(file("old")), load(file("new")))
	if err != nil {
		t.Fatal(err)
	}
	change.Report = t.Logf
	if _, err = change.Start(ctx, migrate.Options{}, false); err == nil ||
		!strings.Contains(err.Error(), "keyway verify --repair") || nodes[0].Do("GET", "new5").Text != "seen" {
		t.Errorf("the change begins: %v", err)
	}
	if list := fmt.Sprint(nodes[0].Do("FUNCTION", "LIST")); strings.Contains(list, "_plan") {
		t.Errorf("the change is planned: %s", list)
	}
}
