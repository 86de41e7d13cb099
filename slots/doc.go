// Package slots owns the hash slot: which of the 16384 slots a key belongs to
// (Redis Cluster specification, "Key distribution model" and "Hash tags"), and
// the immutable map of who owns which slot.
//
// How the map is found out and followed is the business of slots/topology.
package slots
