package transaction

import "bytes"

// Block is a transaction as its node gets it: everything from MULTI to EXEC, in one write.
type Block struct {
	Frames    []byte   // MULTI, the commands and finally EXEC
	Ends      []int    // where each of these ends in Frames
	Queued    int      // number of queued commands
	Writes    bool     // a command other than FCALL may write
	Functions []string // called by FCALL; only a pause makes keyway ask whether they write
	Scripts   bool     // a command is a script, a function or a module's command
	Watches   bool     // keys are watched over a connection of the client's own
	bad       []byte   // the first error of the node while it queued the block
}

// MayWrite reports whether a command of the transaction may write.
func (b *Block) MayWrite() bool { return b.Writes || len(b.Functions) > 0 }

// Refused records an error with which the node has refused a command of the block.
func (b *Block) Refused(reply []byte) {
	if b.bad == nil {
		b.bad = bytes.Clone(reply)
	}
}

// Add appends a command to the block.
func (b *Block) Add(frame []byte) {
	b.Frames = append(b.Frames, frame...)
	b.Ends = append(b.Ends, len(b.Frames))
}

// WithPrefix returns the block with the command first in front: ASKING or CLIENT CACHING,
// which apply to the whole block, or nothing.
func (b *Block) WithPrefix(first []byte) (frames []byte, ends []int) {
	if len(first) == 0 {
		return b.Frames, b.Ends
	}
	frames = append(append(frames, first...), b.Frames...)
	ends = append(ends, len(first))
	for _, e := range b.Ends {
		ends = append(ends, e+len(first))
	}
	return frames, ends
}

// Discarded begins the reply to an EXEC that the node refused (multi.c, execCommandAbort).
const Discarded = "EXECABORT Transaction discarded because of: "

// Aborted returns the client's reply to an EXEC that the node refused. If the node refused
// a command of the block, cause is its error. The client has got QUEUED for that command,
// so EXEC's reply repeats the error, as Redis does when it refuses EXEC itself (multi.c,
// execCommandAbort).
func Aborted(reply, cause []byte) []byte {
	if bytes.Equal(reply, cause) {
		return reply
	}
	return append([]byte("-"+Discarded), cause[1:]...)
}

// Cause returns the error that made the node discard the block. If EXEC's reply is just
// EXECABORT, this is the node's first error while it queued the block.
func (b *Block) Cause(reply []byte) []byte {
	cause := reply
	if bytes.HasPrefix(reply, []byte("-EXECABORT ")) && b.bad != nil {
		cause = b.bad
	}
	b.bad = nil // the block may be sent again
	return cause
}
