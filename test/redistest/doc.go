// Package redistest starts real redis-server processes, clusters of them, and
// keyways in front, for tests, on free ports of 127.0.0.1, and stops them when
// the test ends.
package redistest
