package server

import "errors"

// socket is one way of carrying bytes to and from the loop: a descriptor that
// epoll watches, or a goroutine pair. None of its methods blocks.
type socket interface {
	// Read returns what has arrived, errAgain when that is nothing, io.EOF
	// at the end.
	Read(b []byte) (int, error)
	// Write takes what it can, errAgain when that is nothing.
	Write(b []byte) (int, error)
	// Watch says what the owner wants to be told of.
	Watch(read, write bool)
	Close()
}

var errAgain = errors.New("not now")
