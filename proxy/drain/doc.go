// Package drain is the part of a worker that closes its clients when keyway stops: between two
// commands, and spread over a time.
package drain
