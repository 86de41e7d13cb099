// Package move moves keys between nodes so that none is lost, doubled or revived. It owns
// the guarded copy: the order of commands that copies a key to another node and removes it
// from the first. Any number of processes may move the same keys at once. A process may be
// killed or frozen between any two commands: then a key is on one node, or on both with the
// same value, and the next one to move it completes the move.
//
// The guarded copy of some keys from node S to node D, each step after the replies to the
// one before:
//
//	D: WATCH and EXISTS        a key that is there already goes on to the comparison
//	S: WATCH, DUMP and the time of expiry
//	D: MULTI, RESTORE without REPLACE, EXEC    fails if a key appeared at D since WATCH
//	D: WAIT for a replica, if D has one
//	S: MULTI, UNLINK, EXEC                     fails if a key changed at S since WATCH
//
// A key that is on both nodes is compared. If both have the same value, it is removed from
// S. If not, the value of S is renamed: package move deletes no value of which there is no
// equal one at the destination, and it never deletes or overwrites anything there.
//
// MIGRATE is not used: it deadlocks between two nodes that send keys to each other, can
// revive a deleted key after a timeout, and deletes at the source before a replica of the
// destination has the key.
package move
