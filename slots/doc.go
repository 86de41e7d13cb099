// Package slots owns the hash slot: which of the 16384 slots a key belongs to
// (Redis Cluster specification, "Key distribution model" and "Hash tags"), and
// the immutable map of who owns which slot. It words what is found out of servers
// that move, the Map of a cluster and the Shard of sentinels, and what a Follower of
// either does; the finding out is the business of slots/topology.
package slots
