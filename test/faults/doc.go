// Package faults attacks keyway as the reliability requirements plan it
// (tests F, D, P, N, M): hostile bytes, late and broken replies, nodes that
// die, freeze, move and lie, clients that take and do not give. What every
// test must find at its end is in load_test.go.
package faults
