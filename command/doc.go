// Package command owns what a Redis command is: its arity and flags, where its
// keys are, whether keyway carries it and how, how a command over many keys is
// split and how the replies of the parts are merged.
//
// The table is generated from a real server's COMMAND reply (see gen); what the
// server is too old to know is added there from the documentation, with its
// source. A command that the table lacks can be learned from a node's own
// COMMAND INFO reply ([Learn]).
//
// Everything here is a pure function of frames; the table is read-only after
// initialisation.
package command

//go:generate go run ./gen -o table_gen.go
