// Package observe is the part of a worker that watches clients' locks: KEYWAY LOCKS, metrics
// and alarms. What is known about locks is in package locks.
package observe
