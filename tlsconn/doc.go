// Package tlsconn owns TLS without a goroutine for each connection: it drives
// crypto/tls from bytes in memory, which the caller moves between it and a socket.
//
// Only a handshake needs a goroutine, because crypto/tls cannot interrupt it. The goroutine
// waits inside Handshake.Run until the caller has received more bytes. Afterwards a Conn is
// used by one goroutine, such as an event loop, and never blocks. This works because
// crypto/tls keeps a connection intact, and partial records inside, if the connection below
// reports a temporary error.
package tlsconn
