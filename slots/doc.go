// Package slots owns the hash slot: which of the 16384 slots a key belongs to (Redis
// Cluster specification, "Key distribution model" and "Hash tags"), and the immutable map
// of each slot's owner. Package topology asks a cluster for its map.
package slots
