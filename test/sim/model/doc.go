// Package model is a Redis node that runs inside a test: one thread, a clock of its own, no sockets
// and no goroutines. It answers as Redis 7.0 does; TestModelAnswersLikeRedis compares the two.
//
// A Node executes commands for connections (Conn) in the order in which Conn.Do is called. The
// caller decides when bytes arrive, when the node is frozen, and when a connection has ended. It
// watches through the Hooks what is executed, so that a test can judge each step from outside.
package model
