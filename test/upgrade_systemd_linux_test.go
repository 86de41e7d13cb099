package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// senders makes a socket as systemd's, at the path that it returns. next returns the next message, and
// the process that has sent it, as systemd looks at it (NotifyAccess=main).
func senders(t *testing.T) (path string, next func() (pid int, text string)) {
	t.Helper()
	socket := notifySocket(t)
	raw, err := socket.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return socket.LocalAddr().String(), func() (pid int, text string) {
		t.Helper()
		b, about := make([]byte, 4096), make([]byte, 512)
		_ = socket.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, more, _, _, err := socket.ReadMsgUnix(b, about)
		if err != nil {
			t.Fatalf("systemd hears nothing: %v", err)
		}
		messages, err := unix.ParseSocketControlMessage(about[:more])
		if err != nil || len(messages) == 0 {
			t.Fatalf("the sender of %q is not known: %v", b[:n], err)
		}
		from, err := unix.ParseUnixCredentials(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		return int(from.Pid), string(b[:n])
	}
}

// service is a keyway that systemd watches.
type service struct {
	*redistest.Process
	t       *testing.T
	program string
	file    string
	next    func() (pid int, text string)
}

// serveUnderSystemd starts a keyway that has to say ten times a second that it is alive.
func serveUnderSystemd(t *testing.T, text string) *service {
	t.Helper()
	path, next := senders(t)
	s := &service{t: t, program: filepath.Join(t.TempDir(), "keyway"), next: next}
	redistest.CopyProgram(t, redistest.Build(t), s.program)
	s.file = redistest.WriteFile(t, "keyway.yml", text)
	s.Process = redistest.StartCommand(t, "env", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=200000",
		s.program, "serve", "-c", s.file)
	return s
}

// hears checks what systemd hears next, and from which process.
func (s *service) hears(from int, want string) {
	s.t.Helper()
	if pid, got := s.next(); pid != from || got != want {
		s.t.Fatalf("process %d says %q, want process %d and %q", pid, got, from, want)
	}
}

// upgrade tells the process to upgrade, and waits until it has logged a text.
func (s *service) upgrade(log string) {
	s.t.Helper()
	if err := s.Cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		s.t.Fatal(err)
	}
	redistest.Eventually(s.t, 20*time.Second, log, func() bool { return strings.Contains(s.Stderr.String(), log) })
}

// TestUpgradeUnderSystemd: systemd hears of one process at a time that it is alive: of the old one until
// all clients have gone over, and then of the new one, which the old one makes the main process. An
// upgrade that fails changes nothing.
func TestUpgradeUnderSystemd(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	other := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	const alive = "WATCHDOG=1\n"
	text := "shutdown: {drain: 0s}\n" + redistest.Ring(redistest.Start(t).Addr)
	s := serveUnderSystemd(t, "listen: "+addr+"\n"+text)
	first := s.Cmd.Process.Pid
	s.hears(first, "READY=1\nSTATUS=serving ring on "+addr+"\n")
	s.hears(first, alive)
	redistest.ReplaceProgram(t, s.program, "#!/bin/sh\nexit 1\n")
	s.upgrade("not upgraded; this process goes on")
	redistest.CopyProgram(t, redistest.Build(t), s.program)

	c := redistest.Dial(t, addr)
	c.Expect("OK", "MULTI") // it stays in the old process until EXEC
	if err := os.WriteFile(s.file, []byte("listen: ["+addr+", "+other+"]\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.upgrade("the new process serves")
	second, _ := strconv.Atoi(successor.FindStringSubmatch(s.Stderr.String())[1])
	t.Cleanup(func() { _ = syscall.Kill(second, syscall.SIGKILL) }) // it may have ended
	for range 10 {
		s.hears(first, alive)
	}
	c.Expect("QUEUED", "SET", "k", "v")
	c.Expect("[OK]", "EXEC")
	pid, said := s.next()
	for said == alive && pid == first {
		pid, said = s.next()
	}
	if pid != first || said != fmt.Sprintf("MAINPID=%d\nWATCHDOG=1\n", second) {
		t.Fatalf("process %d says %q", pid, said)
	}
	s.hears(second, "READY=1\nSTATUS=serving ring on "+addr+", "+other+"\n")
	for range 10 {
		s.hears(second, alive)
	}
	c.Expect("v", "GET", "k")
	_ = syscall.Kill(second, syscall.SIGTERM)
	for pid, said = s.next(); said == alive; {
		pid, said = s.next()
	}
	if pid != second || !strings.HasPrefix(said, "STOPPING=1\n") {
		t.Errorf("process %d says %q", pid, said)
	}
}
