// Package faults attacks keyway: with hostile bytes, late and broken replies, nodes that
// die, freeze, move and lie, and clients that send but do not read. load_test.go has the
// checks that every test makes at its end.
package faults
