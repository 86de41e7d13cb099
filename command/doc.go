// Package command owns what is known about the Redis commands: their arity and flags, the
// positions of their keys, and whether and how keyway carries them. It also splits commands over many
// keys and merges the replies.
//
// The table is generated from the COMMAND replies of real servers (see gen). Newer commands
// are added there from the documentation, with the source. A command that the table does
// not have can be learned from a node's COMMAND INFO reply ([Learn]).
//
// All functions are pure functions of frames. The table is read-only after
// initialisation.
package command

//go:generate go run ./gen -o table_gen.go
