//go:build !linux

package server

import (
	"errors"
	"net"
	"net/netip"

	"github.com/keyway-proxy/keyway/loop"
)

// Without epoll every connection is a stream, so these functions are never called.

type acceptor struct{ paused int64 }

func (a *acceptor) tick(int64) {}
func (a *acceptor) close()     {}

var errNoEpoll = errors.New("this system has no epoll")

func (t *thread) detach(*listener) {} // a stream's goroutine ends when its socket is closed

func (t *thread) accept(*listener, net.Listener) error { return errNoEpoll }

func (t *thread) connect(loop.Handler, netip.AddrPort) (socket, error) { return nil, errNoEpoll }

func connected(socket) error { return nil }

func rest(*thread, bool) {}

func adopt(*loop.Loop, int, loop.Handler) (socket, error) { return nil, errNoEpoll }

func descriptorOf(socket) (int, bool) { return -1, false }

// refuseHandshakes does nothing here; see fd_linux.go.
func refuseHandshakes(net.Listener) {}
