// Package dryrun owns the question which commands a next layout would refuse. A worker asks
// it about each command whose keys the present layout keeps together. It places the keys by
// the next layout, and counts the commands whose keys would live apart there, so that the
// client would get CROSSSLOT.
package dryrun
