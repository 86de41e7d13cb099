// Package proxy is what a client talks to. It owns nothing but the list of the parts that a
// worker is made of: the engine (package engine) and five features, which never name each
// other.
//
//	answers   what keyway answers by itself, or with an ending of its own
//	pubsub    pub/sub
//	tracking  client-side caching
//	blocking  commands that block, and WAIT
//	txn       transactions
//
// Each part says which commands it handles, in its part.go.
package proxy
