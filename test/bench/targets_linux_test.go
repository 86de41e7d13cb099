package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

const (
	ofKeyway    = "keyway"
	ofTwemproxy = "twemproxy"
)

// target is a server that is measured.
type target struct {
	name, addr string
	pid        int // 0 if unknown: its processor time is not measured
	authority  string
}

func (p target) String() string { return fmt.Sprintf("%s at %s", p.name, p.addr) }

// startKeyway starts keyway with one thread.
func startKeyway(t *testing.T, yaml string) target {
	t.Helper()
	p := redistest.ServeProcess(t, "threads: 1\nplacement: {misplaced: off}\nclients: {max: 100000}\n"+yaml)
	return target{name: ofKeyway, addr: p.Addr, pid: p.Cmd.Process.Pid}
}

func ringYAML(addrs []string) string {
	yaml := "layout: ring\nring: {hash: fnv1a_64}\nnodes:\n"
	for i, addr := range addrs {
		yaml += fmt.Sprintf("  - {name: n%d, addr: %q}\n", i, addr)
	}
	return yaml
}

// startTwemproxy starts twemproxy, which places keys as the ring does. It grows dearer as its buffers fill,
// so each workload gets one of its own.
func startTwemproxy(t *testing.T, addrs []string) target {
	t.Helper()
	if _, err := exec.LookPath("nutcracker"); err != nil {
		t.Fatal("twemproxy is not installed; install it with: apt-get install -y nutcracker (Debian)")
	}
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	yml := "p:\n  listen: " + addr + "\n  redis: true\n  backlog: 4096\n  hash: fnv1a_64\n" +
		"  distribution: ketama\n  hash_tag: \"{}\"\n  servers:\n"
	for i, node := range addrs {
		yml += fmt.Sprintf("   - %s:1 n%d\n", node, i)
	}
	p := redistest.StartCommand(t, "nutcracker", "-c", redistest.WriteFile(t, "nutcracker.yml", yml),
		"-s", strconv.Itoa(redistest.FreePort(t)))
	p.Addr = addr
	p.Answers()
	return target{name: ofTwemproxy, addr: addr, pid: p.Cmd.Process.Pid}
}

// besideOthers returns the targets of -beside.
func besideOthers(t *testing.T) (all []target) {
	t.Helper()
	for text := range strings.SplitSeq(*beside, ",") {
		if text == "" {
			continue
		}
		name, rest, ok := strings.Cut(text, "=")
		parts := strings.Split(rest, ":")
		if !ok || len(parts) < 2 || len(parts) > 3 {
			t.Fatalf("-beside %q is not NAME=HOST:PORT or NAME=HOST:PORT:PID", text)
		}
		p := target{name: name, addr: parts[0] + ":" + parts[1]}
		if len(parts) == 3 {
			var err error
			if p.pid, err = strconv.Atoi(parts[2]); err != nil {
				t.Fatalf("-beside %q: %v", text, err)
			}
		}
		all = append(all, p)
	}
	return all
}

// cpu returns the processor time that the process has used: /proc counts that of each thread in nanoseconds.
func (p target) cpu(t *testing.T) (sum time.Duration) {
	t.Helper()
	if p.pid == 0 {
		return 0
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: no process %d: %v", p, p.pid, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		used, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(used, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}

// machineCPU returns the processor time that all processes have used on these cores, and the kernel
// (proc(5): all but idle and iowait, in hundredths of a second).
func machineCPU(t *testing.T, cores map[string]bool) (sum time.Duration) {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 9 || !cores[f[0]] {
			continue
		}
		for _, i := range []int{1, 2, 3, 6, 7} {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
