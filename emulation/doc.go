// Package emulation owns what an emulated cluster says about itself: its members, which are
// keyways, their IDs and slots, and the replies to CLUSTER that show them.
//
// For clients that speak only to a Redis Cluster, keyway can emulate one. Each keyway
// appears as a master; several side by side share the slots among them. Every keyway
// serves every key, so none ever redirects.
package emulation
