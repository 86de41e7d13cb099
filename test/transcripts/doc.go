// Package transcripts owns the transcripts: texts in testdata that show what clients send,
// what the nodes get and answer, and what the clients get. It runs each against the pure
// core (package proxy and what is below it), without sockets and with a virtual clock:
//
//	# Commands that are behind a moved one on the old node follow it.
//	c1 -> SET b 1 | SET b 2
//	    b <- SET b 1 | SET b 2
//	b -> -MOVED 3300 a:6379
//	    a <- SET b 1
//	    keyway asks for the topology
//
// A line at the margin is an action. The indented lines below it are everything that keyway
// does then: the transcript fails if keyway does more, less, or something else.
//
//	go test ./test/transcripts            runs all transcripts
//	go test ./test/transcripts -rewrite   replaces the indented lines by what keyway does
//
// # Who acts
//
// c1, c2 and so on are clients. All other names are nodes. By default there are two, which
// are a cluster: a has the upper half of the slots, with the keys a and {a}1, and b has the
// lower half, with the keys b and {b}1. The address of a is a:6379. The connections to a are
// a, a.2, a.3 and so on, in the order in which keyway opens them.
//
// "X -> ..." says what a client or node sends, "X <- ..." what it gets. " | " separates
// commands or replies that are sent together. "PING (3 times)" is PING | PING | PING.
//
// # Commands and replies
//
// A command is a line of words. A reply is shown by the first characters of RESP: +OK, :1,
// -ERR some text, and otherwise a bulk string: v, or "two words". nil is the null string,
// nil-array the null array, _ RESP3's null. [a b] is an array, %[k v] a map, ~[a b] a set,
// and >[a b] a push message. <x*2000> stands for 2000 times x. raw "*1\r\n" sends bytes.
//
// # Actions
//
//	options: hold 3s, integrity 3          keyway's configuration, at the top; see options.go
//	layout: cluster a 0-9, b 10-16383, c follows a   the topology, at the top and later
//	other layout: ring a, b                a reload with another configuration
//	reload: reads master                   keyway gets these other options; see options.go
//	wait 20ms                              time passes
//	c2 connects                            a client also connects when it sends first
//	c1 leaves; c1 sends no more            closes its connection; closes its sending side
//	c1 stops reading; c1 reads             a client that does not take its replies
//	c1 reads 100 bytes                     it takes so much and stops
//	a closes; a.2 closes                   the node ends one connection
//	a dies; a returns                      ends all connections and refuses new ones
//	a ignores connections                  attempts to connect get no answer until it returns
//	a greets with -BUSY x                  answers the greeting of new connections so
//	a greets as usual                      it does so no more
//	a takes 100 bytes; a takes everything  the node reads only so much more
//	a drops a reply                        the node never answers its oldest request
//	a answers each with -LOADING x         the node answers all later requests so
//	a.2 answers each with -BUSY x          it answers those over this connection so
//	a answers nothing                      the transcript gives its replies again
//	c lags 10 bytes                        the replica is so far behind its master
//	worker 2 hangs; worker 2 goes on       the worker answers no other worker
//	keyway has not enough memory           limits.memory is reached
//	keyway may not open more connections   the process has no files for them
//	a closes & b closes                    both happen in one turn
//	--- name                               another case, which begins with the lines above
//	                                       the first "---"
//
// The nodes answer by themselves what clients never see: greetings, CLIENT ID, HELLO,
// INFO replication, and the integrity checks.
package transcripts
