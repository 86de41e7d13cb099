// Package pool owns the connections to nodes. A [Link] dials a node, greets it and
// moves bytes. It carries either the requests of a [Conn] or the messages of a [Feed].
//
// Each link is a state machine without a socket, a clock or a goroutine: its caller
// passes in the bytes received and the time, and the link returns the bytes to write
// and the caller's duties.
//
// All other packages rely on this guarantee of a Conn: a FIFO entry exists before its
// request's bytes can leave. It is removed only by one complete reply or by the end
// of the connection. A request whose receiver has left or has been told of a timeout
// stays as a tombstone. The connection ends on every protocol violation, unexpected
// reply and failed write.
//
// A [Set] and its links belong to one thread.
package pool
