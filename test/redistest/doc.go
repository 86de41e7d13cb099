// Package redistest starts real redis-server processes, clusters and keyways for tests. They
// listen on free ports of 127.0.0.1, and stop when the test ends.
package redistest
