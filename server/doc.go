// Package server is the shell round the core: it listens, binds sockets to the
// sessions and connections of proxy's workers, turns the configuration into
// tables, keeps the time, and stops in good order.
//
// Each thread has a loop and a worker and shares with the others nothing but
// immutable tables and the loops' mailboxes. Everything here that runs in a
// loop must never block.
package server
