// Package locks owns what is known about clients' locks: which commands and scripts of which
// library acquire, renew and release a lock, and who holds which lock at present.
//
// It sees only what passes. A [Watcher] recognizes the commands of one thread and their
// replies and makes events of them. A [Table] keeps the locks that the events tell of. Times
// are in nanoseconds, from an origin that all threads of a process share.
package locks
