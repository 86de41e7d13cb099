package compat

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var (
	clients = flag.String("clients", "", "run the clients of these languages, such as python,java")
	target  = flag.String("target", "keyway", "run them against keyway, or against one redis")
	update  = flag.Bool("update", false, "rewrite the lists of libraries in docs")
)

// commands are how the programs are run, from their folders; scripts/compat
// installs what they need.
var commands = map[string][]string{
	"python": {filepath.Join("venv", "bin", "python"), "compat.py"},
	"node":   {"node", "compat.mjs"},
	"go":     {"go", "run", "."},
	"java":   {"java", "-cp", "deps/*", "Compat.java"},
	"rust":   {filepath.Join("target", "debug", "compat")},
	"php":    {"php", "compat.php"},
	"ruby":   {"ruby", "compat.rb"},
}

func TestMain(m *testing.M) {
	code := m.Run()
	redistest.RemoveBuilt()
	os.Exit(code)
}

// TestCompat runs every client on every layout, and one of each language over TLS and as a user
// with few rights.
func TestCompat(t *testing.T) {
	if *clients == "" {
		t.Skip("make compat runs the clients of other languages")
	}
	outcomes := &results{of: map[string]map[string]bool{}}
	if *update {
		t.Cleanup(func() {
			writeList(t, "../../docs/clients.md", outcomes.of, "slots", "ring", "range", "modulo", "TLS", "user")
		})
	}
	t.Run("clients", func(t *testing.T) {
		for layout, at := range targets(t) {
			for _, language := range strings.Split(*clients, ",") {
				t.Run(layout+"/"+language, func(t *testing.T) {
					t.Parallel()
					args := append(slices.Clone(commands[language]), layout, at.plain, at.one, at.several)
					run(t, language, args, outcomes)
				})
			}
		}
		runGuarded(t, outcomes)
	})
	if slices.Contains(strings.Split(*clients, ","), "java") {
		t.Run("locks", func(t *testing.T) { locks(t, outcomes) }) // alone: what it holds runs out in three seconds
	}
}

// locks holds Redisson's locks, of its current and of an older release. Each keyway is a
// process of its own: in one process they would wait for each other's turn.
func locks(t *testing.T, outcomes *results) {
	cluster := redistest.NewCluster(t, 3, 1)
	var at []string
	add := func(layout, client, addr string) { at = append(at, layout+","+client+","+addr) }
	if *target == "redis" {
		add("redis", "single", redistest.Start(t).Addr)
		add("redis", "cluster", cluster.Nodes[0].Addr)
	} else {
		layouts := redistest.Layouts(redistest.Three(t))
		layouts["slots,static"] = layouts["slots"]
		layouts["slots"] = cluster.SeedsYAML()
		for _, name := range slices.Sorted(maps.Keys(layouts)) {
			layout, _, _ := strings.Cut(name, ",")
			yaml := layouts[name] + "placement: {misplaced: allow}\n" // all layouts share the nodes
			add(layout, "single", redistest.ServeProcess(t, yaml).Addr)
			add(layout, "cluster", redistest.EmulatingProcesses(t, 1, yaml)[0].Addr)
			if name == "slots" || name == "ring" {
				add(layout, "cluster-3", redistest.EmulatingProcesses(t, 3, yaml)[0].Addr)
			}
		}
		add("redis", "control", cluster.Nodes[0].Addr)
	}
	for _, deps := range []string{"deps/*", "deps/redisson-3.45.1/*"} {
		t.Run(deps, func(t *testing.T) {
			run(t, "java", append([]string{"java", "-XX:TieredStopAtLevel=1", "-cp", deps, "Locks.java"}, at...),
				outcomes)
		})
	}
}

// results are whether a library, with its version, has passed on a layout.
type results struct {
	sync.Mutex
	of map[string]map[string]bool
}

func (r *results) add(library, layout string, ok bool) {
	r.Lock()
	defer r.Unlock()
	if r.of[library] == nil {
		r.of[library] = map[string]bool{}
	}
	before, seen := r.of[library][layout]
	r.of[library][layout] = ok && (before || !seen)
}

// addresses are where the clients of one layout connect to.
type addresses struct {
	plain   string
	one     string // a keyway that says it is a cluster
	several string // one of three that say they are
}

// targets are the addresses to run against, by layout.
func targets(t *testing.T) map[string]addresses {
	if *target == "redis" {
		whole := redistest.NewCluster(t, 1, 0, "--cluster-announce-ip", "127.0.0.1")
		return map[string]addresses{"redis": {redistest.Start(t).Addr, whole.Nodes[0].Addr,
			redistest.NewCluster(t, 3, 0).Nodes[0].Addr}}
	}
	at := map[string]addresses{}
	nodes := redistest.Three(t)
	for layout, yaml := range redistest.Layouts(nodes) {
		if layout == "slots" {
			yaml = redistest.NewCluster(t, 3, 0).SeedsYAML()
		}
		at[layout] = addresses{
			redistest.Serve(t, yaml).Ready().Addr,
			redistest.Emulating(t, 1, yaml)[0].Addr,
			redistest.Emulating(t, 3, yaml)[0].Addr,
		}
	}
	return at
}

// run runs a program in a language's folder, and takes down the checks that it reports. env is
// added to its environment.
func run(t *testing.T, language string, args []string, outcomes *results, env ...string) {
	if commands[language] == nil {
		t.Fatalf("no client is written in %s", language)
	}
	var stderr strings.Builder
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = language, &stderr, 5*time.Second
	cmd.Env = append(os.Environ(), env...)
	defer func() {
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("%s", &stderr)
		}
	}()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; scripts/compat installs what is needed", err)
	}
	within := 6 * time.Minute
	if *long {
		within = 9 * time.Minute
	}
	timer := time.AfterFunc(within, func() { cmd.Process.Kill() })
	defer timer.Stop()
	checks := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		f := strings.Fields(line)
		if len(f) < 5 || f[0] != "ok" && f[0] != "FAIL" {
			t.Errorf("not a line of a check: %q", line)
			continue
		}
		t.Log(line)
		checks++
		outcomes.add(f[1]+" "+f[2], f[3], f[0] == "ok")
		if f[0] == "FAIL" {
			t.Error(line)
		}
	}
	if err := cmd.Wait(); err != nil && !t.Failed() {
		t.Error(err)
	}
	if checks == 0 {
		t.Error("nothing was checked")
	}
}

const (
	listBegin = "<!-- libraries: generated with UPDATE=1 -->\n"
	listEnd   = "<!-- end of libraries -->\n"
)

// writeList puts into a page on which layouts each library has passed.
func writeList(t *testing.T, page string, passed map[string]map[string]bool, layouts ...string) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), listBegin)
	_, tail, ok2 := strings.Cut(rest, listEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the list of libraries", page)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n| library | %s |\n|%s\n", strings.Join(layouts, " | "), strings.Repeat("---|", 1+len(layouts)))
	for _, library := range slices.Sorted(maps.Keys(passed)) {
		b.WriteString("| " + library + " |")
		for _, l := range layouts {
			ok, run := passed[library][l]
			switch {
			case !run:
				b.WriteString(" - |")
			case ok:
				b.WriteString(" passes |")
			default:
				b.WriteString(" fails |")
			}
		}
		b.WriteString("\n")
	}
	if err := os.WriteFile(page, []byte(head+listBegin+b.String()+"\n"+listEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
