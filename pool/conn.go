package pool

import "fmt"

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

// Ender is a Receiver whose reply may leave the connection in a state in which nobody else can use
// it. Ends is called after Reply with an error reply. If it returns a reason, the
// connection ends before another reply is delivered.
type Ender interface {
	Ends(reply []byte) (reason string)
}

// LossObserver is a Receiver that has to know which requests its client sent after its
// own. When a connection ends, WillFail is called for all written requests, from the
// last to the first. Failed is called afterwards, from the first to the last.
type LossObserver interface {
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
	// WrittenAt is when the request was completely written; 0: it was not.
	WrittenAt int64
}

const (
	// defaultMaxQueued is Config.MaxQueued's default.
	defaultMaxQueued = 64 << 20
	// requestCost is the memory of a request besides its bytes: its entry and the
	// receiver's state. A million short commands would take a gigabyte if only their
	// bytes were counted.
	requestCost = 256
)

// Conn is a connection for requests: a Link, and the requests that wait for replies.
//
//	Send(GET a)  Send(GET b)                     Received("$1..$1..")
//	     |            |                                  |
//	     v            v                                  v
//	queue: [GET a][GET b] ---> socket ---> node ---> Scanner
//	fifo:  (c1)   (c2)  <------ each whole reply pops the front
type Conn struct {
	Link
	Pushes     Pushes // not nil: the node may push messages in RESP3
	CheckEvery int    // requests between two integrity checks; 0: no checks
	LargeNext  bool   // the next reply is known to be large; see IsLargeNext

	fifo       fifo
	midReply   bool  // the first pieces of the front entry's reply have been delivered
	replyBegan int64 // time of the first piece; see IsReplySlow
	unchecked  int   // requests since the last integrity check
	checkedAt  int64 // time of that check

	answered answered

	script   uint64 // stream position of the end of the last script; see SentScript
	scriptAt int64  // time at which the first unanswered script was sent
}

// Conn returns a new connection to addr. It does not dial yet.
func (s *Set) Conn(addr string, owner any) *Conn {
	c := &Conn{Link: Link{Addr: addr, Owner: owner, set: s}}
	c.queue.set, c.traffic = s, c
	return c
}

// InFlight returns the number of unanswered requests, including tombstones.
func (c *Conn) InFlight() int { return c.fifo.n }

// InFlightBytes returns the number of bytes of unanswered requests.
func (c *Conn) InFlightBytes() int { return c.queue.inFlightBytes }

// Full reports whether callers should stop sending for now.
func (c *Conn) Full() bool { return c.Memory() > c.set.MaxQueued }

// Memory returns the memory of unanswered requests in bytes.
func (c *Conn) Memory() int { return c.queue.inFlightBytes + c.fifo.n*requestCost }

// FrameFor returns the last unanswered request whose reply goes to a receiver, or nil. It is
// valid until the connection receives something or ends.
func (c *Conn) FrameFor(to Receiver) []byte {
	for i := c.fifo.n - 1; i >= 0; i-- {
		if e := c.fifo.at(i); e.to == to {
			return e.frame()
		}
	}
	return nil
}

// Send copies frame into the queue. to gets its reply. deadline 0 means no deadline. The
// caller must check ConnectError and Full first.
func (c *Conn) Send(to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	c.put(c.queue.reserve(len(frame)), to, frame, now, deadline)
	c.countRequest(now)
	c.mark()
}

// SendOwned is Send for a large frame. It takes ownership of frame's buffer instead of
// copying it.
func (c *Conn) SendOwned(to Receiver, frame []byte, now, deadline int64) {
	c.Open(now)
	c.queue.dropWritten()
	ch := &chunk{buf: frame[:len(frame):len(frame)], start: c.queue.pos}
	c.queue.chunks = append(c.queue.chunks, ch)
	c.enqueue(ch, to, len(frame), now, deadline)
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
	c.put(ch, asked, asking, now, 0)
	c.put(ch, to, frame, now, deadline)
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
			c.put(ch, each, block[from:end], now, 0)
		} else {
			c.put(ch, last, block[from:end], now, deadline)
		}
		from = end
	}
	c.countRequest(now)
	c.mark()
}

func (c *Conn) put(ch *chunk, to Receiver, frame []byte, now, deadline int64) {
	ch.buf = append(ch.buf, frame...)
	c.enqueue(ch, to, len(frame), now, deadline)
}

func (c *Conn) enqueue(ch *chunk, to Receiver, n int, now, deadline int64) {
	ch.refs++
	c.fifo.push(entry{to: to, chunk: ch, len: n, pos: c.queue.pos, deadline: deadline, at: now})
	c.queue.pos += uint64(n)
	c.queue.inFlightBytes += n
}

// received implements traffic.
func (c *Conn) received(b []byte, now int64) {
	c.receive(b, now)
	c.answered.count(&c.Stats.Latency, now)
}

// receive is received without its counting.
func (c *Conn) receive(b []byte, now int64) {
	for len(b) > 0 && c.state == Ready {
		if !c.expectsReply() && !(c.Pushes != nil && c.pushed(b)) {
			c.Stats.Unsolicited++
			c.violate(now, fmt.Sprintf("the node sent what nobody asked for: %.40q", b))
			return
		}
		n, done, err := c.input.scan.Scan(b)
		if err != nil {
			c.violate(now, err.Error())
			return
		}
		piece, wrong := b[:n], ""
		b = b[n:]
		switch {
		case c.input.scan.Kind() == '>':
			wrong = c.push(piece, done)
		case done && !c.midReply && len(c.input.part) == 0:
			wrong = c.deliver(piece, true, now)
		default:
			wrong = c.receivedPart(piece, done, now)
		}
		if wrong != "" {
			c.violate(now, wrong)
			return
		}
	}
}

// receivedPart processes a piece of a reply that does not arrive at once. It buffers the
// piece, or delivers it with what was buffered before.
func (c *Conn) receivedPart(piece []byte, done bool, now int64) (wrong string) {
	c.progress.at = now
	if !done && !c.midReply && c.input.fits(piece) {
		c.input.part = append(c.input.part, piece...)
		return ""
	}
	return c.deliver(c.input.join(piece), done, now)
}

// expectsReply reports whether at least one byte of an unanswered request has been
// written. A node may answer before it has the whole request: it refuses a long one by
// its header.
func (c *Conn) expectsReply() bool { return c.fifo.n > 0 && c.fifo.at(0).pos < c.queue.written }

// deliver passes a piece of a reply to its receiver. It returns an error text if the
// reply is the wrong one for an integrity check.
func (c *Conn) deliver(piece []byte, done bool, now int64) (wrong string) {
	first := !c.midReply
	c.midReply, c.LargeNext = !done, false
	p := Piece{Bytes: piece, First: first, Last: done, Kind: c.input.scan.Kind()}
	if !done {
		if first {
			c.replyBegan = c.lastReceived
			c.countError(p)
		}
		if e := c.fifo.at(0); e.to != nil {
			e.to.Reply(c, e.frame(), p)
		}
		c.input.part = c.input.part[:0]
		return ""
	}
	// Remove the entry first: Reply may call methods of this connection, which must
	// then be between two replies.
	e := c.fifo.pop()
	c.set.garbage += c.fifo.trim()
	c.served = true
	c.answered.add(&e, &c.Stats.Latency, now)
	if e.to != nil {
		if e.deadline != 0 && e.deadline <= now {
			c.progress.at = now // the requests behind this one waited for it
		}
		e.to.Reply(c, e.frame(), p)
		if e.to == (integrityCheck{}) {
			wrong = outOfStep(e.frame(), piece)
		} else if p.Kind == '-' {
			c.countError(p)
			if to, ok := e.to.(Ender); ok {
				wrong = to.Ends(piece)
			}
		}
	} else {
		c.countError(p)
		if e.deadline != 0 {
			c.Stats.Late++
		}
	}
	c.input.clear()
	c.queue.answered(e.chunk, e.len)
	return wrong
}

// drop implements traffic: it fails all pending requests.
func (c *Conn) drop(reason string) { c.failAll(Failure{Reason: reason}) }

// answerAll implements traffic.
func (c *Conn) answerAll(reply []byte) {
	pending := c.fifo
	c.fifo = fifo{}
	chunks := c.reset()
	for _, ch := range chunks {
		ch.refs++ // until the loop at the end
	}
	for pending.n > 0 {
		e := pending.pop()
		if e.to != nil {
			e.to.Reply(c, e.frame(), Piece{Bytes: reply, First: true, Last: true, Kind: reply[0]})
		}
		c.set.unref(e.chunk)
	}
	c.set.garbage += pending.trim()
	for _, ch := range chunks {
		c.set.unref(ch)
	}
}

// failAll fails all pending requests in the order in which they were sent. If receivers
// send them again over this connection, they keep that order.
func (c *Conn) failAll(f Failure) {
	pending, written, mid := c.fifo, c.queue.written, c.midReply
	c.fifo, c.midReply = fifo{}, false
	chunks := c.reset()
	for _, ch := range chunks {
		ch.refs++ // until the loop at the end
	}
	for i := pending.n - 1; i >= 0; i-- {
		if e := pending.at(i); e.pos < written {
			if to, ok := e.to.(LossObserver); ok {
				to.WillFail(e.frame())
			}
		}
	}
	for first := true; pending.n > 0; first = false {
		e := pending.pop()
		if e.to != nil {
			f.Sent = e.pos < written
			f.WrittenAt = e.writtenAt(written)
			f.Midway = first && mid
			e.to.Failed(c, e.frame(), f)
		}
		c.set.unref(e.chunk)
	}
	c.set.garbage += pending.trim()
	for _, ch := range chunks {
		c.set.unref(ch)
	}
}
