package redistest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Successive is keyway as one process after another, each of which replaces the one before.
type Successive struct {
	t      testing.TB
	Addr   string // of the first listener for clients
	Binary string // which the next process runs; a test may replace the file
	File   string // the configuration
	admin  string
	log    string
	pid    int
	ended  chan struct{} // closed when the first process has ended
}

// ServeSuccessive starts keyway with this configuration on a free port, and ends the last process
// when the test ends.
func ServeSuccessive(t testing.TB, yaml string) *Successive {
	t.Helper()
	return serveSuccessive(t, fmt.Sprintf("listen: 127.0.0.1:%d\n", FreePort(t)), yaml)
}

// EmulatingSuccessive is like ServeSuccessive for the first of n keyways that say that they are a
// cluster. The others do not run.
func EmulatingSuccessive(t testing.TB, yaml string) *Successive {
	t.Helper()
	return serveSuccessive(t, emulations(t, 1)[0], yaml)
}

func serveSuccessive(t testing.TB, listen, yaml string) *Successive {
	t.Helper()
	dir := t.TempDir()
	line, _, _ := strings.Cut(listen, "\n")
	s := &Successive{
		t: t, Addr: strings.TrimPrefix(line, "listen: "), Binary: filepath.Join(dir, "keyway"),
		log: filepath.Join(dir, "log"), ended: make(chan struct{}), admin: fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
	}
	binary, err := os.ReadFile(Build(t))
	if err == nil {
		err = os.WriteFile(s.Binary, binary, 0o700)
	}
	log, logErr := os.Create(s.log)
	if err != nil || logErr != nil {
		t.Fatal(err, logErr)
	}
	defer log.Close()
	s.File = WriteFile(t, "keyway.yml", listen+"admin: "+s.admin+"\n"+yaml)
	cmd := exec.Command(s.Binary, "serve", "-c", s.File)
	cmd.Stdout, cmd.Stderr = log, log // a file, because the next processes write to it too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	go func() {
		_ = cmd.Wait() // how it ends is in the log
		close(s.ended)
	}()
	t.Cleanup(s.kill)
	Eventually(t, 20*time.Second, "keyway answers", func() bool { return Ask(s.Addr, "EXISTS", "nothing").Kind == ':' })
	return s
}

// Upgrade replaces the process, and waits until it has ended. It returns what keyway upgrade has
// printed.
func (s *Successive) Upgrade() (printed string, err error) {
	out := new(bytes.Buffer)
	cmd := exec.Command(Build(s.t), "upgrade", "--admin", s.admin)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return out.String(), err
	}
	f := strings.Fields(out.String())
	if len(f) < 2 {
		return out.String(), fmt.Errorf("not understood: %s", out)
	}
	before := s.pid
	if s.pid, err = strconv.Atoi(f[1]); err != nil {
		return out.String(), err
	}
	Eventually(s.t, 60*time.Second, fmt.Sprintf("process %d ends", before), func() bool { return hasEnded(before) })
	return out.String(), nil
}

// PID returns the id of the process that serves.
func (s *Successive) PID() int { return s.pid }

// Log returns what all processes have logged.
func (s *Successive) Log() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// hasEnded reports whether a process has ended, though its parent may not have noticed.
func hasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat[bytes.LastIndexByte(stat, ')'):]), ") Z ")
}

func (s *Successive) kill() {
	if s.t.Failed() {
		s.t.Log(s.Log())
	}
	_ = syscall.Kill(s.pid, syscall.SIGKILL) // it may have ended
	<-s.ended
	Eventually(s.t, 20*time.Second, "keyway ends", func() bool { return hasEnded(s.pid) })
}
