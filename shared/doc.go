// Package shared owns the connections to one node that clients share: a fixed number for each mode
// that clients use, such as a database. A connection that is replaced, since a slow reply occupies it for
// example, retires: it answers its requests, and then ends.
package shared
