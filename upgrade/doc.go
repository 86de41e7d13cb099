// Package upgrade owns the conversation between a process and the one that replaces it: it starts
// the new process, and carries the messages by which listening sockets and clients go over.
//
//	old                                new
//	a listener and its sockets  -->    for each address
//	hello, its version and ids  -->
//	                            <--    ready: it could serve
//	a feed and its socket       -->    for each connection on which nodes publish
//	a subscriber and its socket -->    for each; the new process does not serve it yet
//	                            <--    taken, or refused
//	serve                       -->    now it serves these, and accepts others
//	a client and its socket     -->    for each client, when it is between two commands
//	                            <--    taken, or refused: the old process goes on with it
//	end                         -->    no client follows
//
// A message is JSON, in one packet or several of a Unix socket. The descriptors that belong to it come
// with the last one.
package upgrade
