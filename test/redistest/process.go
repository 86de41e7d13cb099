package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var built struct {
	sync.Once
	path string
	err  error
}

// Build compiles the keyway command once, and returns its path. RemoveBuilt removes it. If
// KEYWAY_BINARY is set, it is the path of a keyway that has been built already.
func Build(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("KEYWAY_BINARY"); path != "" {
		return path
	}
	built.Do(func() {
		dir, err := os.MkdirTemp("", "keyway-test")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "keyway")
		build := exec.Command("go", "build", "-o", built.path, "github.com/keyway-proxy/keyway/cmd/keyway")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released, under the race detector too
		out, err := build.CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("building keyway: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// RemoveBuilt removes the files that Build has made. Call it after all tests.
func RemoveBuilt() {
	if built.path != "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
}

// Process is a keyway process.
type Process struct {
	t              testing.TB
	Addr           string // of the first listener for clients, if ServeProcess started the process
	Cmd            *exec.Cmd
	Stdout, Stderr *Log
	args           []string
}

// ofProcesses are the names of the tests that called OfAProcess.
var ofProcesses sync.Map

// OfAProcess is for tests whose keyways are all processes of their own. The race detector is not in
// there, so that they are skipped under it. Serve fails for them.
func OfAProcess(t testing.TB) {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	ofProcesses.Store(test, true)
	if Race {
		t.Skip("nothing that runs here has the race detector in it; make test runs this")
	}
}

// StartProcess starts keyway with these arguments, and kills it when the test ends.
func StartProcess(t testing.TB, args ...string) *Process {
	t.Helper()
	return StartCommand(t, append([]string{Build(t)}, args...)...)
}

// StartCommand starts keyway with a whole command line, such as one that runs it on another
// host. It kills the process when the test ends.
func StartCommand(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, args: args}
	p.run()
	t.Cleanup(p.Kill)
	return p
}

// ServeProcess starts keyway with this configuration on a free port, and waits until it
// answers. before is put in front of the command line, such as "prlimit",
// "--nofile=1024".
func ServeProcess(t testing.TB, yaml string, before ...string) *Process {
	t.Helper()
	return serveProcess(t, fmt.Sprintf("listen: 127.0.0.1:%d\n", FreePort(t)), yaml, before...)
}

// EmulatingProcesses is like Emulating, but starts processes.
func EmulatingProcesses(t testing.TB, n int, yaml string) (keyways []*Process) {
	t.Helper()
	for _, text := range emulations(t, n) {
		keyways = append(keyways, serveProcess(t, text, yaml))
	}
	return keyways
}

// serveProcess is like ServeProcess. listen contains the configuration's first lines, and
// begins with the line "listen: ADDR".
func serveProcess(t testing.TB, listen, yaml string, before ...string) *Process {
	t.Helper()
	if !strings.Contains(yaml, "shutdown:") {
		yaml = "shutdown: {drain: 0s}\n" + yaml
	}
	file := WriteFile(t, "keyway.yml", listen+yaml)
	p := StartCommand(t, append(before, Build(t), "serve", "-c", file)...)
	line, _, _ := strings.Cut(listen, "\n")
	p.Addr = strings.TrimPrefix(line, "listen: ")
	p.Answers()
	return p
}

func (p *Process) run() {
	p.t.Helper()
	p.Cmd = exec.Command(p.args[0], p.args[1:]...)
	p.start()
}

func (p *Process) start() {
	p.t.Helper()
	p.Stdout, p.Stderr = new(Log), new(Log)
	p.Cmd.Stdout, p.Cmd.Stderr = p.Stdout, p.Stderr
	if err := p.Cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// Answers waits until a client gets a reply from a node.
func (p *Process) Answers() {
	p.t.Helper()
	Eventually(p.t, 10*time.Second, "keyway answers", func() bool {
		return Ask(p.Addr, "EXISTS", "nothing").Kind == ':'
	})
}

// Kill kills the process.
func (p *Process) Kill() {
	if p.Cmd.ProcessState != nil {
		return
	}
	p.Cmd.Process.Signal(syscall.SIGCONT)
	p.Cmd.Process.Kill()
	p.Cmd.Wait()
}

// Restart starts the process again after Kill.
func (p *Process) Restart() { p.run() }

// End sends SIGTERM and waits for the process to exit with 0.
func (p *Process) End() {
	p.t.Helper()
	p.Cmd.Process.Signal(syscall.SIGTERM)
	if err := p.Cmd.Wait(); err != nil {
		p.t.Errorf("keyway after SIGTERM: %v\n%s", err, p.Stderr)
	}
}

// Freeze suspends the process until Thaw.
func (p *Process) Freeze() { p.Cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw resumes a suspended process.
func (p *Process) Thaw() { p.Cmd.Process.Signal(syscall.SIGCONT) }

// RSS returns the resident memory in bytes, or 0 on systems without /proc.
func (p *Process) RSS() int64 {
	p.t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	for line := range strings.Lines(p.proc("status")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	p.t.Fatal("no VmRSS")
	return 0
}

// CPU returns the processor time used so far (proc(5): utime and stime, in hundredths of a
// second).
func (p *Process) CPU() time.Duration {
	p.t.Helper()
	stat := p.proc("stat")
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Descriptors returns the number of the process's open files and sockets.
func (p *Process) Descriptors() int {
	p.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(list)
}

func (p *Process) proc(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Cmd.Process.Pid, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}
