package test

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

func sha1of(script string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(script))) }

// tried is what the tests read of /next-layout, and of the traffic in keyway plan --json.
type tried struct {
	Commands  uint64
	CrossSlot []struct {
		Command  string
		Count    int
		Examples []struct {
			Keys         []string
			Script, Name string
			Client       string
		}
	}
	KeylessScripts int      `json:"keyless_scripts"`
	KeylessNames   []string `json:"keyless_names"`
	Interrupted    bool
	Keyways        int
}

// counts returns the counts by command.
func (f tried) counts() map[string]int {
	of := map[string]int{}
	for _, c := range f.CrossSlot {
		of[c.Command] = c.Count
	}
	return of
}

// triesLayout waits until a keyway tries a next layout.
func triesLayout(t *testing.T, addr string, want bool) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, fmt.Sprintf("%s tries a layout: %v", addr, want), func() bool {
		status, _ := askAdmin(http.MethodGet, addr, "/next-layout", "")
		return status != 0 && (status == http.StatusOK) == want
	})
}

// planProcess is a keyway plan that runs.
type planProcess struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func startPlan(t *testing.T, args ...string) *planProcess {
	t.Helper()
	p := &planProcess{t: t, cmd: exec.Command(redistest.Build(t), append([]string{"plan"}, args...)...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

// end waits for the plan to end, and returns what it prints and its exit status.
func (p *planProcess) end() (out string, status int) {
	p.t.Helper()
	_ = p.cmd.Wait() // the exit status says it
	return p.stdout.String() + p.stderr.String(), p.cmd.ProcessState.ExitCode()
}

// oneToSlots is a layout of one node, on which all keys live together, and one of two nodes
// with slots.
func oneToSlots(t *testing.T) (older, newer string) {
	t.Helper()
	a, b := redistest.Start(t), redistest.Start(t)
	nodes := redistest.NodesYAML([]*redistest.Node{a, b})
	return redistest.Ring(a.Addr), "layout: slots\n" + nodes + "slots: {static: {a: 0-8000, b: 8001-16383}}\n"
}

// sendAcross sends commands whose keys are in several slots, and others.
func sendAcross(t *testing.T, c, other *redistest.Client) {
	t.Helper()
	c.Expect("OK", "CLIENT", "SETNAME", "shop")
	c.MustDo("SADD", "cart:17", "x")
	for range 3 {
		c.MustDo("SUNIONSTORE", "cart:17", "wish:17")
		other.MustDo("SUNIONSTORE", "cart:18", "wish:18")
	}
	c.MustDo("RPUSH", "queue:2", "1", "2")
	c.MustDo("BLPOP", "queue:1", "queue:2", "0")                 // through its own connection
	c.MustDo("BLPOP", "{queue}:1", "{queue}:2", "queue", "0.01") // together in one slot
	c.MustDo("EVAL", "return 1", "2", "lock:a", "lock:b")
	c.MustDo("EVAL", "return 1", "0")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "EVAL", "return 2", "0")
	c.MustDo("EXEC")
	c.MustDo("EVAL", "return 1", "1", "lock:a")
	c.MustDo("MGET", "cart:17", "wish:17")
	c.MustDo("DEL", "cart:17", "wish:17")
	transaction := func(end string, keys ...string) {
		c.Expect("OK", "MULTI")
		for _, key := range keys {
			c.Expect("QUEUED", "INCR", key)
		}
		c.MustDo(end)
	}
	transaction("EXEC", "n:1", "n:2", "n:3")
	transaction("EXEC", "{n}:1", "{n}:2")
	transaction("DISCARD", "n:1", "n:2")
	c.Expect("OK", "WATCH", "n:1", "n:2")
	transaction("EXEC", "n:1")
	c.Expect("OK", "WATCH", "n:1")
	transaction("EXEC", "n:2") // with a key that is watched elsewhere
}

// TestPlanWatches: the keyways count what the new layout would refuse, each command once, and
// the plan adds it up. An interrupted plan prints what was seen. Afterwards the keyways have
// forgotten it.
func TestPlanWatches(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	older, newer := oneToSlots(t)
	one := startReloadable(t, older, "instance: kw-1\nthreads: 2\n")
	two := startReloadable(t, older, "instance: kw-2\n")
	file := redistest.WriteFile(t, "new.yml", newer)
	p := startPlan(t, "-c", file, "--admin", one.admin+","+two.admin, "--watch", "10m", "--json")
	triesLayout(t, one.admin, true)
	triesLayout(t, two.admin, true)

	sendAcross(t, redistest.Dial(t, one.listen), redistest.Dial(t, two.listen))
	redistest.Eventually(t, 10*time.Second, "the interrupt arrives", func() bool {
		return p.cmd.Process.Signal(os.Interrupt) == nil
	})
	out, status := p.end()
	var r struct {
		Traffic  tried
		Ready    bool
		Problems []struct{ Check, Text string }
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil || status != 2 || r.Ready {
		t.Fatalf("%v, exit status %d: %s", err, status, out)
	}
	got := r.Traffic
	// Of the second watched transaction both WATCH and EXEC name keys of several slots; of the
	// first one EXEC alone is served again.
	want := map[string]int{"SUNIONSTORE": 6, "BLPOP": 1, "EVAL": 1, "EXEC": 3, "WATCH": 1}
	if fmt.Sprint(got.counts()) != fmt.Sprint(want) || !got.Interrupted || got.Keyways != 2 || got.Commands < 30 {
		t.Errorf("%+v, want %v", got, want)
	}
	names := []string{sha1of("return 1"), sha1of("return 2")}
	if got.KeylessScripts != 2 || !slices.Equal(got.KeylessNames, names) {
		t.Errorf("scripts without keys: %+v", got)
	}
	for _, c := range got.CrossSlot {
		for _, e := range c.Examples {
			if keys := strings.Join(e.Keys, " "); c.Command == "EVAL" && e.Script != sha1of("return 1") ||
				c.Command == "BLPOP" && keys != "queue:1 queue:2" || c.Command == "WATCH" && keys != "n:1 n:2" ||
				!strings.HasPrefix(e.Client, "127.0.0.1:") {
				t.Errorf("%s: %+v", c.Command, e)
			}
		}
	}
	if len(r.Problems) != 1 || r.Problems[0].Check != "crossslot" || r.Problems[0].Text !=
		"6 SUNIONSTORE, 3 EXEC, 1 BLPOP, 1 EVAL, 1 WATCH would get CROSSSLOT" {
		t.Errorf("%+v", r.Problems)
	}
	triesLayout(t, one.admin, false)
	triesLayout(t, two.admin, false)
	if n := lines(adminPage(t, one.admin, "/metrics"), "keyway_next_layout_crossslot_total 9"); n != 1 {
		t.Errorf("the metric lacks the count")
	}
}

// TestPlanWatchesForATime: the texts of a watch that ends by itself.
func TestPlanWatchesForATime(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	older, newer := oneToSlots(t)
	one := startReloadable(t, older, "instance: kw-1\n")
	file := redistest.WriteFile(t, "new.yml", "admin: "+one.admin+"\n"+newer)
	p := startPlan(t, "-c", file, "--watch", "2s", "--accept", "crossslot")
	triesLayout(t, one.admin, true)
	c := redistest.Dial(t, one.listen)
	c.Expect("OK", "CLIENT", "SETNAME", "shop")
	c.MustDo("SUNIONSTORE", "cart:17", "wish:17", "x")
	c.MustDo("EVAL", "return 'a'", "0")
	out, status := p.end()
	expectPlan(t, out, status, 0, "traffic  last 2s, ", " commands, dry run by the new layout: 1 would get CROSSSLOT\n",
		"  1 SUNIONSTORE            \"cart:17\" \"wish:17\" from 127.0.0.1:", " \"shop\" at ", "  <- use {17}\n",
		"  1 scripts or functions without KEYS, whose keys nobody can see: "+sha1of("return 'a'"),
		"accepted: crossslot: 1 SUNIONSTORE would get CROSSSLOT", "\nREADY\n")
	p = startPlan(t, "-c", file, "--watch", "1s")
	out, status = p.end()
	expectPlan(t, out, status, 0, "dry run by the new layout: none would get CROSSSLOT\n", "\nREADY\n")
	out, status = keyway(t, "plan", "-c", file)
	expectPlan(t, out, status, 0, "traffic  not watched; --watch 1h counts the commands", "\nREADY\n")
	triesLayout(t, one.admin, false)
	for _, args := range [][]string{{"-c", file, "--watch", "-1s"}, {"-c", file, "--watch", "9000h"}} {
		out, status = keyway(t, append([]string{"plan"}, args...)...)
		expectPlan(t, out, status, 1, "write a duration such as 1h")
	}
	out, status = keyway(t, "plan", file, file, "--watch", "1h")
	expectPlan(t, out, status, 1, "--watch asks running keyways, so it goes with -c NEW.yml; leave it out")
}

// TestPlanWatchIsLost: a keyway that is restarted, or that another plan takes over, is a
// finding. What the others have counted is printed.
func TestPlanWatchIsLost(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	older, newer := oneToSlots(t)
	one := startReloadable(t, older, "instance: kw-1\n")
	two := startReloadable(t, older, "instance: kw-2\n")
	three := startReloadable(t, older, "instance: kw-3\n")
	file := redistest.WriteFile(t, "new.yml", newer)
	p := startPlan(t, "-c", file, "--admin", one.admin+","+two.admin+","+three.admin, "--watch", "2s")
	triesLayout(t, three.admin, true)
	redistest.Dial(t, one.listen).MustDo("MSETNX", "{x}a", "1", "{y}b", "2")
	two.process.Kill()
	if got, text := askAdmin(http.MethodPost, three.admin, "/next-layout?for=1h", newer); got != http.StatusOK {
		t.Fatal(got, text)
	}
	out, status := p.end()
	expectPlan(t, out, status, 2, "not ready: keyways: asking keyway at "+two.admin+": ",
		"not ready: keyways: keyway at "+three.admin+": another plan has taken the place of this one; ",
		"1 MSETNX would get CROSSSLOT", "NOT READY: crossslot, keyways")
	for query, want := range map[string]string{
		"": "for: write a duration up to", "for=-1s": "for: write a duration up to", "for=1h": `unknown key "x"`,
	} {
		got, text := askAdmin(http.MethodPost, one.admin, "/next-layout?"+query, "x: 1\n")
		if got != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%q: %d %s, want %s", query, got, text, want)
		}
	}
}

// TestNextLayoutOfTheFile: placement.next makes a keyway count without a plan. A reload and a
// changed file change what it counts; a plan prints it.
func TestNextLayoutOfTheFile(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	older, newer := oneToSlots(t)
	dir := t.TempDir()
	next := filepath.Join(dir, "next.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(newer)
	one := startReloadable(t, older, "watch: true\nplacement: {next: "+next+"}\n")
	triesLayout(t, one.admin, true)
	c := redistest.Dial(t, one.listen)
	c.MustDo("SUNIONSTORE", "a", "b")
	plans := func(want ...string) func() bool {
		return func() bool {
			file := redistest.WriteFile(t, "new.yml", newer)
			out, _ := keyway(t, "plan", "-c", file, "--admin", one.admin)
			for _, text := range want {
				if !strings.Contains(out, text) {
					return false
				}
			}
			return true
		}
	}
	redistest.Eventually(t, 10*time.Second, "the plan prints it",
		plans("dry run by the new layout: 1 would get CROSSSLOT"))
	write(older) // by which all keys live together
	redistest.Eventually(t, 10*time.Second, "another layout is tried", plans("traffic  not watched"))
	c.MustDo("SUNIONSTORE", "a", "b")
	var page struct{ Found tried }
	if err := json.Unmarshal([]byte(adminPage(t, one.admin, "/next-layout")), &page); err != nil ||
		len(page.Found.CrossSlot) != 0 {
		t.Errorf("%+v %v", page, err)
	}
	write("layout: rong\n")
	one.text = "watch: true\nplacement: {next: " + next + "}\nclients: {max: 7}\n"
	text := one.refused()
	if !strings.Contains(text, `placement.next: `+next+`:1:9: layout: unknown layout "rong"`) ||
		!strings.Contains(text, "correct that file, or leave next out") {
		t.Errorf("refused: %s", text)
	}
	out, status := keyway(t, "check", "--offline", "-c", one.file)
	expectPlan(t, out, status, 1, "placement.next: ", `unknown layout "rong"`)
	one.reload("clients: {max: 7}\n")
	triesLayout(t, one.admin, false)
}
