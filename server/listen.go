package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// listen opens the listening sockets. If there are several threads, each has its own
// socket on every TCP address (SO_REUSEPORT), so that the kernel spreads the clients.
func (s *Server) listen() error {
	added, err := s.openAdded(s.cfg.Load())
	if err != nil {
		return err
	}
	for _, t := range s.threads {
		t.loop.Post(func() {
			for _, l := range added {
				t.listen(l)
			}
		})
	}
	s.listeners = added
	return nil
}

// listenOn opens one socket that all threads share, or one for each thread. removed are
// listeners that are about to be closed.
func (s *Server) listenOn(addr string, removed []net.Listener) ([]net.Listener, error) {
	if file, ok := strings.CutPrefix(addr, "unix://"); ok {
		if err := removeStale(file); err != nil {
			return nil, err
		}
		ln, err := net.Listen("unix", file)
		if err != nil {
			return nil, err
		}
		return []net.Listener{ln}, nil
	}
	if len(s.threads) == 1 {
		ln, err := ListenBeside(addr, removed)
		if err != nil {
			return nil, err
		}
		return []net.Listener{ln}, nil
	}
	// SO_REUSEPORT would also let a second keyway process listen on the address
	// unnoticed, so check first that the address is free.
	first, err := Listen(addr)
	switch {
	case err == nil:
		addr = first.Addr().String() // with the real port if the configured one is 0
		first.Close()
	case !makeWay(err, addr, removed):
		return nil, err
	}
	var sockets []net.Listener
	for range s.threads {
		ln, err := listenShared(addr)
		if err != nil {
			return sockets, err
		}
		sockets = append(sockets, ln)
	}
	return sockets, nil
}

// listen is attach, unless the thread has begun to stop.
func (t *thread) listen(l *listener) {
	if t.draining {
		return
	}
	if err := t.attach(l); err != nil { // not expected: the socket is open already
		t.srv.log.Error("cannot accept clients", "addr", l.addr, "thread", t.index, "error", err)
	}
}

// attach makes the thread accept clients from the listener. With Options.Streams only the
// first thread accepts from a socket that all share.
func (t *thread) attach(l *listener) error {
	ln := l.sockets[0]
	if len(l.sockets) > 1 {
		ln = l.sockets[t.index]
	}
	switch {
	case !t.srv.o.Streams:
		return t.accept(l, ln)
	case len(l.sockets) > 1 || t.index == 0:
		go t.srv.acceptStreams(t, l, ln)
	}
	return nil
}

func (s *Server) closeListeners() {
	s.listening.Lock()
	defer s.listening.Unlock()
	for _, l := range s.listeners {
		l.close()
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
	most := int64(s.cfg.Load().Clients.Max)
	room, files := s.host.reserve(s, s.reservedFiles(nodes))
	if room < most {
		s.log.Warn("clients.max is more than the limit on open files allows; raise it (ulimit -n)",
			"clients_max", most, "used_instead", max(room, 1), "open_files", files)
		most = max(room, 1)
	}
	s.maxClients.Store(most)
}

// reservedFiles returns how many descriptors are reserved for other uses than clients:
// topology, metrics and logs, each thread's own, and each thread's shared connections and
// feeds to each node, in RESP2 and RESP3. Exclusive connections are not reserved: keyway
// refuses them when there is no room.
func (s *Server) reservedFiles(nodes int) int64 {
	cfg := s.cfg.Load()
	thread := 2 + 2*len(cfg.Listen) + max(nodes, 16)*(2*cfg.Backend.Connections+2)
	return int64(32 + len(s.host.loops)*thread)
}
