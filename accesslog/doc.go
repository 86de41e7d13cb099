// Package accesslog writes a line for each journey of a command that is to have one. It holds up no thread: what
// cannot be written is counted and dropped.
package accesslog
