// Package loop owns the event loop of one thread: readiness of sockets, the
// time to wake at, and a mailbox through which other goroutines have their say.
// It knows nothing of Redis.
//
// A turn is: wait; tell every ready socket's handler; run what was posted; end
// the turn, where the owner writes what is due. On Linux readiness comes from
// epoll; elsewhere the loop has a mailbox only, and sockets are served by
// goroutines that post to it.
package loop
