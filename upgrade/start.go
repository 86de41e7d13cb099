package upgrade

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// variable tells a process that it replaces another, and the descriptor of the conversation.
const variable = "KEYWAY_UPGRADE_FD"

// notInherited are the variables of the environment that are for the old process alone: systemd
// names the process that it watches, and the sockets that it has opened for it.
var notInherited = []string{variable, "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// Successor is the process that replaces this one.
type Successor struct {
	*Conn
	// Ended is closed when the process has ended. Then Err says why.
	Ended chan struct{}
	Err   error
	pid   int
	kill  func() error
}

// Start starts a program in this process's place, with the same output and environment, and more
// variables.
func Start(program string, args, variables []string) (*Successor, error) {
	if os.Getpid() == 1 {
		return nil, errors.New("this is process 1, and with it the container ends; start a new container instead")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for the new process: %w", err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
	}
	theirs := os.NewFile(uintptr(pair[1]), "upgrade")
	defer theirs.Close()
	conn, err := newConn(os.NewFile(uintptr(pair[0]), "upgrade"))
	if err != nil {
		return nil, err
	}
	const descriptor = 3 // the first of ExtraFiles
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{theirs}
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(notInherited, name)
	}), variable+"="+strconv.Itoa(descriptor))
	cmd.Env = append(cmd.Env, variables...)
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	s := &Successor{Conn: conn, Ended: make(chan struct{}), pid: cmd.Process.Pid, kill: cmd.Process.Kill}
	go func() {
		s.Err = cmd.Wait()
		close(s.Ended)
	}()
	return s, nil
}

// PID returns the id of the process.
func (s *Successor) PID() int { return s.pid }

// Kill ends the process.
func (s *Successor) Kill() {
	_ = s.kill() // it may have ended by itself
	<-s.Ended
}

// Predecessor returns the conversation with the process that this one replaces, or nil if it
// replaces none.
func Predecessor() (*Conn, error) {
	text := os.Getenv(variable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(variable) // a later successor has its own
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 0 {
		return nil, fmt.Errorf("%s=%s: not a descriptor", variable, text)
	}
	unix.CloseOnExec(fd)
	return newConn(os.NewFile(uintptr(fd), "upgrade"))
}
