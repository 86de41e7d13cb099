package server

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/proxy"
)

// fd is a non-blocking socket in the loop's epoll.
type fd struct {
	loop        *loop.Loop
	n           int32 // as in the kernel: with int, it would be of a larger size class
	read, write bool  // the events that epoll watches
	corked      bool
}

func newFD(l *loop.Loop, n int, h loop.Handler, read, write bool) (*fd, error) {
	f := &fd{loop: l, n: int32(n), read: read, write: write}
	if err := l.Add(n, h, read, write); err != nil {
		unix.Close(n)
		return nil, err
	}
	return f, nil
}

// Read and Write are raw system calls: the descriptor never blocks, so the Go scheduler
// does not have to know. Write suppresses SIGPIPE, which the runtime would otherwise
// handle each time a peer has gone.
func (f *fd) Read(b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(f.n), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
	switch {
	case errno == 0 && n == 0:
		return 0, io.EOF
	case errno == 0:
		return int(n), nil
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return 0, errAgain
	}
	return 0, errno
}

func (f *fd) Write(b []byte) (int, error) {
	flags := uintptr(unix.MSG_NOSIGNAL)
	if f.corked {
		flags |= unix.MSG_MORE
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(f.n), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), flags, 0, 0)
	switch {
	case errno == 0:
		return int(n), nil
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return 0, errAgain
	}
	return 0, errno
}

func (f *fd) Watch(read, write bool) {
	if f.read == read && f.write == write {
		return
	}
	// Modify fails only for a descriptor that epoll does not watch.
	if f.loop.Modify(int(f.n), read, write) == nil {
		f.read, f.write = read, write
	}
}

func (f *fd) Cork()   { f.corked = true }
func (f *fd) Uncork() { f.corked = false }

func (f *fd) Close() { f.loop.Close(int(f.n)) }

// Handle makes h the handler of the socket's events.
func (f *fd) Handle(h loop.Handler) { f.loop.Handle(int(f.n), h) }

// CloseWrite tells the peer that nothing more will follow.
func (f *fd) CloseWrite() { _ = unix.Shutdown(int(f.n), unix.SHUT_WR) } // an error means that the peer has gone

// acceptor accepts clients for one thread.
type acceptor struct {
	t      *thread
	fd     *fd
	ln     net.Listener
	local  string // the address of ln, which all its clients share
	of     *listener
	paused int64 // time at which accepting resumes after it ran out of descriptors or memory; 0: not paused
	pause  int64 // length of the last pause; it doubles
}

// accept makes the thread's loop accept clients from ln, a socket of the listener.
func (t *thread) accept(of *listener, ln net.Listener) error {
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return fmt.Errorf("listening on %s: %w", ln.Addr(), err)
	}
	dup := -1
	if ctlErr := raw.Control(func(n uintptr) { dup, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); ctlErr != nil {
		return fmt.Errorf("listening on %s: %w", ln.Addr(), ctlErr)
	}
	if err != nil {
		return fmt.Errorf("listening on %s: %w", ln.Addr(), err)
	}
	a := &acceptor{t: t, ln: ln, local: ln.Addr().String(), of: of}
	if a.fd, err = newFD(t.loop, dup, a, true, false); err != nil {
		return err
	}
	t.acceptors = append(t.acceptors, a)
	return nil
}

const (
	acceptRestMin = int64(10 * time.Millisecond)
	acceptRestMax = int64(time.Second)
	acceptBatch   = 64
)

// Ready accepts waiting clients, at most one batch of them.
func (a *acceptor) Ready(bool, bool) { a.accept() }

// accept accepts waiting clients, and reports whether more may wait.
func (a *acceptor) accept() (more bool) {
	for range acceptBatch {
		n, sa, err := unix.Accept4(int(a.fd.n), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			a.pause = 0
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS),
			errors.Is(err, unix.ENOMEM):
			// The socket stays readable, so trying again at once would spin.
			a.pause = min(max(2*a.pause, acceptRestMin), acceptRestMax)
			a.paused = a.t.now + a.pause
			a.fd.Watch(false, false)
			a.t.srv.log.Warn("cannot accept clients for now",
				"error", err, "pause_ms", time.Duration(a.pause).Milliseconds())
			return false
		default:
			continue // the client has already disconnected
		}
		a.serve(n, sa)
	}
	return true
}

// serve admits an accepted socket, or closes it.
func (a *acceptor) serve(n int, sa unix.Sockaddr) {
	peer, balancers, cfg := addrOf(sa), a.of.balancers.Load(), a.of.tls.Load()
	if !mayConnect(a.t, balancers, peer) {
		unix.Close(n)
		return
	}
	if peer.IsValid() {
		_ = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		keepAlive(n, 300, 100) // as Redis does (tcp-keepalive)
	}
	from := originOf(peer, netip.AddrPort{}, a.local)
	t := withFewest(a.t)
	if !t.admit() {
		if reply := a.t.worker.Reject(); cfg == nil { // a client that speaks TLS could not read it
			_, _ = unix.Write(n, reply)
		}
		a.t.srv.reports.refused(proxy.Refusal{Reason: "clients.max is reached", Client: from.peer})
		unix.Close(n)
		return
	}
	begin := func() {
		f, err := newFD(t.loop, n, nil, true, false) // await or enter sets the handler
		switch {
		case err != nil:
			t.dismiss()
		case balancers != nil:
			t.await(a.of, f, peer, a.local)
		default:
			t.enter(cfg, f, from, nil)
		}
	}
	if t == a.t {
		begin()
		return
	}
	t.loop.Post(begin)
}

// tick resumes accepting after a pause.
func (a *acceptor) tick(now int64) {
	if a.paused != 0 && now >= a.paused {
		a.paused = 0
		a.fd.Watch(true, false)
	}
}

func (a *acceptor) close() { a.fd.Close() }

// detach accepts the clients that wait at a listener, and then no more of it. Those that wait at
// a passed socket are left to others.
func (t *thread) detach(l *listener) {
	t.acceptors = slices.DeleteFunc(t.acceptors, func(a *acceptor) bool {
		ours := slices.Contains(l.sockets, a.ln)
		if ours {
			for !l.passed && a.accept() {
			}
			a.close()
		}
		return ours
	})
}

// refuseHandshakes makes the kernel drop the first packet of each connection to a listener
// (SYN), which the client then sends again. Otherwise a connection that arrives between the
// last accept and the close would be reset, though another listener may have the address.
func refuseHandshakes(ln net.Listener) {
	const (
		flags = 13 // the offset in the TCP header
		syn   = 0x02
	)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: syn, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32}, // keep the packet
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(n uintptr) { // without the filter, little can be lost
		_ = unix.SetsockoptSockFprog(int(n), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// rest stops accepting clients, which wait in the kernel meanwhile, or goes on.
func rest(t *thread, begin bool) {
	for _, a := range t.acceptors {
		a.paused = 0
		a.fd.Watch(!begin, false)
	}
}

// adopt watches a socket of another process.
func adopt(l *loop.Loop, descriptor int, h loop.Handler) (socket, error) {
	return newFD(l, descriptor, h, false, false)
}

// descriptorOf returns the descriptor of a socket that does not encrypt. It returns false for any
// other.
func descriptorOf(s socket) (descriptor int, ok bool) {
	f, ok := s.(*fd)
	if !ok {
		return -1, false
	}
	return int(f.n), true
}

// addrOf returns the address of a socket's peer, not valid for a socket file.
func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// connect starts a connection to an IP address. h.Ready is called when the socket is
// writable.
func (t *thread) connect(h loop.Handler, addr netip.AddrPort) (socket, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: [4]byte(pad4(addr.Addr()))}
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		family = unix.AF_INET6
		sa6 := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
		if zone := addr.Addr().Zone(); zone != "" {
			if ifi, err := net.InterfaceByName(zone); err == nil {
				sa6.ZoneId = uint32(ifi.Index)
			} else if n, err := strconv.Atoi(zone); err == nil {
				sa6.ZoneId = uint32(n)
			}
		}
		sa = sa6
	}
	n, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	_ = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	keepAlive(n, 30, 10) // a blocked client may wait on it without a timeout
	if err := unix.Connect(n, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(n)
		return nil, err
	}
	return newFD(t.loop, n, h, false, true)
}

// keepAlive turns on TCP keepalive: after idle seconds of silence the kernel sends up to
// three probes, interval seconds apart.
func keepAlive(n, idle, interval int) {
	_ = unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle)
	_ = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval)
	_ = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
}

func pad4(a netip.Addr) []byte {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return b[:]
	}
	return make([]byte, 4)
}

// connected returns the error of the attempt to connect, or nil if it has succeeded.
func connected(s socket) error {
	f, ok := s.(*fd)
	if !ok {
		return nil
	}
	errno, err := unix.GetsockoptInt(int(f.n), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}
