// Package blocking owns the commands that block, such as BLPOP, and WAIT. Each has a
// connection of its own while it lasts.
package blocking
