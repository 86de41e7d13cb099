package pool

import (
	"fmt"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// State is the state of a connection.
//
//	Idle --Open/Send--> Dialing --Connected--> Greeting --last reply--> Ready
//	  ^                    |                      |                       |
//	  |                    +------failed----------+---> Down <--useless---+
//	  +------------------------- Tick, after back-off --+      (a connection that got a
//	                                                            reply goes to Idle instead)
type State uint8

const (
	Idle     State = iota // no socket, no error
	Dialing               // the caller is connecting a socket
	Greeting              // connected; AUTH and PING are not answered yet
	Ready                 // requests may be written
	Down                  // no socket until the back-off ends
	Closed                // permanently
)

func (s State) String() string {
	return [...]string{"idle", "dialing", "greeting", "ready", "down", "closed"}[s]
}

// Duty is what the caller must do with a connection's socket besides writing bytes.
type Duty uint8

const (
	Nothing Duty = iota
	Dial         // connect to Addr, then call Connected or Fail
	Hangup       // close the socket if there is one
)

// Piece is a piece of a reply. Pieces arrive in the order of the stream.
type Piece struct {
	Bytes       []byte // valid until Reply returns
	First, Last bool
	Kind        byte // the reply's type byte
}

// Whole reports whether the piece is the complete reply.
func (p Piece) Whole() bool { return p.First && p.Last }

// Receiver receives the reply to a request. Its methods are called from within
// Received, Fail and Tick. They may send on any connection.
type Receiver interface {
	// Reply delivers a piece of the reply. frame is the request as it was sent,
	// valid until Reply returns.
	Reply(c *Conn, frame []byte, p Piece)
	// Failed reports that no reply, or no further piece of it, will arrive.
	Failed(c *Conn, frame []byte, f Failure)
}

// Forewarned is a Receiver that has to know which requests its client sent after its
// own. When a connection ends, WillFail is called for all written requests, from the
// last to the first. Failed is called afterwards, from the first to the last.
type Forewarned interface {
	WillFail(frame []byte)
}

// Failure says why a request has no reply.
type Failure struct {
	Reason string
	// Sent: bytes of the request may have reached the node, so the node may have
	// executed it. If false, the node did not execute it.
	Sent bool
	// Midway: the first pieces of the reply have been delivered already.
	Midway bool
	// Timeout: the reply did not arrive in time, and the connection stays open.
	Timeout bool
}

const (
	// holdBack is the largest reply that is buffered. A longer reply is delivered in
	// pieces as it arrives.
	holdBack = 16 << 10
	// defaultMaxQueued is Config.MaxQueued's default.
	defaultMaxQueued = 64 << 20
	// requestCost is the memory of a request besides its bytes: its entry and the
	// receiver's state. A million short commands would take a gigabyte if only their
	// bytes were counted.
	requestCost = 256
	// minLife is how long a connection must be Ready to end without a back-off, if no
	// request was answered.
	minLife = time.Second

	backoffMin = 50 * time.Millisecond
	backoffMax = 2 * time.Second
)

// Conn is one logical connection to one node. It uses one socket after another.
//
//	Send(GET a)  Send(GET b)                     Received("$1..$1..")
//	     |            |                                  |
//	     v            v                                  v
//	queue: [GET a][GET b] ---> socket ---> node ---> Scanner
//	fifo:  (c1)   (c2)  <------ each whole reply pops the front
type Conn struct {
	Addr  string
	Owner any // for the caller of Set.Conn; this package does not read it
	Bind  any // the caller's socket; this package does not read it
	// The fields from here to Fence must be set before the first call of a method.
	DB      int  // the database that the greeting selects
	RESP3   bool // the greeting switches to RESP3
	NoTouch bool // the greeting sends CLIENT NO-TOUCH ON
	Master  bool // the greeting sends ROLE and fails if the node is not a master
	// Prelude, if not nil, returns one more command of the greeting. While the command is
	// empty, the greeting waits for Resume.
	Prelude  func() []byte
	Listener Listener           // not nil: the connection carries messages and no requests
	Pushes   Pushes             // not nil: the node may push messages in RESP3
	Fence    int                // requests between two integrity checks; 0: no checks
	Stats    metrics.Connection // belongs to the connection's thread

	set        *Set
	state      State
	duty       Duty
	dirty      bool
	readPaused bool

	queue    sendQueue
	ClientID int64 // the id that the node gave this connection; RESP3 only

	fifo       fifo
	scan       resp.Scanner
	part       []byte // the beginning of a reply that is buffered until it is complete
	midReply   bool   // the first pieces of the front entry's reply have been delivered
	replyBegan int64  // time of the first piece; see Lingers

	greeting []byte // bytes to write while Greeting
	greeted  int    // bytes of greeting that have been written
	step     int
	nonce    uint64 // of this socket's greeting

	unchecked int   // requests since the last integrity check
	checkedAt int64 // time of that check

	since         int64  // time at which the state was entered
	lastReceived  int64  // time of the node's last bytes
	lastProgress  int64  // time at which bytes of a reply or request last passed, or the node was busy; see expire
	script        uint64 // stream position of the end of the last script; see SentScript
	scriptAt      int64  // time at which the first unanswered script was sent
	partialWrite  bool   // the last write took fewer bytes than it was offered
	writeProgress bool   // since the last Tick, bytes were written after a partial write
	silent        bool   // requests have timed out, and the node has not answered a greeting since
	dialedAt      int64
	retryAt       int64
	attempts      int  // failures since the connection was last Ready for minLife or got a reply
	refused       bool // the last attempt to connect has failed
	served        bool // a request has been answered in this Ready state
	reason        string
}

// Conn returns a new connection to addr. It does not dial yet.
func (s *Set) Conn(addr string, owner any) *Conn {
	c := &Conn{Addr: addr, Owner: owner, set: s}
	c.queue.set = s
	return c
}

// State returns the state of the connection.
func (c *Conn) State() State { return c.state }

// InFlight returns the number of unanswered requests, including tombstones.
func (c *Conn) InFlight() int { return c.fifo.n }

// Held returns the number of bytes of unanswered requests.
func (c *Conn) Held() int { return c.queue.inFlightBytes }

// Full reports whether callers should stop sending for now.
func (c *Conn) Full() bool { return c.Memory() > c.set.MaxQueued }

// Memory returns the memory of unanswered requests in bytes.
func (c *Conn) Memory() int { return c.queue.inFlightBytes + c.fifo.n*requestCost }

// Refusing returns the error if the last attempt to connect has failed; a request
// should then fail at once. If Refusing returns "", a request is sent, or waits until
// the connection is ready.
func (c *Conn) Refusing() string {
	if c.state == Closed {
		return c.reason
	}
	if c.refused && c.state != Ready {
		return c.reason
	}
	return ""
}

// Reason returns why the connection was last down.
func (c *Conn) Reason() string { return c.reason }

// Duty returns what the caller must do with the socket, and resets it to Nothing.
func (c *Conn) Duty() Duty {
	d := c.duty
	c.duty = Nothing
	return d
}

// Pause asks the caller to stop reading from the socket, or to read again.
func (c *Conn) Pause(on bool) {
	if c.readPaused != on {
		c.readPaused = on
		c.mark()
	}
}

// Paused reports whether the caller should not read from the socket.
func (c *Conn) Paused() bool { return c.readPaused }

func (c *Conn) mark() {
	if !c.dirty {
		c.dirty = true
		c.set.dirty = append(c.set.dirty, c)
	}
}

func (c *Conn) enter(s State, now int64) { c.state, c.since = s, now }

// Open starts connecting if the connection is Idle.
func (c *Conn) Open(now int64) {
	if c.state == Idle {
		c.dial(now)
	}
}

// Hope resets the back-off and dials immediately. Callers use it when there is news of
// the node, such as a promotion to master. Requests wait for the outcome of the
// attempt.
func (c *Conn) Hope(now int64) {
	switch c.state {
	case Idle, Down:
		c.attempts, c.refused = 0, false
		c.dial(now)
	case Dialing, Greeting:
		c.attempts, c.refused = 0, false
	}
}

func (c *Conn) dial(now int64) {
	c.enter(Dialing, now)
	c.dialedAt = now
	c.Stats.Dials++
	c.duty = Dial
	c.mark()
}

// Send copies frame into the queue. to gets its reply. deadline 0 means no deadline. The
// caller must check Refusing and Full first.
func (c *Conn) Send(to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	c.put(c.queue.reserve(len(frame)), to, frame, deadline)
	c.countRequest(now)
	c.mark()
}

// SendOwned is Send for a large frame. It takes ownership of frame's buffer instead of
// copying it.
func (c *Conn) SendOwned(to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	c.queue.dropWritten()
	ch := &chunk{buf: frame[:len(frame):len(frame)]}
	c.queue.chunks = append(c.queue.chunks, ch)
	c.enqueue(ch, to, 0, len(frame), deadline)
	c.countRequest(now)
	c.mark()
}

// Asking is the ASKING command. It lets the next command, or the next transaction, use
// a slot that the node is importing.
const Asking = "*1\r\n$6\r\nASKING\r\n"

var asking = []byte(Asking)

// SendAsking queues ASKING and frame next to each other in one buffer. They leave in
// one write, with no other command between them. asked gets the reply to ASKING.
func (c *Conn) SendAsking(asked, to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	ch := c.queue.reserve(len(asking) + len(frame))
	c.put(ch, asked, asking, 0)
	c.put(ch, to, frame, deadline)
	c.countRequest(now)
	c.mark()
}

// SendBlock queues the frames block[:ends[0]], block[ends[0]:ends[1]]... next to each
// other in one buffer. They leave in one write, with no other command between them.
// last gets the reply to the last frame, and each gets all other replies. Only the
// last frame has a deadline.
func (c *Conn) SendBlock(each, last Receiver, block []byte, ends []int, now, deadline int64) {
	c.Open(now)
	ch, from := c.queue.reserve(len(block)), 0
	for i, end := range ends {
		if i < len(ends)-1 {
			c.put(ch, each, block[from:end], 0)
		} else {
			c.put(ch, last, block[from:end], deadline)
		}
		from = end
	}
	c.countRequest(now)
	c.mark()
}

func (c *Conn) put(ch *chunk, to Receiver, frame []byte, deadline int64) {
	off := len(ch.buf)
	ch.buf = append(ch.buf, frame...)
	c.enqueue(ch, to, off, len(frame), deadline)
}

// SentScript records that the request that was just sent runs a script or function. The
// node may be busy with it for a long time.
func (c *Conn) SentScript(now int64) {
	if c.fifo.n == 0 || c.fifo.at(0).pos >= c.script {
		c.scriptAt = now
	}
	c.script = c.queue.pos
}

// Stuck reports whether a script is unanswered and the node has sent nothing over this
// connection for the duration silence. Until a script ends, Redis reads nothing more
// from the script's connection, and answers other connections with BUSY.
func (c *Conn) Stuck(now int64, silence time.Duration) bool {
	return c.state == Ready && !c.readPaused && c.expectsReply() && c.fifo.at(0).pos < c.script &&
		now-max(c.lastReceived, c.scriptAt) >= int64(silence)
}

// Late reports whether the node has sent nothing over this connection for the duration
// silence, although a request has been unanswered for at least that long.
func (c *Conn) Late(now int64, silence time.Duration) bool {
	heard := max(c.lastReceived, c.lastProgress)
	if c.state != Ready || c.readPaused || !c.expectsReply() || now-heard < int64(silence) {
		return false
	}
	for i := range c.fifo.n {
		if e := c.fifo.at(i); e.deadline != 0 {
			return now-(e.deadline-int64(c.set.RequestTimeout)) >= int64(silence)
		}
	}
	return false
}

// Excuse postpones all timeouts: no request is overdue until one more request timeout
// has passed. Callers use it when the node has answered BUSY over another connection.
func (c *Conn) Excuse(now int64) { c.lastProgress = now }

func (c *Conn) enqueue(ch *chunk, to Receiver, off, n int, deadline int64) {
	ch.refs++
	c.fifo.push(entry{to: to, chunk: ch, off: off, len: n, pos: c.queue.pos, deadline: deadline})
	c.queue.pos += uint64(n)
	c.queue.inFlightBytes += n
}

// NextWrite returns the bytes to write to the socket now, or none. The caller reports
// with Wrote how many of them were written.
func (c *Conn) NextWrite() []byte {
	switch c.state {
	case Greeting:
		return c.greeting[c.greeted:]
	case Ready:
		return c.queue.next()
	}
	return nil
}

// Wrote records that n bytes of NextWrite were written to the socket.
func (c *Conn) Wrote(n int) {
	c.Stats.BytesOut += uint64(n)
	if c.state == Greeting {
		c.greeted += n
		return
	}
	c.writeProgress = c.writeProgress || c.partialWrite
	c.partialWrite = c.queue.wrote(n)
}

// Connected records that the socket is connected, and starts the greeting.
func (c *Conn) Connected(now int64) {
	if c.state != Dialing {
		return
	}
	c.enter(Greeting, now)
	c.scan, c.step = resp.Scanner{}, 0
	c.set.nonce++
	c.nonce = c.set.nonce
	c.greet(now)
}

// Received processes bytes that the node sent. It does not keep b.
func (c *Conn) Received(b []byte, now int64) {
	c.Stats.BytesIn += uint64(len(b))
	c.lastReceived = now
	for len(b) > 0 {
		if c.state != Ready && c.state != Greeting {
			return
		}
		if c.state == Ready && !c.expectsReply() && c.Listener == nil && !(c.Pushes != nil && c.pushed(b)) {
			c.Stats.Unsolicited++
			c.violate(now, fmt.Sprintf("the node sent what nobody asked for: %.40q", b))
			return
		}
		n, done, err := c.scan.Scan(b)
		piece := b[:n]
		b = b[n:]
		if err != nil {
			c.violate(now, err.Error())
			return
		}
		if c.scan.Kind() == '>' || c.state == Ready && c.Listener != nil {
			if wrong := c.noReply(piece, done); wrong != "" {
				c.violate(now, wrong)
				return
			}
			continue
		}
		if !done || c.midReply || len(c.part) > 0 {
			c.lastProgress = now
		}
		if !done && !c.midReply && len(c.part)+len(piece) < holdBack {
			c.part = append(c.part, piece...)
			return
		}
		if len(c.part) > 0 {
			c.part = append(c.part, piece...)
			piece = c.part
		}
		if c.state == Greeting {
			if done {
				c.greetingReply(piece, now)
				c.part = c.part[:0]
				continue
			}
			c.violate(now, "the node answered the greeting at great length")
			return
		}
		if wrong := c.deliver(piece, done, now); wrong != "" {
			c.violate(now, wrong)
			return
		}
	}
}

// noReply passes on a message, or a piece of one, that is not the reply to a request.
// It returns an error text if the message is not allowed here, otherwise "".
func (c *Conn) noReply(piece []byte, done bool) (wrong string) {
	isPush := c.scan.Kind() == '>'
	switch {
	case isPush && c.Pushes != nil && (c.state == Ready || c.step > stepPrelude):
		if !c.message(piece, done, c.Pushes.Pushed) {
			return "a push message is too long"
		}
	case isPush:
		c.Stats.Unsolicited++
		return "the node sent a push message to a connection that did not ask for any"
	case !c.message(piece, done, c.Listener.Said):
		return "a message is too long"
	}
	return ""
}

// expectsReply reports whether at least one byte of an unanswered request has been
// written. A node may answer before it has the whole request: it refuses a long one by
// its header.
func (c *Conn) expectsReply() bool { return c.fifo.n > 0 && c.fifo.at(0).pos < c.queue.written }

// deliver passes a piece of a reply to its receiver. It returns an error text if the
// reply is the wrong one for an integrity check.
func (c *Conn) deliver(piece []byte, done bool, now int64) (wrong string) {
	first := !c.midReply
	c.midReply = !done
	p := Piece{Bytes: piece, First: first, Last: done, Kind: c.scan.Kind()}
	if !done {
		if first {
			c.replyBegan = c.lastReceived
		}
		if e := c.fifo.at(0); e.to != nil {
			e.to.Reply(c, e.frame(), p)
		}
		c.part = c.part[:0]
		return ""
	}
	// Remove the entry first: Reply may call methods of this connection, which must
	// then be between two replies.
	e := c.fifo.pop()
	c.set.big += c.fifo.trim()
	c.served = true
	if e.to != nil {
		if e.deadline != 0 && e.deadline <= now {
			c.lastProgress = now // the requests behind this one waited for it
		}
		e.to.Reply(c, e.frame(), p)
		if e.to == (integrityCheck{}) {
			wrong = outOfStep(e.frame(), piece)
		}
	} else if e.deadline != 0 {
		c.Stats.Late++
	}
	if c.part != nil {
		if cap(c.part) > 4*holdBack {
			c.part = nil
		} else {
			c.part = c.part[:0]
		}
	}
	c.queue.answered(e.chunk, e.len)
	return wrong
}

// violate ends the connection because the node broke the protocol.
func (c *Conn) violate(now int64, reason string) {
	c.Stats.Violations++
	c.fail(now, reason)
}

// Fail ends the connection because its socket could not be connected, has ended, or
// has to end. All pending requests fail, and the caller's next duty is Hangup.
func (c *Conn) Fail(now int64, reason string) {
	// A socket that ends during its greeting does not prove that the node is unreachable.
	// After several such failures in a row the node counts as unreachable.
	c.end(now, reason, c.state == Dialing || c.state == Greeting && c.attempts > 5)
}

// fail ends the connection for a reason other than a failure of the socket.
func (c *Conn) fail(now int64, reason string) { c.end(now, reason, c.state != Ready) }

// end implements Fail and fail. refused says that the node cannot be connected to at
// the moment.
func (c *Conn) end(now int64, reason string, refused bool) {
	was := c.state
	switch was {
	case Idle, Down, Closed:
		return
	case Ready:
		c.Stats.Losses++
	default:
		c.Stats.Failures++
	}
	c.duty = Hangup
	c.readPaused = false
	c.mark()
	c.reason = reason
	if was == Ready && (c.served || now-c.since >= int64(minLife)) {
		c.attempts, c.refused = 0, false
		c.enter(Idle, now) // it has worked, so the next request or Tick dials at once
	} else {
		c.attempts++
		c.refused = c.refused || refused || c.Listener != nil
		c.enter(Down, now)
		c.retryAt = now + c.backoff()
	}
	c.drop(Failure{Reason: reason})
	if c.Listener != nil {
		c.Listener.Down(c)
	}
	if c.Pushes != nil && was == Ready {
		c.Pushes.Lost(c)
	}
}

// pushed reports whether b begins or continues a push message.
func (c *Conn) pushed(b []byte) bool {
	if c.scan.Midway() {
		return c.scan.Kind() == '>'
	}
	return b[0] == '>'
}

// drop fails all pending requests in the order in which they were sent. If receivers
// send them again over this connection, they keep that order.
func (c *Conn) drop(f Failure) {
	pending, written, mid := c.fifo, c.queue.written, c.midReply
	c.fifo, c.midReply, c.part, c.scan = fifo{}, false, nil, resp.Scanner{}
	c.lastProgress, c.partialWrite, c.writeProgress = 0, false, false
	c.greeting = nil
	chunks := c.queue.chunks
	c.queue = sendQueue{set: c.set, pos: c.queue.pos, written: c.queue.pos}
	for _, ch := range chunks {
		ch.refs++ // until the loop at the end
	}
	for i := pending.n - 1; i >= 0; i-- {
		if e := pending.at(i); e.pos < written {
			if to, ok := e.to.(Forewarned); ok {
				to.WillFail(e.frame())
			}
		}
	}
	for first := true; pending.n > 0; first = false {
		e := pending.pop()
		if e.to != nil {
			f.Sent = e.pos < written
			f.Midway = first && mid
			e.to.Failed(c, e.frame(), f)
		}
		c.set.unref(e.chunk)
	}
	c.set.big += pending.trim()
	for _, ch := range chunks {
		c.set.unref(ch)
	}
}

// backoff returns the time until the next attempt in nanoseconds. It is exponential,
// with jitter over its upper half, so that many proxies do not reconnect at once.
func (c *Conn) backoff() int64 {
	d := int64(backoffMax)
	if shift := c.attempts - 1; shift < 6 {
		d = min(d, int64(backoffMin)<<shift)
	}
	return d/2 + c.set.Rand.Int64N(d/2+1)
}

// Close ends the connection permanently. All pending requests fail.
func (c *Conn) Close(now int64, reason string) {
	if c.state == Closed {
		return
	}
	if c.state != Idle && c.state != Down {
		c.duty = Hangup
		c.mark()
	}
	c.reason = reason
	c.enter(Closed, now)
	c.drop(Failure{Reason: reason})
}
