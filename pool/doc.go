// Package pool owns backend connections: each a state machine that is told what
// happens to a socket and says what should be written to it. It never sees the
// socket, a clock or a goroutine; bytes and the time go in, bytes and duties
// come out.
//
// Its promise, on which everything above rests: a FIFO entry exists before its
// request's bytes can leave, and goes only with one complete reply or with the
// connection. Requests whose askers have left or been told of a timeout stay as
// tombstones. Any protocol violation, any reply that nobody waits for, and any
// failed write end the connection.
//
// All of a [Set] belongs to one thread.
package pool
