// Package server does the I/O for package proxy. It listens, connects sockets to the
// sessions and connections of the workers, supplies the time, and shuts down
// gracefully.
//
// Each thread has a loop and a worker. Threads share only immutable tables, atomic
// counters and the loops' mailboxes. Code that runs in a loop must never block.
package server
