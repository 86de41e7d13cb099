package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// counted is the source of a package that replaces sync and sync/atomic in a keyway that counts how often its threads
// use what they share. Who connects to KEYWAY_COUNTS gets the counts.
const counted = `package counted

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

var locks, writes, reads atomic.Int64

func init() {
	ln, err := net.Listen("tcp", os.Getenv("KEYWAY_COUNTS"))
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				panic(err)
			}
			fmt.Fprintln(c, locks.Load(), writes.Load(), reads.Load())
			c.Close()
		}
	}()
}

type (
	WaitGroup = sync.WaitGroup
	Once      = sync.Once
	Map       = sync.Map
	Mutex     struct{ m sync.Mutex }
	Bool      struct{ v atomic.Bool }
	Int64     struct{ v atomic.Int64 }
	Pointer[T any] struct{ v atomic.Pointer[T] }
)

func OnceFunc(f func()) func() { return sync.OnceFunc(f) }

func (m *Mutex) Lock()   { locks.Add(1); m.m.Lock() }
func (m *Mutex) Unlock() { m.m.Unlock() }

func (b *Bool) Load() bool           { reads.Add(1); return b.v.Load() }
func (b *Bool) Store(v bool)         { writes.Add(1); b.v.Store(v) }
func (b *Bool) Swap(v bool) bool     { writes.Add(1); return b.v.Swap(v) }
func (n *Int64) Load() int64         { reads.Add(1); return n.v.Load() }
func (n *Int64) Store(v int64)       { writes.Add(1); n.v.Store(v) }
func (n *Int64) Add(v int64) int64   { writes.Add(1); return n.v.Add(v) }
func (n *Int64) Swap(v int64) int64  { writes.Add(1); return n.v.Swap(v) }
func (n *Int64) CompareAndSwap(a, b int64) bool { writes.Add(1); return n.v.CompareAndSwap(a, b) }
func (p *Pointer[T]) Load() *T        { reads.Add(1); return p.v.Load() }
func (p *Pointer[T]) Store(v *T)      { writes.Add(1); p.v.Store(v) }
func (p *Pointer[T]) Swap(v *T) *T    { writes.Add(1); return p.v.Swap(v) }
func (p *Pointer[T]) CompareAndSwap(a, b *T) bool { writes.Add(1); return p.v.CompareAndSwap(a, b) }
`

// counting builds a keyway that counts in the packages that know of several threads: the loops and the server. Below
// them only the accounts of users with limits are shared; see package quota.
func counting(t *testing.T) (binary string) {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	replaced := map[string]string{}
	add := func(path, text string) {
		replaced[path] = redistest.WriteFile(t, strings.ReplaceAll(filepath.Base(path), ".go", ".txt"), text)
	}
	add(filepath.Join(root, "counted", "counted.go"), counted)
	for _, pkg := range []string{"loop", "server"} {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			const of = "\"github.com/keyway-proxy/keyway/counted\""
			text := strings.Replace(string(b), "\t\"sync\"\n", "\tsync "+of+"\n", 1)
			text = strings.Replace(text, "\t\"sync/atomic\"\n", "\tatomic "+of+"\n", 1)
			if text != string(b) && !strings.HasSuffix(file, "_test.go") {
				add(file, text)
			}
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "keyway")
	build := exec.Command("go", "build", "-overlay", redistest.WriteFile(t, "overlay.json", string(overlay)),
		"-o", binary, "github.com/keyway-proxy/keyway/cmd/keyway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// counts is how often threads have used what they share.
type counts struct{ locks, writes, reads int }

func countsAt(t *testing.T, addr string) (c counts) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, err := io.ReadAll(conn)
	if _, scanErr := fmt.Sscan(string(b), &c.locks, &c.writes, &c.reads); err != nil || scanErr != nil {
		t.Fatal(err, scanErr)
	}
	return c
}

// TestThreadsShareNothing: commands about keys take no lock, write nothing that another thread reads, and read only
// words that are hardly ever written, a few in a turn. So they cost the same with any number of threads.
func TestThreadsShareNothing(t *testing.T) {
	t.Parallel()
	if redistest.Race {
		t.Skip("the keyway that counts has no race detector in it; make test runs this")
	}
	const threads, clients = 4, 20
	at := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	yaml := fmt.Sprintf("listen: %s\nthreads: %d\nshutdown: {drain: 0s}\nlayout: ring\n", addr, threads)
	file := redistest.WriteFile(t, "keyway.yml", yaml+redistest.NodesYAML(redistest.Three(t)))
	k := redistest.StartCommand(t, "env", "KEYWAY_COUNTS="+at, counting(t), "serve", "-c", file)
	k.Addr = addr
	k.Answers()
	var all []*redistest.Client
	for range clients {
		all = append(all, redistest.Dial(t, addr))
	}
	// As others, a client and the loop use what they share for a new client, script or connection.
	askAboutKeys(t, all, 1, 100)
	for _, load := range []struct{ pipelines, depth, reads int }{{20, 100, 1}, {400, 1, 40}} {
		before, began := countsAt(t, at), time.Now()
		askAboutKeys(t, all, load.pipelines, load.depth)
		after := countsAt(t, at)
		commands := clients * load.pipelines * load.depth
		locks, writes, reads := after.locks-before.locks, after.writes-before.writes, after.reads-before.reads
		t.Logf("%d commands in pipelines of %d: %d locks, %d writes, %d reads",
			commands, load.depth, locks, writes, reads)
		// Some times a second, each thread says how busy it is, whatever it does.
		most := commands/50 + int(20*threads*time.Since(began).Seconds())
		if locks > most || writes > most || reads > load.reads*commands {
			t.Errorf("%d commands in pipelines of %d took %d locks, %d writes and %d reads of what threads share",
				commands, load.depth, locks, writes, reads)
		}
	}
	before := countsAt(t, at)
	for range 50 {
		all[0].Do("CLIENT", "LIST")
	}
	if locks := countsAt(t, at).locks - before.locks; locks < 50*(threads-1) {
		t.Errorf("50 times CLIENT LIST took %d locks with %d threads: they are not counted", locks, threads)
	}
}
