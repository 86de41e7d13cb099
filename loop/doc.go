// Package loop owns the event loop of one thread: readiness of sockets, the time of the
// next wake-up, and a mailbox for other goroutines. It knows nothing of Redis.
//
// A turn is: wait; call the handler of every ready socket; call the posted functions; end
// the turn, when the owner writes. On Linux readiness comes from epoll. Elsewhere the loop
// has only its mailbox, and goroutines that serve the sockets post to it.
//
// A Pipe moves bytes between two sockets without copying them into the process.
package loop
