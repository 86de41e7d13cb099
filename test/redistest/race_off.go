//go:build !race

package redistest

// Race is true if the tests run under the race detector, which is about ten times slower.
const Race = false
