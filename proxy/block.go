package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/pool"
)

// block is a transaction as its node gets it: everything from MULTI to EXEC, in one write.
type block struct {
	frames    []byte   // MULTI, the commands and finally EXEC
	ends      []int    // where each of these ends in frames
	n         int      // number of queued commands
	writes    bool     // a command other than FCALL may write
	functions []string // called by FCALL; only a pause makes keyway ask whether they write
	scripts   bool     // a command is a script, a function or a module's command
	watches   bool     // keys are watched over a connection of the client's own
	bad       []byte   // the first error of the node while it queued the block
}

// mayWrite reports whether a command of the transaction may write.
func (b *block) mayWrite() bool { return b.writes || len(b.functions) > 0 }

func (b *block) add(frame []byte) {
	b.frames = append(b.frames, frame...)
	b.ends = append(b.ends, len(b.frames))
}

// withPrefix returns the block with the command first in front: ASKING or CLIENT CACHING,
// which apply to the whole block, or nothing.
func (b *block) withPrefix(first []byte) (frames []byte, ends []int) {
	if len(first) == 0 {
		return b.frames, b.ends
	}
	frames = append(append(frames, first...), b.frames...)
	ends = append(ends, len(first))
	for _, e := range b.ends {
		ends = append(ends, e+len(first))
	}
	return frames, ends
}

// queued receives the node's replies to a block, except that to EXEC.
type queued struct{ block *block }

func (q queued) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if p.Kind == '-' && q.block.bad == nil && p.Whole() {
		q.block.bad = bytes.Clone(p.Bytes)
	}
}

func (queued) Failed(*pool.Conn, []byte, pool.Failure) {}

// execReply receives the reply to the EXEC of a block on a shared connection.
type execReply struct{ *call }

func (e execReply) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := e.call
	if p.Kind != '-' || !p.Whole() || c.req.sess == nil {
		c.Reply(conn, frame, p)
		return
	}
	cause := c.block.cause(p.Bytes)
	switch {
	case c.onError(conn, frame, cause):
	case notHere(cause):
		c.settle(cause) // the client learns more than from EXECABORT: a later attempt may succeed
	default:
		c.settle(aborted(p.Bytes, cause))
	}
}

// errDiscarded begins the reply to an EXEC that the node refused (multi.c, execCommandAbort).
const errDiscarded = "EXECABORT Transaction discarded because of: "

// aborted returns the client's reply to an EXEC that the node refused. If the node refused
// a command of the block, cause is its error. The client has got QUEUED for that command,
// so EXEC's reply repeats the error, as Redis does when it refuses EXEC itself (multi.c,
// execCommandAbort).
func aborted(reply, cause []byte) []byte {
	if bytes.Equal(reply, cause) {
		return reply
	}
	return append([]byte("-"+errDiscarded), cause[1:]...)
}

// cause returns the error that made the node discard the block. If EXEC's reply is just
// EXECABORT, this is the node's first error while it queued the block.
func (b *block) cause(reply []byte) []byte {
	cause := reply
	if bytes.HasPrefix(reply, []byte("-EXECABORT ")) && b.bad != nil {
		cause = b.bad
	}
	b.bad = nil // the block may be sent again
	return cause
}
