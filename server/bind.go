package server

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// BindRemedy returns what an operator can do about err, an error of listening on an
// address.
func BindRemedy(err error) string {
	var dns *net.DNSError
	switch {
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

// errInUse is the error of a socket file on which another process accepts connections.
var errInUse = errors.New("another process listens there")
