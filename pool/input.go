package pool

import "github.com/keyway-proxy/keyway/resp"

const (
	// maxBufferedReply is the largest reply that is buffered. A longer reply is delivered
	// in pieces as it arrives.
	maxBufferedReply = 16 << 10
	// maxMessage bounds the size of a message. It is above Redis's own bulk limit.
	maxMessage = 600 << 20
)

// input splits a node's bytes into replies and messages.
type input struct {
	scan resp.Scanner
	part []byte // the beginning of a reply or message, until it is complete
}

// fits reports whether a piece of an incomplete reply may be buffered.
func (in *input) fits(piece []byte) bool { return len(in.part)+len(piece) < maxBufferedReply }

// join returns the piece with the buffered beginning before it.
func (in *input) join(piece []byte) []byte {
	if len(in.part) == 0 {
		return piece
	}
	in.part = append(in.part, piece...)
	return in.part
}

// message collects the pieces of a message. whole is nil until the message is complete,
// and valid until clear. ok is false if the message is too long.
func (in *input) message(piece []byte, done bool) (whole []byte, ok bool) {
	if done {
		return in.join(piece), true
	}
	in.part = append(in.part, piece...)
	return nil, len(in.part) <= maxMessage
}

// clear empties the buffer after a reply or message was delivered.
func (in *input) clear() {
	if cap(in.part) > 4*maxBufferedReply {
		in.part = nil
	} else {
		in.part = in.part[:0]
	}
}
