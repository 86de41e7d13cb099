package pool

import (
	"bytes"
	"fmt"
	"time"
)

// An integrity check is a PING with a random nonce, sent between requests. Replies in
// RESP carry no number. If a node left one out or sent one twice, all later replies of
// the connection would go to the wrong clients. The check detects that: the nonce has
// to come back in its place.
//
//	GET a  GET b  PING 6b3f...  GET c
//	$1..   $1..   $16 6b3f...   $1..

// maxUnchecked is the maximum time between two integrity checks while requests are
// unanswered.
const maxUnchecked = int64(time.Second)

// pingHead is the beginning of an integrity check's frame. The rest is the nonce, as the
// bulk string that Redis must answer.
var pingHead = []byte("*2\r\n$4\r\nPING\r\n")

// integrityCheck is the receiver of replies to integrity checks. It ignores them,
// because Conn.deliver checks them.
type integrityCheck struct{}

func (integrityCheck) Reply(*Conn, []byte, Piece)    {}
func (integrityCheck) Failed(*Conn, []byte, Failure) {}

// countRequest counts a request. After CheckEvery requests it sends an integrity check.
func (c *Conn) countRequest(now int64) {
	if c.CheckEvery == 0 {
		return
	}
	if c.unchecked++; c.unchecked >= c.CheckEvery {
		c.sendCheck(now)
	}
}

func (c *Conn) sendCheck(now int64) {
	c.unchecked, c.checkedAt = 0, now
	c.Stats.Checks++
	const hexDigits = "0123456789abcdef"
	frame := append(c.set.checkFrame[:0], pingHead...)
	frame = append(frame, "$16\r\n"...)
	for n, i := c.set.Rand.Uint64(), 0; i < 16; i++ {
		frame = append(frame, hexDigits[n>>60])
		n <<= 4
	}
	frame = append(frame, "\r\n"...)
	c.set.checkFrame = frame
	c.put(c.queue.reserve(len(frame)), integrityCheck{}, frame, now, now+int64(c.set.RequestTimeout))
	c.mark()
}

// pingErrors are the errors that a node may answer to any PING. They prove nothing about
// the order of replies. The rules of a link's User may forbid PING.
var pingErrors = [][]byte{
	[]byte("-LOADING "), []byte("-BUSY "), []byte("-MISCONF "), []byte("-MASTERDOWN "), []byte("-NOPERM "),
}

// outOfStep compares a reply with its integrity check. It returns an error text if they
// do not match, otherwise "".
func outOfStep(frame, reply []byte) string {
	want := frame[len(pingHead):]
	if bytes.Equal(reply, want) {
		return ""
	}
	for _, prefix := range pingErrors {
		if bytes.HasPrefix(reply, prefix) {
			return ""
		}
	}
	return fmt.Sprintf("replies are out of step: PING %.16s was answered with %.60q", want[len("$16\r\n"):], reply)
}
