package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/config"
)

// listen opens the listening sockets. If there are several threads, each has its own
// socket on every TCP address (SO_REUSEPORT), so that the kernel spreads the clients.
func (s *Server) listen() error {
	s.isNew = len(s.o.Inherited) == 0
	added, err := s.openAdded(s.cfg.Load())
	if err != nil {
		return err
	}
	waits := s.o.Inherited != nil
	for _, t := range s.threads {
		t.loop.Post(func() {
			for _, l := range added {
				t.listen(l)
			}
			if waits {
				rest(t, true)
				t.inherited.waits = true
			}
		})
	}
	s.listeners = added
	return nil
}

// listenOn opens one socket that all threads share, or one for each thread. removed are
// listeners that are about to be closed.
func (s *Server) listenOn(addr string, removed []net.Listener) ([]net.Listener, error) {
	if inherited := s.o.Inherited[addr]; len(inherited) > 0 {
		delete(s.o.Inherited, addr)
		return inherited, nil
	}
	if name, ok := strings.CutPrefix(addr, config.Activated); ok {
		return listenPassed(s.o.Passed, name)
	}
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
	sockets, err := listenForEach(s, addr, removed)
	for try := 0; try < 10 && errors.Is(err, syscall.EADDRINUSE) && strings.HasSuffix(addr, ":0"); try++ {
		// Another process has got the free port in between.
		for _, ln := range sockets {
			ln.Close()
		}
		sockets, err = listenForEach(s, addr, removed)
	}
	return sockets, err
}

// listenForEach opens a socket for each thread.
func listenForEach(s *Server, addr string, removed []net.Listener) ([]net.Listener, error) {
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
	sockets, isOwn := l.sockets, false
	if len(l.sockets) > 1 && !l.passed {
		sockets, isOwn = l.sockets[t.index:t.index+1], true
	}
	for _, ln := range sockets {
		switch {
		case t.srv.o.Streams && (isOwn || t.index == 0):
			go t.srv.acceptStreams(t, l, ln)
		case t.srv.o.Streams:
		default:
			if err := t.accept(l, ln); err != nil {
				return err
			}
		}
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

// swapListeners replaces the server's listeners, and returns those that it had.
func swapListeners(s *Server, by []*listener) (before []*listener) {
	s.listening.Lock()
	defer s.listening.Unlock()
	before, s.listeners = s.listeners, by
	return before
}

// leaveFile keeps the files of Unix sockets when the listener is closed: they belong to another process.
func (l *listener) leaveFile() { l.unlinks(false) }

// ownFile makes the listener remove the files of Unix sockets when it is closed.
func (l *listener) ownFile() { l.unlinks(!l.passed) }

func (l *listener) unlinks(when bool) {
	for _, ln := range l.sockets {
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(when)
		}
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
// topology, metrics and logs, each thread's own with its pipe, and each thread's shared connections and
// feeds to each node, in RESP2 and RESP3. Exclusive connections are not reserved: keyway
// refuses them when there is no room.
func (s *Server) reservedFiles(nodes int) int64 {
	cfg := s.cfg.Load()
	thread := 4 + 2*len(cfg.Listen) + max(nodes, 16)*(2*cfg.Backend.Connections+2)
	return int64(32 + len(s.host.loops)*thread)
}

// Passed is a listening socket that the process was started with. It stays open when keyway
// stops: whoever has opened it keeps the clients that wait there for the next keyway.
type Passed struct {
	Name string
	File *os.File
}

// errNotPassed is the error of a listener whose socket the process was not started with.
var errNotPassed = errors.New("keyway was started without such a socket")

var errNotListening = errors.New("it is no listening socket")

// listenPassed returns listeners on the passed sockets with this name.
func listenPassed(all []Passed, name string) (sockets []net.Listener, err error) {
	var others []string
	for _, p := range all {
		if p.Name != name {
			others = append(others, p.Name)
			continue
		}
		ln, err := listenerOf(p.File)
		if err != nil {
			return sockets, err
		}
		sockets = append(sockets, ln)
	}
	switch {
	case len(sockets) > 0:
		return sockets, nil
	case len(others) > 0:
		return nil, fmt.Errorf("%w, and with %s", errNotPassed, strings.Join(others, ", "))
	}
	return nil, errNotPassed
}

// listenerOf returns a listener on a duplicate of the file.
func listenerOf(file *os.File) (net.Listener, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	isListening := 0
	ctlErr := raw.Control(func(n uintptr) {
		isListening, err = unix.GetsockoptInt(int(n), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	})
	if err = errors.Join(ctlErr, err); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotListening, err)
	}
	if isListening == 0 {
		return nil, errNotListening
	}
	return net.FileListener(file)
}
