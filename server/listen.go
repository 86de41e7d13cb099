package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listen opens the listening sockets. If there are several threads, each has its own
// socket on every TCP address (SO_REUSEPORT), so that the kernel spreads the clients.
func (s *Server) listen() error {
	for i, addr := range s.cfg.Listen {
		path := "listen"
		if len(s.cfg.Listen) > 1 {
			path = fmt.Sprintf("listen[%d]", i)
		}
		if err := s.listenOn(addr); err != nil {
			return s.cfg.Errorf(path, BindRemedy(err), "cannot listen on %s: %v", addr, err)
		}
	}
	return nil
}

func (s *Server) listenOn(addr string) error {
	if file, ok := strings.CutPrefix(addr, "unix://"); ok {
		if err := removeStale(file); err != nil {
			return err
		}
		ln, err := net.Listen("unix", file)
		if err != nil {
			return err
		}
		return s.spread(ln)
	}
	if len(s.threads) == 1 {
		ln, err := Listen(addr)
		if err != nil {
			return err
		}
		return s.spread(ln)
	}
	// SO_REUSEPORT would also let a second keyway process listen on the address
	// unnoticed, so check first that the address is free.
	first, err := Listen(addr)
	if err != nil {
		return err
	}
	addr = first.Addr().String() // with the real port if the configured one is 0
	first.Close()
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(n uintptr) { err = unix.SetsockoptInt(int(n), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(ctl, err)
	}}
	for _, t := range s.threads {
		ln, err := shared.Listen(context.Background(), network(addr), addr)
		if err != nil {
			return err
		}
		if err := s.attach(t, ln); err != nil {
			return err
		}
	}
	return nil
}

// spread makes every thread accept from one socket. With Options.Streams only the first
// thread accepts from it.
func (s *Server) spread(ln net.Listener) error {
	for i, t := range s.threads {
		if s.o.Streams && i > 0 {
			break
		}
		if err := s.attach(t, ln); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) attach(t *thread, ln net.Listener) error {
	s.listeners = append(s.listeners, ln)
	if s.o.Streams {
		t.streams = append(t.streams, ln)
		return nil
	}
	return t.accept(ln)
}

func (s *Server) closeListeners() {
	for _, ln := range s.listeners {
		ln.Close() // a second close of a shared one is harmless
	}
}

// removeStale removes a socket file that a dead process has left. If a process still
// accepts connections on it, removeStale keeps the file and returns errInUse.
func removeStale(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket", file)
	}
	if c, err := net.DialTimeout("unix", file, time.Second); err == nil {
		c.Close()
		return errInUse
	}
	return os.Remove(file)
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// checkDescriptors computes how many clients and connections to nodes the process can
// have open. If clients.max is higher, it lowers it to that number.
func (s *Server) checkDescriptors(nodes int) {
	var lim unix.Rlimit
	if s.room = math.MaxInt64; unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return
	}
	files := int64(min(lim.Cur, 1<<30))
	s.room = files - min(s.reservedFiles(nodes), files/2)
	if s.room < int64(s.maxClients) {
		room := int(max(s.room, 1))
		s.log.Warn("clients.max is more than the limit on open files allows; raise it (ulimit -n)",
			"clients_max", s.maxClients, "used_instead", room, "open_files", lim.Cur)
		s.maxClients = room
	}
}

// reservedFiles returns how many descriptors are reserved for other uses than clients:
// topology, metrics and logs, each thread's own, and each thread's shared connections and
// feeds to each node, in RESP2 and RESP3. Exclusive connections are not reserved: keyway
// refuses them when there is no room.
func (s *Server) reservedFiles(nodes int) int64 {
	thread := 2 + 2*len(s.cfg.Listen) + max(nodes, 16)*(2*s.cfg.Backend.Connections+2)
	return int64(32 + s.cfg.Threads*thread)
}

// hasRoom reports whether descriptors are left for one more client or exclusive
// connection.
func (s *Server) hasRoom() bool { return s.clients.Load()+s.sockets.Load() <= s.room }
