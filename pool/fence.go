package pool

import (
	"bytes"
	"fmt"
	"time"
)

// The fence is a PING with a word of its own, sent between the requests every
// so often. Replies carry no number in RESP; were one left out or doubled, all
// that follow would go to the wrong clients for as long as the connection
// lasts. The fence ends that: the echo must come in its place.
//
//	GET a  GET b  PING 6b3f...  GET c
//	$1..   $1..   $16 6b3f...   $1..

// fenceEvery is how long requests may go without a fence while some are
// unanswered.
const fenceEvery = int64(time.Second)

// fenceHead is what a fence's frame begins with; what follows is the word as
// the bulk string that Redis must answer with.
var fenceHead = []byte("*2\r\n$4\r\nPING\r\n")

// fence receives the replies to fences; Conn itself looks at them.
type fence struct{}

func (fence) Reply(*Conn, []byte, Piece)    {}
func (fence) Failed(*Conn, []byte, Failure) {}

// sent counts a request, and sends a fence after the last of a run.
func (c *Conn) sent(now int64) {
	if c.Fence == 0 {
		return
	}
	if c.unfenced++; c.unfenced >= c.Fence {
		c.sendFence(now)
	}
}

func (c *Conn) sendFence(now int64) {
	c.unfenced, c.fencedAt = 0, now
	c.Stats.Fences++
	const hexDigits = "0123456789abcdef"
	frame := append(c.set.fence[:0], fenceHead...)
	frame = append(frame, "$16\r\n"...)
	for n, i := c.set.Rand.Uint64(), 0; i < 16; i++ {
		frame = append(frame, hexDigits[n>>60])
		n <<= 4
	}
	frame = append(frame, "\r\n"...)
	c.set.fence = frame
	c.put(c.queue.reserve(len(frame)), fence{}, frame, now+int64(c.set.RequestTimeout))
	c.mark()
}

// undecided are the errors with which a node may answer any PING.
var undecided = [][]byte{[]byte("-LOADING "), []byte("-BUSY "), []byte("-MISCONF "), []byte("-MASTERDOWN ")}

// outOfStep compares a reply with the fence that it is the reply to. It returns
// what is wrong, or nothing.
func outOfStep(frame, reply []byte) string {
	want := frame[len(fenceHead):]
	if bytes.Equal(reply, want) {
		return ""
	}
	for _, prefix := range undecided {
		if bytes.HasPrefix(reply, prefix) {
			return ""
		}
	}
	return fmt.Sprintf("replies are out of step: PING %.16s was answered with %.60q", want[len("$16\r\n"):], reply)
}
