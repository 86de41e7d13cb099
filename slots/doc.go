// Package slots owns the hash slot: which of the 16384 slots a key belongs to (Redis
// Cluster specification, "Key distribution model" and "Hash tags"), and the immutable map
// of each slot's owner. It also has the types that describe servers which move: the Map of
// a cluster, the Shard of sentinels, and the Follower of either. Package topology asks the
// servers.
package slots
