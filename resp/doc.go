// Package resp owns the protocol: it frames commands and replies of RESP2 and RESP3 in
// place, in pieces and within bounds, and encodes keyway's own replies. It passes RESP3
// replies on without decoding them.
//
// It knows no command. [Parser] accepts exactly the commands that Redis accepts, with
// Redis's limits and error texts (networking.c, processMultibulkBuffer and
// processInlineBuffer). It re-encodes a command whose bytes are not canonical, so that
// keyway never forwards anything that a node would refuse. [Scanner] finds the end of a
// reply in a stream that may be cut anywhere, and holds no bytes itself.
//
// Nothing here allocates memory in proportion to a number that a peer has sent.
package resp
