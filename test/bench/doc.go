// Package bench owns the comparison of keyway with twemproxy: the processor time that each
// takes for a request. make bench runs it.
package bench
