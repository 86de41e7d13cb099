package pool

import (
	"fmt"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// State is where a connection stands.
//
//	Idle --Open/Send--> Dialing --Connected--> Greeting --last reply--> Ready
//	  ^                    |                      |                       |
//	  |                    +------failed----------+---> Down <--useless---+
//	  +------------------------- Tick, after back-off --+      (one that has served
//	                                                            dials at once)
type State uint8

const (
	Idle     State = iota // no socket, nothing wrong
	Dialing               // the shell is connecting
	Greeting              // connected; AUTH and PING are not answered yet
	Ready                 // requests may be written
	Down                  // no socket until the back-off ends
	Closed                // for good
)

func (s State) String() string {
	return [...]string{"idle", "dialing", "greeting", "ready", "down", "closed"}[s]
}

// Duty is what the shell must do with a connection's socket, bytes to write
// apart.
type Duty uint8

const (
	Nothing Duty = iota
	Dial         // connect to Addr, then call Connected or Fail
	Hangup       // close the socket, if there is one
)

// Piece is part of a reply, in the order of the stream.
type Piece struct {
	Bytes       []byte // valid until Reply returns
	First, Last bool
	Kind        byte // the reply's type byte
}

// Whole tells whether the piece is the complete reply.
func (p Piece) Whole() bool { return p.First && p.Last }

// Receiver is who asked. Its methods are called from within Received, Fail and
// Tick; they may send on any connection.
type Receiver interface {
	// Reply delivers the reply to frame, the request as it was sent, which is
	// valid until Reply returns.
	Reply(c *Conn, frame []byte, p Piece)
	// Failed tells that there will be no (more of the) reply.
	Failed(c *Conn, frame []byte, f Failure)
}

// Forewarned is a Receiver that has to know what its client sent after it. When a
// connection ends, WillFail is called for all requests that were sent, the last one
// first, before Failed is called for any, the first one first.
type Forewarned interface {
	WillFail(frame []byte)
}

// Failure says why a request has no reply.
type Failure struct {
	Reason string
	// Sent: bytes of the request may have reached the node, which may have
	// executed it. Otherwise it was surely not executed.
	Sent bool
	// Midway: part of the reply has been delivered already.
	Midway bool
	// Timeout: the connection goes on, the reply did not come in time.
	Timeout bool
}

const (
	// A reply that is longer is passed on in pieces as it comes.
	holdBack = 16 << 10
	// defaultMaxQueued is Config.MaxQueued's default.
	defaultMaxQueued = 64 << 20
	// requestCost is what a request takes besides its bytes: its entry, and what
	// the asker keeps. A million short commands would take a gigabyte.
	requestCost = 256
	// An end sooner than this after greeting, with no request answered, is followed
	// by a pause before the next attempt to connect.
	shortLife = time.Second

	backoffMin = 50 * time.Millisecond
	backoffMax = 2 * time.Second
)

// Conn is one connection to one node, through as many sockets as it takes.
//
//	Send(GET a)  Send(GET b)                     Received("$1..$1..")
//	     |            |                                  |
//	     v            v                                  v
//	queue: [GET a][GET b] ---> socket ---> node ---> Scanner
//	fifo:  (c1)   (c2)  <------ each whole reply pops the front
type Conn struct {
	Addr     string
	Owner    any                // who the connection belongs to, for whoever made it
	Bind     any                // the shell's end; this package never looks
	DB       int                // the database that is selected in greeting; set before anything else, as what follows
	RESP3    bool               // the node is to answer in RESP3
	NoTouch  bool               // what is read over it does not count as used
	Master   bool               // the node is asked whether it is a master: what is not makes the attempt fail
	Prelude  func() []byte      // not nil: one more command of the greeting; the greeting waits for Resume while it is empty
	Listener Listener           // not nil: the connection listens, and carries no requests
	Pushes   Pushes             // not nil: the node may push, in RESP3
	Fence    int                // after so many requests the replies are checked to be in step; 0: never
	Stats    metrics.Connection // of this connection; belongs to its thread

	set   *Set
	state State
	duty  Duty
	dirty bool
	hold  bool // nothing should be read for the moment

	queue    sendQueue
	ClientID int64 // of the connection among the node's clients, where RESP3 is spoken

	fifo  fifo
	scan  resp.Scanner
	part  []byte // the beginning of a reply, held back
	mid   bool   // part of the front's reply has been delivered
	began int64  // when the first part was; see Lingers

	greeting []byte // bytes to write while Greeting
	greeted  int    // of them written
	step     int
	nonce    uint64 // of this socket's greeting

	unfenced int   // requests since the last fence
	fencedAt int64 // when that was

	since    int64  // when the state began
	heard    int64  // when the node last said something
	moved    int64  // when part of a reply or of a request last got through, or the node was busy; see expire
	script   uint64 // where the last script that was sent ends in the stream; see SentScript
	scriptAt int64  // when the first of those that are not answered was sent
	short    bool   // the socket has not taken all that it was offered
	taken    bool   // it has taken more since, and since the last Tick
	silent   bool   // the node let requests time out, and has not answered a greeting since
	dialedAt int64
	retryAt  int64
	attempts int  // failures since it was last Ready for long, or has served a request
	refused  bool // the last attempt to connect has failed
	served   bool // a request was answered since it is Ready
	reason   string
}

// Conn makes a connection to addr; nothing is dialed yet.
func (s *Set) Conn(addr string, owner any) *Conn {
	c := &Conn{Addr: addr, Owner: owner, set: s}
	c.queue.set = s
	return c
}

// State tells where the connection stands.
func (c *Conn) State() State { return c.state }

// InFlight is the number of requests that are not answered, tombstones
// included.
func (c *Conn) InFlight() int { return c.fifo.n }

// Held is the number of bytes of requests that are not answered.
func (c *Conn) Held() int { return c.queue.held }

// Full tells that no more should be sent for now.
func (c *Conn) Full() bool { return c.Memory() > c.set.MaxQueued }

// Memory is what requests that are not answered take, in bytes.
func (c *Conn) Memory() int { return c.queue.held + c.fifo.n*requestCost }

// Refusing returns why a request would fail at once: the last attempt to
// connect has failed. Empty: it would be sent, or wait until it can be.
func (c *Conn) Refusing() string {
	if c.state == Closed {
		return c.reason
	}
	if c.refused && c.state != Ready {
		return c.reason
	}
	return ""
}

// Reason is why the connection was last down.
func (c *Conn) Reason() string { return c.reason }

// Duty returns what the shell must do with the socket, once.
func (c *Conn) Duty() Duty {
	d := c.duty
	c.duty = Nothing
	return d
}

// Pause asks the shell to stop reading from the socket, or to read again.
func (c *Conn) Pause(on bool) {
	if c.hold != on {
		c.hold = on
		c.mark()
	}
}

// Paused tells that the shell should not read from the socket.
func (c *Conn) Paused() bool { return c.hold }

func (c *Conn) mark() {
	if !c.dirty {
		c.dirty = true
		c.set.dirty = append(c.set.dirty, c)
	}
}

func (c *Conn) enter(s State, now int64) { c.state, c.since = s, now }

// Open starts connecting, if nothing is under way.
func (c *Conn) Open(now int64) {
	if c.state == Idle {
		c.dial(now)
	}
}

// Hope forgets that attempts to connect have failed, and makes one at once:
// there is news of the node, such as that it has become a master. What is sent
// meanwhile waits for the outcome.
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

// Send queues frame and notes that to gets its reply. deadline 0 means none.
// The bytes are copied. Whether it may be sent is the caller's to ask first
// (Refusing, Full).
func (c *Conn) Send(to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	c.put(c.queue.reserve(len(frame)), to, frame, deadline)
	c.sent(now)
	c.mark()
}

// SendOwned is Send for a large frame whose buffer the caller gives away.
func (c *Conn) SendOwned(to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	c.queue.dropWritten()
	ch := &chunk{buf: frame[:len(frame):len(frame)]}
	c.queue.chunks = append(c.queue.chunks, ch)
	c.note(ch, to, 0, len(frame), deadline)
	c.sent(now)
	c.mark()
}

// Asking is the command that lets the next one, or the next transaction, use a
// slot that is being imported.
const Asking = "*1\r\n$6\r\nASKING\r\n"

var asking = []byte(Asking)

// SendAsking queues ASKING and frame next to each other in one buffer, so that
// they leave in one write and nothing comes between. asked gets the reply to ASKING.
func (c *Conn) SendAsking(asked, to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	ch := c.queue.reserve(len(asking) + len(frame))
	c.put(ch, asked, asking, 0)
	c.put(ch, to, frame, deadline)
	c.sent(now)
	c.mark()
}

// SendBlock queues several frames next to each other, so that they leave in one
// write and nothing comes between: block[:ends[0]], block[ends[0]:ends[1]]...
// The replies go to each, that of the last one, which alone has a deadline, to
// last.
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
	c.sent(now)
	c.mark()
}

func (c *Conn) put(ch *chunk, to Receiver, frame []byte, deadline int64) {
	off := len(ch.buf)
	ch.buf = append(ch.buf, frame...)
	c.note(ch, to, off, len(frame), deadline)
}

// SentScript tells the connection that the request that was just sent runs code of the
// user's: its node may be busy with it for long.
func (c *Conn) SentScript(now int64) {
	if c.fifo.n == 0 || c.fifo.at(0).pos >= c.script {
		c.scriptAt = now
	}
	c.script = c.queue.pos
}

// Stuck reports whether a script is unanswered and the node has sent nothing over this
// connection for the duration silence. Until a script ends, Redis reads nothing more
// from the connection it came from; it answers other connections with BUSY.
func (c *Conn) Stuck(now int64, silence time.Duration) bool {
	return c.state == Ready && !c.hold && c.asked() && c.fifo.at(0).pos < c.script &&
		now-max(c.heard, c.scriptAt) >= int64(silence)
}

// Late reports whether the node has sent nothing over this connection for the duration
// silence, though it has had a request for as long.
func (c *Conn) Late(now int64, silence time.Duration) bool {
	if c.state != Ready || c.hold || !c.asked() || now-max(c.heard, c.moved) < int64(silence) {
		return false
	}
	for i := range c.fifo.n {
		if e := c.fifo.at(i); e.deadline != 0 {
			return now-(e.deadline-int64(c.set.RequestTimeout)) >= int64(silence)
		}
	}
	return false
}

// Excuse tells the connection that its node is busy with a script, as the node has said
// over another connection: no request is overdue for one more request timeout.
func (c *Conn) Excuse(now int64) { c.moved = now }

func (c *Conn) note(ch *chunk, to Receiver, off, n int, deadline int64) {
	ch.refs++
	c.fifo.push(entry{to: to, chunk: ch, off: off, len: n, pos: c.queue.pos, deadline: deadline})
	c.queue.pos += uint64(n)
	c.queue.held += n
}

// NextWrite is what should be written to the socket now; empty for nothing.
// The shell reports with Wrote how much of it was taken.
func (c *Conn) NextWrite() []byte {
	switch c.state {
	case Greeting:
		return c.greeting[c.greeted:]
	case Ready:
		return c.queue.next()
	}
	return nil
}

// Wrote reports that n bytes of NextWrite were taken by the socket.
func (c *Conn) Wrote(n int) {
	c.Stats.BytesOut += uint64(n)
	if c.state == Greeting {
		c.greeted += n
		return
	}
	c.taken = c.taken || c.short
	c.short = c.queue.wrote(n)
}

// Connected reports that the socket is connected.
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

// Received takes bytes that the node sent. They are not kept.
func (c *Conn) Received(b []byte, now int64) {
	c.Stats.BytesIn += uint64(len(b))
	c.heard = now
	for len(b) > 0 {
		if c.state != Ready && c.state != Greeting {
			return
		}
		if c.state == Ready && !c.asked() && c.Listener == nil && !(c.Pushes != nil && c.pushed(b)) {
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
		if !done || c.mid || len(c.part) > 0 {
			c.moved = now
		}
		if !done && !c.mid && len(c.part)+len(piece) < holdBack {
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

// noReply passes on a message, or a piece of one, that is no reply to a request. It
// returns what is wrong with it, "" if nothing is.
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

// asked reports whether a request waits whose reply may come: one that has been
// written, or has begun to be. (A node may refuse a long one by its header.)
func (c *Conn) asked() bool { return c.fifo.n > 0 && c.fifo.at(0).pos < c.queue.written }

// deliver hands a piece of a reply on. It returns what is wrong with it, if it
// is a fence's.
func (c *Conn) deliver(piece []byte, done bool, now int64) (wrong string) {
	first := !c.mid
	c.mid = !done
	p := Piece{Bytes: piece, First: first, Last: done, Kind: c.scan.Kind()}
	if !done {
		if first {
			c.began = c.heard
		}
		if e := c.fifo.at(0); e.to != nil {
			e.to.Reply(c, e.frame(), p)
		}
		c.part = c.part[:0]
		return ""
	}
	// The entry goes before its reply is handed on: whatever Reply does to
	// this connection, it finds it between replies.
	e := c.fifo.pop()
	c.set.big += c.fifo.trim()
	c.served = true
	if e.to != nil {
		if e.deadline != 0 && e.deadline <= now {
			c.moved = now // what is behind has waited for it
		}
		e.to.Reply(c, e.frame(), p)
		if e.to == (fence{}) {
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

// violate ends the connection since the node broke the protocol.
func (c *Conn) violate(now int64, reason string) {
	c.Stats.Violations++
	c.fail(now, reason)
}

// Fail reports that the socket could not be connected or has ended, or ends
// it. Everything pending fails; the shell is told to close the socket.
func (c *Conn) Fail(now int64, reason string) {
	// A socket that ends in its greeting may have been closed as any other; the node
	// is taken for one that cannot be reached when that happens over and over.
	c.end(now, reason, c.state == Dialing || c.state == Greeting && c.attempts > 5)
}

// fail ends the connection for a reason of our own.
func (c *Conn) fail(now int64, reason string) { c.end(now, reason, c.state != Ready) }

// end is Fail. refused: no connection to the node can be had for the moment.
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
	c.hold = false
	c.mark()
	c.reason = reason
	if was == Ready && (c.served || now-c.since >= int64(shortLife)) {
		c.attempts, c.refused = 0, false
		c.enter(Idle, now) // it was well; the next request, or Tick, dials
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

// pushed tells whether b goes on with, or begins, a push message.
func (c *Conn) pushed(b []byte) bool {
	if c.scan.Midway() {
		return c.scan.Kind() == '>'
	}
	return b[0] == '>'
}

// drop fails all that is pending, in the order it was sent. What a receiver sends
// again over this connection takes the same order.
func (c *Conn) drop(f Failure) {
	pending, written, mid := c.fifo, c.queue.written, c.mid
	c.fifo, c.mid, c.part, c.scan = fifo{}, false, nil, resp.Scanner{}
	c.moved, c.short, c.taken = 0, false, false
	c.greeting = nil
	chunks := c.queue.chunks
	c.queue = sendQueue{set: c.set, pos: c.queue.pos, written: c.queue.pos}
	for _, ch := range chunks {
		ch.refs++ // as long as it is in the queue's hands
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

// backoff is the time to the next attempt, in nanoseconds: exponential, with
// jitter over its upper half, so that many proxies do not return in step.
func (c *Conn) backoff() int64 {
	d := int64(backoffMax)
	if shift := c.attempts - 1; shift < 6 {
		d = min(d, int64(backoffMin)<<shift)
	}
	return d/2 + c.set.Rand.Int64N(d/2+1)
}

// Close ends the connection for good.
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
