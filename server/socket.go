package server

import "errors"

// socket moves bytes between the loop and a peer. It is either a descriptor that epoll
// watches (fd) or a pair of goroutines (stream). Its methods do not block.
type socket interface {
	// Read reads received bytes. It returns errAgain if there are none, and io.EOF at the
	// end.
	Read(b []byte) (int, error)
	// Write writes as many bytes as possible without blocking. It returns errAgain if
	// that is none.
	Write(b []byte) (int, error)
	// Watch selects the events for which the handler's Ready is called.
	Watch(read, write bool)
	Close()
}

var errAgain = errors.New("not now")
