package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Listener is a socket that Passing passes on.
type Listener interface {
	File() (*os.File, error)
	syscall.Conn
}

// Passing runs keyway with the listeners' sockets, as systemd does, and kills it when the test
// ends. names are what systemd calls the sockets, with colons between them.
func Passing(t testing.TB, yaml, names string, listeners ...Listener) *Process {
	t.Helper()
	script := fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec %s serve -c %s",
		len(listeners), names, Build(t), WriteFile(t, "keyway.yml", yaml))
	cmd := exec.Command("sh", "-c", script)
	for _, l := range listeners {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	p := &Process{t: t, args: cmd.Args, Cmd: cmd}
	p.start()
	for _, l := range listeners { // os/exec makes sockets block, also for those who have them already
		raw, err := l.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(n uintptr) { err = unix.SetNonblock(int(n), true) })
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(p.Kill)
	return p
}
