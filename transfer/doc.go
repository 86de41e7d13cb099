// Package transfer brings keys from one node to another so that none is lost, doubled or
// revived. It owns the guarded copy: which commands are sent to which node, in which order, and
// what their replies prove. It opens no connection and reads no clock: Batch says what to send,
// and takes the replies.
//
// Any number of copiers may move the same keys at once. A copier may die or freeze between any
// two commands, and what it has sent may arrive late: a key is then on one node, or on both with
// the same value, and the next one to move it completes the move.
//
// The guarded copy of keys from the source S to the destination D, each step after all the
// replies to the one before:
//
//	D: WATCH, EXISTS           a key that is there already goes on to the comparison
//	S: PEXPIRETIME, DUMP
//	D: MULTI, RESTORE without REPLACE, EXEC    fails if a key appeared at D since WATCH
//	D: WAIT for a replica, if the copy must be durable
//	S: UNLINK                  its reply proves that S does not have the keys
//
// If clients may write to S meanwhile, S is watched before it is read, and UNLINK fails if a key
// has changed since.
//
// A key that is on both nodes is compared. If both have the same value, it is removed from S. If
// not, S renames it: no value is deleted of which there is no equal one at D, and nothing is ever
// deleted or overwritten at D.
//
// MIGRATE is not used: it deadlocks between two nodes that send keys to each other, can revive a
// deleted key after a timeout, and deletes at the source before a replica of the destination has
// the key.
package transfer
