// Package proxy owns what a client experiences: the session's states, the order
// of its replies, what is answered here, how a command becomes calls to nodes
// and their replies one reply, redirects and their fences.
//
// It is pure. A [Worker] is told of bytes, events and the time, and says what
// is due in one struct, [Ready]; it never sees a socket, a clock, a goroutine
// or a lock. package server drives it with sockets, the simulation in test with
// a virtual clock and network.
//
//	Feed(client bytes)                         Received(node bytes)
//	   | resp.Parser.Next                         | pool.Conn: head of FIFO
//	   v                                          v
//	dispatch --> router.Table.Place --> call ... call.Reply --> redirect?
//	   |                                          |
//	   | order: a request in the session's line   | next in line: to the output
//	   v                                          v otherwise: parked
//	EndTurn: Ready.Conns to write, Ready.Sessions to write
//
// All of a Worker belongs to one thread. What other threads must know of it
// goes through Ready and comes back as a method call on their Worker.
package proxy
