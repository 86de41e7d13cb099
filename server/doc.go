// Package server owns the I/O for package proxy: the sockets of clients and nodes, the
// threads and the time. It also stops them in order, so that commands under way finish.
//
// Each thread has a loop and a worker. Threads share only immutable tables, atomic
// counters and the loops' mailboxes. Code that runs in a loop must never block.
package server
