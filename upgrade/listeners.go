package upgrade

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// SendListeners sends the listening sockets of one address of a pool, under a name. Nothing may close
// them meanwhile.
func (c *Conn) SendListeners(pool, name string, sockets ...net.Listener) error {
	var descriptors []int
	for _, ln := range sockets {
		raw, err := ln.(syscall.Conn).SyscallConn()
		if err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
		if err := raw.Control(func(fd uintptr) { descriptors = append(descriptors, int(fd)) }); err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
	}
	return c.Send(Message{Kind: Listener, Pool: pool, Name: name}, descriptors...)
}

// ListenersOf returns the listeners of descriptors that a process has sent.
func ListenersOf(name string, descriptors []int) (sockets []net.Listener, err error) {
	for i, fd := range descriptors {
		f := os.NewFile(uintptr(fd), name)
		ln, err := net.FileListener(f)
		f.Close() // net.FileListener has made a copy
		if err != nil {
			CloseAll(descriptors[i+1:])
			return sockets, fmt.Errorf("taking over %s: %w", name, err)
		}
		sockets = append(sockets, ln)
	}
	return sockets, nil
}
