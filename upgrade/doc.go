// Package upgrade owns the conversation between a process and the one that replaces it: it starts
// the new process, and carries the messages by which listening sockets and clients go over.
//
//	old                                new
//	hello, its version and ids  -->
//	a listener and its sockets  -->    for each address
//	                            <--    ready: it could serve
//	a feed and its socket       -->    for each connection on which nodes publish
//	a subscriber and its socket -->    for each
//	                            <--    taken, or refused
//	serve                       -->    from now on the new process accepts
//	a client and its socket     -->    for each client, when it is between two commands
//	                            <--    taken, or refused: the old process goes on with it
//	end                         -->    no client follows
//
// Each message is one packet of a Unix socket, as JSON, with the descriptors that belong to it.
package upgrade
