package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// BindRemedy returns what an operator can do about err, an error of listening on an
// address.
func BindRemedy(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, errNotPassed):
		return "start keyway by a .socket unit of systemd with this FileDescriptorName, or listen on an address"
	case errors.Is(err, errNotListening):
		return "write ListenStream= and no Accept=yes into the .socket unit"
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, errInUse):
		return "end what uses the address, or listen elsewhere"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "write an address that this machine has, or 0.0.0.0 for all of them"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "write a port from 1024 or a directory that keyway may write to, or give keyway the right"
	case errors.Is(err, syscall.ENOENT):
		return "make the directory"
	case errors.As(err, &dns):
		return "write an IP address, or a name that resolves"
	}
	return "listen elsewhere"
}

// network returns the network to listen in on an address. On an IPv4 address, such as
// 0.0.0.0, keyway accepts no IPv6 connections, as Redis does not.
func network(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// Listen listens on a TCP address, for clients or for operators.
func Listen(addr string) (net.Listener, error) { return net.Listen(network(addr), addr) }

// ListenBeside is like Listen. But it succeeds if nothing but listeners that are about to be
// closed is in the way: those of the same port, one of them on all of the machine's addresses.
// Until they are closed, the kernel gives each client to the listener on the more specific
// address, so no client is refused.
func ListenBeside(addr string, removed []net.Listener) (net.Listener, error) {
	ln, err := Listen(addr)
	if err != nil && makeWay(err, addr, removed) {
		if shared, sharedErr := listenShared(addr); sharedErr == nil {
			return shared, nil
		}
	}
	return ln, err
}

// makeWay lets others share the port of the removed listeners that are in the way of an
// address. err is the error of listening on it. makeWay returns false if none is in the way.
func makeWay(err error, addr string, removed []net.Listener) (ok bool) {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return false
	}
	for _, l := range removed {
		if samePort(l, addr) {
			if share(l.(*net.TCPListener)) != nil {
				return false
			}
			ok = true
		}
	}
	return ok
}

// samePort reports whether a listener has the port of the address.
func samePort(l net.Listener, addr string) bool {
	at, ok := l.Addr().(*net.TCPAddr)
	_, port, err := net.SplitHostPort(addr)
	return ok && err == nil && port == strconv.Itoa(at.Port)
}

// listenShared listens on an address that other sockets of this process share with this one.
func listenShared(addr string) (net.Listener, error) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return setShared(c) }}
	return shared.Listen(context.Background(), network(addr), addr)
}

// share lets other sockets of this user listen on the listener's port.
func share(l *net.TCPListener) error {
	c, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return setShared(c)
}

func setShared(c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(n uintptr) { err = unix.SetsockoptInt(int(n), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(ctl, err)
}

// errInUse is the error of a socket file on which another process accepts connections.
var errInUse = errors.New("another process listens there")
