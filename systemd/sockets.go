package systemd

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Socket is a socket that systemd has opened for this process; see sd_listen_fds(3).
type Socket struct {
	Name string // FileDescriptorName of the .socket unit, by default the unit's name
	File *os.File
}

// firstSocket is the descriptor of the first socket.
const firstSocket = 3

// Sockets returns the sockets that systemd has passed to the process with that ID. env is as
// os.LookupEnv. Call it once.
func Sockets(env func(string) (string, bool), pid int) (passed []Socket) {
	if of, _ := env("LISTEN_PID"); of != strconv.Itoa(pid) {
		return nil
	}
	text, _ := env("LISTEN_FDS")
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil
	}
	list, _ := env("LISTEN_FDNAMES")
	names := strings.Split(list, ":")
	for i := range n {
		fd, name := firstSocket+i, "unknown" // as sd_listen_fds_with_names(3)
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		unix.CloseOnExec(fd)
		passed = append(passed, Socket{Name: name, File: os.NewFile(uintptr(fd), name)})
	}
	return passed
}

// PassedSockets is Sockets for this process. It also removes what it has read from the
// environment, so that processes that keyway starts do not take the sockets for theirs.
func PassedSockets() []Socket {
	passed := Sockets(os.LookupEnv, os.Getpid())
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // fails for invalid names only
	}
	return passed
}
