//go:build race

package redistest

// Race tells that the tests run under the race detector, some ten times slower.
const Race = true
