// Package freshness owns what is known about replicas: which one is fresh enough for a read,
// and how many have all of a client's writes.
//
// It keeps how far replicas lag behind their masters ([Replicas], [Node]), what a client has
// written and must see again ([Writes]), and which of its reads are in flight to replicas, so
// that a later write waits for them ([Reads]). For WAIT, it keeps which writes are confirmed
// ([Synced]).
//
// Keys are hashes, and a write is the number of its request. The package asks no node: its
// caller sends the questions and passes the replies.
package freshness
