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
	first  *os.Process
	ended  chan struct{} // closed when the first process has ended
}

// ServeSuccessive starts keyway with this configuration on a free port, and ends the last process
// when the test ends.
func ServeSuccessive(t testing.TB, yaml string) *Successive {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	return ServeSuccessiveAt(t, addr, "listen: "+addr+"\n"+yaml)
}

// EmulatingSuccessive is like ServeSuccessive for the first of n keyways that say that they are a
// cluster. The others do not run.
func EmulatingSuccessive(t testing.TB, yaml string) *Successive {
	t.Helper()
	yaml = emulations(t, 1)[0] + yaml
	line, _, _ := strings.Cut(yaml, "\n")
	return ServeSuccessiveAt(t, strings.TrimPrefix(line, "listen: "), yaml)
}

// ServeSuccessiveAt is like ServeSuccessive for a configuration that says where keyway listens. Addr is
// one of these addresses.
func ServeSuccessiveAt(t testing.TB, addr, yaml string) *Successive {
	t.Helper()
	dir := t.TempDir()
	s := &Successive{
		t: t, Addr: addr, Binary: filepath.Join(dir, "keyway"),
		log: filepath.Join(dir, "log"), ended: make(chan struct{}), admin: fmt.Sprintf("127.0.0.1:%d", FreePort(t)),
	}
	CopyProgram(t, Build(t), s.Binary)
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.File = WriteFile(t, "keyway.yml", "admin: "+s.admin+"\n"+yaml)
	cmd := exec.Command(s.Binary, "serve", "-c", s.File)
	cmd.Stdout, cmd.Stderr = log, log // a file, because the next processes write to it too
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid, s.first = cmd.Process.Pid, cmd.Process
	go func() {
		_ = cmd.Wait() // how it ends is in the log
		close(s.ended)
	}()
	t.Cleanup(s.kill)
	Eventually(t, 20*time.Second, "keyway answers", func() bool { return Ask(s.Addr, "EXISTS", "nothing").Kind == ':' })
	return s
}

// CopyProgram puts a copy of a program at a path, also if a program that runs is there.
func CopyProgram(t testing.TB, from, to string) {
	t.Helper()
	// Another process writes it. If this one did, a process that is started meanwhile would have the copy
	// open for writing for a moment, and no program can be started while it is.
	if out, err := exec.Command("cp", from, to+".new").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

// ReplaceProgram puts a script at the path of a program.
func ReplaceProgram(t testing.TB, path, script string) {
	t.Helper()
	file := path + ".script"
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	CopyProgram(t, file, path)
}

// Upgrade replaces the process, and waits until it has ended. It returns what keyway upgrade has
// printed.
func (s *Successive) Upgrade() (printed string, err error) {
	before := s.pid
	if printed, err = s.Begin(); err == nil {
		Eventually(s.t, 60*time.Second, fmt.Sprintf("process %d ends", before), func() bool { return hasEnded(before) })
	}
	return printed, err
}

// Begin is like Upgrade, and returns when the next process serves.
func (s *Successive) Begin() (printed string, err error) {
	printed, err = s.Run("upgrade")
	if err != nil {
		return printed, err
	}
	f := strings.Fields(printed)
	if len(f) < 2 {
		return printed, fmt.Errorf("not understood: %s", printed)
	}
	s.pid, err = strconv.Atoi(f[1])
	return printed, err
}

// Run runs a command of keyway that takes the admin address, and returns what it prints.
func (s *Successive) Run(command string) (printed string, err error) {
	out, err := exec.Command(Build(s.t), command, "--admin", s.admin).CombinedOutput()
	return string(out), err
}

// PID returns the id of the process that serves.
func (s *Successive) PID() int { return s.pid }

// SetPID makes another process the one that serves.
func (s *Successive) SetPID(pid int) { s.pid = pid }

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
	log := s.Log()
	for _, fault := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
		if strings.Contains(log, fault) {
			s.t.Errorf("a process has logged %q", fault)
		}
	}
	if s.t.Failed() {
		s.t.Log(log)
	}
	_ = syscall.Kill(-s.first.Pid, syscall.SIGKILL) // all of them, also those that the test has lost sight of
	<-s.ended
	Eventually(s.t, 20*time.Second, "keyway ends", func() bool { return hasEnded(s.pid) })
}
