// Package engine owns what a worker does with every command. It keeps each session's state
// and the order of its replies, turns commands into calls to nodes, merges the nodes' replies
// into one, and follows redirects without letting a client's commands overtake each other.
//
// The package is pure. A [Worker] gets bytes, events and the time as arguments.
// It returns everything that the shell has to do in one struct, [Ready]. It opens
// no socket, reads no clock, starts no goroutine and takes no lock. Package server
// drives it with sockets; the simulation in test/sim drives it with a virtual clock
// and network.
//
//	Worker.Received(client bytes)              pool.Conn.Received(node bytes)
//	   | resp.Parser.Next                         | pool.Conn: head of FIFO
//	   v                                          v
//	dispatch --> router.Table.Place --> call ... call.Reply --> redirect?
//	   |                                          |
//	   | order: a request in the session's line   | next in line: to the output
//	   v                                          v otherwise: parked
//	EndTurn: Ready.Links to write, Ready.Sessions to write
//
// A Worker belongs to one thread. It sends messages to other threads through
// Ready; each arrives as a method call on the other thread's Worker.
//
// The features, such as pub/sub and transactions, are packages of their own. Each gives the
// engine a [Part]: handlers of commands, and a [Feature] with the state that they need. The
// engine names no feature. It calls them through the interfaces in feature.go, where they
// also keep their state of each client.
//
// What needs no worker is below, in packages that can be tested alone: the shared connections of
// a node (shared), the accounts of its users (logins), what its errors mean (refusal), how many
// calls may wait for it (retry), transactions (transaction), and which values are large (bigkeys).
// A command takes this way through the files:
//
//	input.go      bytes to commands; what has to wait
//	dispatch.go   what to do with a command; users.go: whether its user may send it
//	split.go      commands for several nodes, script.go for scripts, reads.go for replicas
//	line.go       the order of a client's replies
//	call.go       one frame for one node, from its lane to its reply
//	verdict.go    what happens after an error, or the loss of the connection
//	redirect.go   calls that are sent again
//	slow.go       replies that take long: large values, slow readers, scripts
//
// A client is in session.go, a node in node.go, the routing table in routing.go, and the turns
// of a thread in worker.go.
//
// Ten words have one meaning each:
//
//   - session: one client: its input, its state (database, MULTI, subscriptions)
//     and its output.
//   - line: a session's commands in the order in which the client gets the replies.
//   - call: one frame sent to one node for a command. A split MGET has several.
//   - lane: the kind of connection that a call may use: shared with other clients,
//     tracked, or its own.
//   - hold: the time that a command waits for the successor of a dead master
//     (backend.hold).
//   - retry: a call sent again, because its node surely did not execute it or
//     because it only reads.
//   - feed: a connection to a node that carries only what the node publishes to
//     subscribers. An invalidation feed carries only invalidations of keys.
//   - worker: everything that one thread knows: its sessions, nodes and connections.
//   - sibling: another thread's worker. Workers share nothing and send each other
//     messages.
//   - slot: one of the 16,384 parts of the key space of a Redis Cluster.
package engine
