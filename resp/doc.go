// Package resp owns the wire: bounded, incremental, in-place framing of
// commands and replies of the Redis protocol (RESP2, and RESP3 where a reply
// is only passed on), and the encoding of what keyway says itself.
//
// It frames without knowing any command. [Parser] accepts exactly the commands
// that Redis accepts, with Redis's limits and error texts (networking.c,
// processMultibulkBuffer and processInlineBuffer), and tells whether the bytes
// as received are canonical, so that nothing is ever forwarded which a node
// would refuse. [Scanner] finds the end of a reply in a stream that may be cut
// anywhere, holding no bytes itself.
//
// Nothing here allocates in proportion to a number that a peer has sent.
package resp
