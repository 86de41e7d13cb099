package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// runPlan runs keyway plan and returns what it prints and its exit status.
func runPlan(t *testing.T, older, newer string, flags ...string) (out string, status int) {
	t.Helper()
	return keyway(t, append([]string{"plan", older, newer}, flags...)...)
}

// planned is what the tests read of keyway plan --json.
type planned struct {
	Keys struct {
		Total, Seen, Moving, Bytes, Misplaced int64
		Counted                               bool
		MovingError                           int64 `json:"moving_error"`
		BytesError                            int64 `json:"bytes_error"`
	}
	Pairs []struct {
		From, To    string
		Keys, Bytes int64
		Share       float64
	}
	Ready bool
}

func planJSON(t *testing.T, older, newer string, flags ...string) planned {
	t.Helper()
	out, _ := runPlan(t, older, newer, append(flags, "--json")...)
	var p planned
	dec := json.NewDecoder(bytes.NewReader([]byte(out)))
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return p
}

// expectPlan checks the exit status, and that the output contains each of the texts.
func expectPlan(t *testing.T, out string, status, wantStatus int, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("lacks %q:\n%s", text, out)
		}
	}
	if status != wantStatus {
		t.Errorf("exit status %d, want %d:\n%s", status, wantStatus, out)
	}
}

// fill writes n keys through a keyway of this configuration and stops it. It returns the name
// of each key's node.
func fill(t *testing.T, yaml string, nodes []*redistest.Node, n int) map[string]string {
	t.Helper()
	k := redistest.Serve(t, yaml).Ready()
	c := k.Dial()
	const atOnce = 500
	for from := 0; from < n; from += atOnce {
		to := min(n, from+atOnce)
		for i := from; i < to; i++ {
			c.Send("SET", fmt.Sprintf("user:%d", i), strings.Repeat("x", 10+i%90))
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for i := from; i < to; i++ {
			if r, err := c.Receive(); err != nil || r.Text != "OK" {
				t.Fatal(r, err)
			}
		}
	}
	c.Close()
	k.Stop()
	of := map[string]string{}
	for i, node := range nodes {
		for _, key := range node.Keys() {
			of[key] = string(rune('a' + i))
		}
	}
	if len(of) < n {
		t.Fatalf("%d of %d keys are on the nodes", len(of), n)
	}
	return of
}

// TestPlanCountsWhatMoves: the plan's numbers are those of where keyway puts the same keys
// before and after.
func TestPlanCountsWhatMoves(t *testing.T) {
	t.Parallel()
	nodes, fresh := redistest.Three(t), redistest.Three(t)
	layouts, other := redistest.Layouts(nodes), redistest.Layouts(fresh)
	older := fill(t, layouts["ring"], nodes, 2500)
	for _, layout := range []string{"slots", "range", "modulo"} {
		newer := fill(t, other[layout], fresh, 2500)
		want := map[string]int64{}
		moving := int64(0)
		for key, from := range older {
			if to := newer[key]; to != from {
				want[from+to]++
				moving++
			}
		}
		p := planJSON(t, layouts["ring"], layouts[layout])
		if !p.Ready || !p.Keys.Counted || p.Keys.Total != 2500 || p.Keys.Moving != moving || p.Keys.MovingError != 0 {
			t.Errorf("%s: %+v, want %d moving", layout, p.Keys, moving)
		}
		sum := int64(0)
		for _, pair := range p.Pairs {
			if pair.Keys != want[pair.From+pair.To] || (pair.Share > 0) != (layout != "range") {
				t.Errorf("%s: %+v, want %d", layout, pair, want[pair.From+pair.To])
			}
			sum += pair.Bytes
		}
		if sum != p.Keys.Bytes || sum < 50*moving || sum > 300*moving { // values have 10 to 100 bytes
			t.Errorf("%s: %d bytes in all, %d by pair", layout, p.Keys.Bytes, sum)
		}
		for _, n := range fresh {
			n.Do("FLUSHALL")
		}
	}
	for key, from := range older {
		if !strings.HasPrefix(key, "user:") {
			t.Errorf("%q is left on %s", key, from)
		}
	}
	for _, n := range nodes {
		if strings.Contains(strings.Join(n.Keys(), " "), "keyway") {
			t.Errorf("plan leaves keys behind: %s", n.Keys())
		}
	}
	out, status := runPlan(t, layouts["ring"], layouts["slots"])
	expectPlan(t, out, status, 0, "layout   ring of 3 nodes -> slots of 3 nodes", "measured with random keys",
		"of 2,500 move (", "all were counted", "no key over 32 MB moves", "if each node sends 7,000 keys", "\nREADY\n")
	out, status = runPlan(t, layouts["range"], "layout: rang\n")
	expectPlan(t, out, status, 1, "keyway2.yml:1:9: layout: ")
	out, _ = runPlan(t, layouts["range"], strings.Replace(layouts["range"], `to: "m"`, `to: "k"`, 1))
	expectPlan(t, out, 0, 0, `these keys move: ["k", "m") from c to a`)
}

// TestPlanSamples: of a large node it looks at a sample, and says how far off that may be.
func TestPlanSamples(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	layouts := redistest.Layouts(nodes)
	const keys = 60_000
	c := redistest.Dial(t, nodes[0].Addr)
	c.MustDo("EVAL", "for i = 1, ARGV[1] do redis.call('SET', 'k:' .. i, string.rep('x', i % 200)) end", "0",
		strconv.Itoa(keys))
	c.Close()
	one := redistest.Ring(nodes[0].Addr)
	sampled, counted := planJSON(t, one, layouts["modulo"]), planJSON(t, one, layouts["modulo"], "--count")
	if !counted.Keys.Counted || counted.Keys.Seen != keys || counted.Keys.MovingError != 0 {
		t.Errorf("counted: %+v", counted.Keys)
	}
	k := sampled.Keys
	if k.Counted || k.Seen != 10_000 || k.Total != keys {
		t.Errorf("sampled: %+v", k)
	}
	// Three times the 95 % interval: one run in hundreds of millions is further off.
	if d := k.Moving - counted.Keys.Moving; d > 3*k.MovingError || -d > 3*k.MovingError || k.MovingError > keys/50 ||
		k.MovingError == 0 {
		t.Errorf("%d move, +-%d, and of all keys %d", k.Moving, k.MovingError, counted.Keys.Moving)
	}
	if d := k.Bytes - counted.Keys.Bytes; d > 3*k.BytesError || -d > 3*k.BytesError || k.BytesError > k.Bytes/20 {
		t.Errorf("%d bytes move, +-%d, and of all keys %d", k.Bytes, k.BytesError, counted.Keys.Bytes)
	}
	out, status := runPlan(t, one, layouts["modulo"])
	expectPlan(t, out, status, 0, "were sampled; --count looks at all", "among the sampled ones; --count finds all")
}

// TestPlanSamplesEveryServer: the sample is a fair one on each kind of server, and in a
// cluster too, where keys of one slot lie together and move together.
func TestPlanSamplesEveryServer(t *testing.T) {
	t.Parallel()
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			nodes := redistest.Three(t)
			cluster := server.Cluster(t, 1, 0)
			const keys = 30_000
			c := redistest.Dial(t, cluster.Nodes[0].Addr)
			for i := range keys {
				tag := i
				if i%2 == 0 {
					tag = 7 // half of all keys are in one slot
				}
				c.Send("SET", fmt.Sprintf("k:{%d}:%d", tag, i), "v")
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			for range keys {
				if r, err := c.Receive(); err != nil || r.Text != "OK" {
					t.Fatal(r, err)
				}
			}
			c.Close()
			modulo := redistest.Layouts(nodes)["modulo"]
			sampled := planJSON(t, cluster.SeedsYAML(), modulo).Keys
			counted := planJSON(t, cluster.SeedsYAML(), modulo, "--count").Keys
			if counted.Seen != keys || counted.Moving != keys || sampled.Seen != 10_000 {
				t.Errorf("counted: %+v, sampled: %+v", counted, sampled)
			}
			static := "layout: slots\nnodes: [{name: a, addr: \"" + cluster.Nodes[0].Addr + "\"}, {name: b, addr: \"" +
				nodes[0].Addr + "\"}]\nslots: {static: {a: 0-9999, b: 10000-16383}}\n"
			sampled = planJSON(t, cluster.SeedsYAML(), static).Keys
			counted = planJSON(t, cluster.SeedsYAML(), static, "--count").Keys
			if d := sampled.Moving - counted.Moving; d > 4*sampled.MovingError || -d > 4*sampled.MovingError {
				t.Errorf("%d move, +-%d, and of all keys %d", sampled.Moving, sampled.MovingError, counted.Moving)
			}
		})
	}
}

// TestPlanAsksNobodyWhenNothingMoves: a change that moves nothing needs no node.
func TestPlanAsksNobodyWhenNothingMoves(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	dead := func(addr string) string {
		return "layout: ring\nnodes: [{name: a, addr: \"127.0.0.1:1\"}, {name: b, addr: \"" + addr + "\"}]\n"
	}
	out, status := runPlan(t, dead("127.0.0.1:2"), dead("127.0.0.1:2")+"reads: prefer-replica\n")
	expectPlan(t, out, status, 0, "no key moves", "READY: no key moves")
	out, status = runPlan(t, dead("127.0.0.1:2"), dead("127.0.0.1:3"))
	expectPlan(t, out, status, 0, "note: node b has another address, 127.0.0.1:3 instead of 127.0.0.1:2. ",
		"The plan takes for granted that the new server has its keys", "READY: no key moves")
	modulo := strings.Replace(dead("127.0.0.1:2"), "layout: ring", "layout: modulo", 1)
	out, status = runPlan(t, dead("127.0.0.1:2"), modulo)
	expectPlan(t, out, status, 2, "not ready: nodes: node a (127.0.0.1:1) cannot be reached: ", "NOT READY: nodes")
	many := "nodes:\n"
	for i := range 12 {
		many += fmt.Sprintf("  - {name: n%d, addr: \"127.0.0.1:%d\"}\n", i, i+1)
	}
	out, status = runPlan(t, "layout: ring\nring: {hash: md5}\n"+many, "layout: ring\n"+many)
	expectPlan(t, out, status, 2, "(32 more pairs: see --json)")
	for args, want := range map[string]string{
		"plan":                          "keyway plan needs the file of the new layout",
		"plan a.yml b.yml --accept all": "--accept all: write crossslot, keyways, names, others, way-back",
		"plan a.yml b.yml":              "a.yml: no such file",
	} {
		b, err := exec.Command(redistest.Build(t), strings.Fields(args)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v %s", args, err, b)
		}
	}
}

// growing returns four nodes, of which three have keys by the first configuration. The
// second has all four.
func growing(t *testing.T) (nodes []*redistest.Node, three, four string) {
	t.Helper()
	nodes = append(redistest.Three(t), redistest.Start(t))
	three = "layout: modulo\n" + redistest.NodesYAML(nodes[:3])
	four = "layout: modulo\n" + redistest.NodesYAML(nodes)
	fill(t, three, nodes[:3], 900)
	return nodes, three, four
}

// TestPlanMemory: a node that would be full makes the plan unready.
func TestPlanMemory(t *testing.T) {
	t.Parallel()
	nodes, three, four := growing(t)
	out, status := runPlan(t, three, four)
	expectPlan(t, out, status, 0, "modulo of 3 nodes -> modulo of 4 nodes", "(exact)", "READY")
	nodes[3].Do("CONFIG", "SET", "maxmemory", "1000000")
	out, status = runPlan(t, three, four)
	expectPlan(t, out, status, 2, "not ready: memory: node d needs ",
		" of 976.6 KB (maxmemory); it would refuse writes; give it at least ",
		"refuses new keys: OOM", "NOT READY: memory")
	nodes[3].Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	out, status = runPlan(t, three, four)
	expectPlan(t, out, status, 2, "it would evict keys (allkeys-lru)")
}

// TestPlanOthers: clients that bypass keyway make the plan unready, unless they are
// accepted.
func TestPlanOthers(t *testing.T) {
	t.Parallel()
	nodes, three, four := growing(t)
	direct := redistest.Dial(t, nodes[1].Addr)
	direct.Expect("OK", "CLIENT", "SETNAME", "report")
	direct.MustDo("GET", "user:1")
	out, status := runPlan(t, three, four)
	expectPlan(t, out, status, 2, `not ready: others: 1 connection from 127.0.0.1 ("report") to b bypass keyway; `+
		"last commands: get; let them use keyway, or, if they only look, write --accept others",
		"NOT READY: others")
	out, status = runPlan(t, three, four, "--accept", "others,way-back")
	expectPlan(t, out, status, 0, "accepted: others: 1 connection", "READY")
	keyway := redistest.Serve(t, three).Ready()
	keyway.Dial().MustDo("GET", "user:1")
	redistest.Dial(t, nodes[1].Addr).Do("CLUSTER", "INFO") // as a keyway asks a cluster where its slots are
	out, status = runPlan(t, three, four)
	expectPlan(t, out, status, 2, "NOT READY: others")
	if n := lines(out, " to b bypass keyway"); n != 1 {
		t.Errorf("keyway's own connections are reported:\n%s", out)
	}
}

// TestPlanMisplaced: keys that the old layout does not place where they are, and keys in
// databases that the new one does not have, make the plan unready.
func TestPlanMisplaced(t *testing.T) {
	t.Parallel()
	nodes, three, four := growing(t)
	for _, n := range nodes[:2] {
		n.Do("SET", "misplaced", "1")
	}
	out, status := runPlan(t, three, four)
	expectPlan(t, out, status, 2, "keys that were looked at on node ",
		`lie elsewhere than the old layout says, such as "misplaced"`, "NOT READY: misplaced")
	for _, n := range nodes[:2] {
		n.Do("DEL", "misplaced")
	}
	nodes[3].Do("SET", "old", "1")
	out, status = runPlan(t, three, four)
	expectPlan(t, out, status, 2, "node d is not in the old layout, and has 1 keys", "NOT READY: misplaced")
	nodes[3].Do("DEL", "old")
	nodes[3].Do("SET", "keyway:guard:1:{a}", "") // a process has died while it moved a key there
	if out, _ = runPlan(t, three, four); strings.Contains(out, "misplaced") {
		t.Errorf("a key of keyway itself is in the way:\n%s", out)
	}

	c := redistest.Dial(t, nodes[2].Addr)
	c.MustDo("SELECT", "3")
	c.MustDo("SET", "k", "v")
	c.Close()
	static := "layout: slots\n" + redistest.NodesYAML(nodes) +
		"slots: {static: {a: 0-5000, b: 5001-9000, c: 9001-12000, d: 12001-16383}}\n"
	out, status = runPlan(t, three, static, "--accept", "others")
	expectPlan(t, out, status, 2, "not ready: databases: node c has 1 keys in database 3",
		"with slots, clients reach database 0 only")
}

// loadFunction loads a library with a function of the same name.
func loadFunction(n *redistest.Node, name, returns string) {
	n.Do("FUNCTION", "LOAD", "#!lua name="+name+"\nredis.register_function('"+name+"', function() return '"+
		returns+"' end)")
}

// TestPlanFunctions: a node that lacks functions gets them, unless nodes do not agree what they are.
func TestPlanFunctions(t *testing.T) {
	t.Parallel()
	nodes, three, four := growing(t)
	loadFunction(nodes[0], "mylib", "1")
	loadFunction(nodes[0], "keyway_7_plan", "1")
	for _, n := range nodes[1:3] {
		loadFunction(n, "mylib", "1")
	}
	out, status := runPlan(t, three, four)
	expectPlan(t, out, status, 0, "node d lacks libraries of functions, and gets them: mylib", "READY")
	loadFunction(nodes[2], "other", "1")
	loadFunction(nodes[1], "other", "2")
	host, port, _ := strings.Cut(nodes[2].Addr, ":")
	out, status = runPlan(t, three, four)
	expectPlan(t, out, status, 2, "not ready: functions: node d lacks library other, which is not the same on all "+
		"nodes; load the right one on all nodes; redis-cli -h "+host+" -p "+port+" FUNCTION LIST WITHCODE shows it",
		"NOT READY: functions")
}

// TestPlanBigKeys: it names the keys that stall both nodes.
func TestPlanBigKeys(t *testing.T) {
	t.Parallel()
	nodes, three, four := growing(t)
	name := ""
	for i := 0; routeOf(t, three, name) != "c" || routeOf(t, four, name) != "d"; i++ {
		name = fmt.Sprintf("big:%d", i)
	}
	nodes[2].Do("SETRANGE", name, strconv.Itoa(40<<20), "x")
	out, status := runPlan(t, three, four)
	expectPlan(t, out, status, 0, fmt.Sprintf("%q on c (string, ", name), "stalls both nodes for up to ")
}

func routeOf(t *testing.T, yaml, key string) string {
	t.Helper()
	file := redistest.WriteFile(t, "keyway.yml", yaml)
	out, err := exec.Command(redistest.Build(t), "route", "-c", file, "--json", key).Output()
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Node string }
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatal(err)
	}
	return e.Node
}

// TestPlanRights: the line that it prints gives the missing rights.
func TestPlanRights(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	account := "backend: {username: proxy, password: secret}\n"
	two := "layout: modulo\n" + redistest.NodesYAML(nodes[:2]) + account
	three := "layout: modulo\n" + redistest.NodesYAML(nodes) + account
	for _, n := range nodes {
		n.Do("ACL", "SETUSER", "proxy", "on", ">secret", "~*", "+@all")
	}
	out, status := runPlan(t, two, three)
	expectPlan(t, out, status, 0, "READY")
	nodes[2].Do("ACL", "SETUSER", "proxy", "-restore", "-memory|usage", "-exec", "resetkeys", "~user:*")
	out, status = runPlan(t, two, three)
	expectPlan(t, out, status, 2, "not ready: rights: user proxy lacks +exec +memory|usage +restore ~* on node c",
		"on the node: ACL SETUSER proxy ", "NOT READY: rights")
	_, line, _ := strings.Cut(out, "on the node: ACL SETUSER ")
	line, _, _ = strings.Cut(line, "\n")
	nodes[2].Do(append([]string{"ACL", "SETUSER"}, strings.Fields(line)...)...)
	out, status = runPlan(t, two, three)
	expectPlan(t, out, status, 0, "READY")
	nodes[2].Do("ACL", "SETUSER", "proxy", "-info")
	out, status = runPlan(t, two, three)
	expectPlan(t, out, status, 2, "not ready: nodes: node c (", " cannot be asked: asking for INFO: NOPERM",
		"correct backend.username and backend.password, or give the user this right")
	nodes[1].Do("ACL", "SETUSER", "proxy", "resetpass", ">other")
	out, status = runPlan(t, two, three)
	expectPlan(t, out, status, 2, "not ready: nodes: node b (", " cannot be asked: WRONGPASS")
}

// TestPlanCommands: a node that does not know a command which moves keys makes the plan unready.
func TestPlanCommands(t *testing.T) {
	t.Parallel()
	nodes := append(redistest.Three(t), redistest.Start(t, "--rename-command", "RESTORE", ""))
	out, status := runPlan(t, "layout: modulo\n"+redistest.NodesYAML(nodes[:3]),
		"layout: modulo\n"+redistest.NodesYAML(nodes))
	expectPlan(t, out, status, 2, "not ready: commands: node d (Redis ", ") does not know restore; "+
		"allow them; keys cannot move without them", "NOT READY: commands")
}

// TestPlanVersions: values of a newer server cannot go to an older one, nor back.
func TestPlanVersions(t *testing.T) {
	t.Parallel()
	for _, server := range []redistest.Server{redistest.Redis8, redistest.Valkey, redistest.Stack} {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			nodes := []*redistest.Node{redistest.Start(t), server.Start(t)}
			older := "layout: modulo\nnodes: [{name: a, addr: \"" + nodes[0].Addr + "\"}]\n"
			newer := "layout: modulo\n" + redistest.NodesYAML(nodes)
			out, status := runPlan(t, older, newer)
			expectPlan(t, out, status, 2, "not ready: way-back: values of node b (",
				" cannot be restored on a (Redis 7.0.", "NOT READY: way-back")
			out, status = runPlan(t, older, newer, "--accept", "way-back")
			expectPlan(t, out, status, 0, "accepted: way-back", "READY")
			old := "layout: modulo\nnodes: [{name: b, addr: \"" + nodes[1].Addr + "\"}]\n"
			out, status = runPlan(t, old, newer, "--accept", "way-back")
			expectPlan(t, out, status, 2, "not ready: versions: node a (Redis 7.0.", " cannot restore values of b (",
				"upgrade that node", "NOT READY: versions")
			modules := map[string]string{"stack": "ReJSON", "redis8": "vectorset"}[server.Name]
			if n := lines(out, "note: node a lacks modules: ", modules); n != min(1, len(modules)) {
				t.Errorf("modules:\n%s", out)
			}
		})
	}
}

// TestPlanOfClusters: a cluster is one of the two layouts, on either side.
func TestPlanOfClusters(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	cluster := redistest.NewCluster(t, 3, 1)
	ring := redistest.Layouts(nodes)["ring"]
	c := redistest.Serve(t, cluster.SeedsYAML()).Ready()
	client := c.Dial()
	for i := range 300 {
		client.MustDo("SET", fmt.Sprintf("k:%d", i), "v")
	}
	client.Close()
	c.Stop()
	out, status := runPlan(t, cluster.SeedsYAML(), ring, "--accept", "others")
	expectPlan(t, out, status, 0, "slots of 3 nodes -> ring of 3 nodes", "300 of 300 move (100.0 %)", "READY")
	if n := lines(out, "yes  ", "% "); n < 9 {
		t.Errorf("%d ways were tried:\n%s", n, out)
	}
	for _, n := range cluster.Nodes {
		n.Do("CONFIG", "SET", "cluster-require-full-coverage", "no")
		n.Do("CLUSTER", "DELSLOTS", "0")
	}
	redistest.Eventually(t, 10*time.Second, "all nodes know that slot 0 has no owner", func() bool {
		out, status = runPlan(t, cluster.SeedsYAML(), ring, "--accept", "others")
		return status == 2 && strings.Contains(out, "1 slots of the old layout have no owner, so their keys are")
	})
	out, status = runPlan(t, ring, cluster.SeedsYAML(), "--accept", "others")
	expectPlan(t, out, status, 2, "ring of 3 nodes -> slots of 3 nodes", "is not in the old layout, and has ")
	ring = "layout: ring\n" + redistest.NodesYAML(cluster.Nodes[:3])
	out, status = runPlan(t, cluster.SeedsYAML(), ring, "--accept", "others")
	expectPlan(t, out, status, 2, "runs in cluster mode, but layout ring needs standalone nodes")
}
