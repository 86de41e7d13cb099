package loop

import "errors"

var (
	// ErrAgain says that a socket has nothing to read now.
	ErrAgain = errors.New("nothing has arrived")
	// ErrRefused says that bytes cannot be moved in the kernel here.
	ErrRefused = errors.New("the system does not move bytes between these sockets")
)
