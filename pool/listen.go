package pool

// Listener receives the messages of a listening connection, which carries no requests.
// Its methods are called from within Received, Fail, Tick and Close.
type Listener interface {
	// Up reports that the connection is ready. It has no subscriptions yet.
	Up(c *Conn)
	// Said delivers one whole message, which is valid until Said returns.
	Said(c *Conn, message []byte)
	// Down reports that the connection has ended.
	Down(c *Conn)
}

// maxMessage bounds the size of a message. It is above Redis's own bulk limit.
const maxMessage = 600 << 20

// Tell queues a frame on a listening connection that is Ready. The node's answer arrives
// as a message.
func (c *Conn) Tell(frame []byte) {
	ch := c.queue.reserve(len(frame))
	ch.buf = append(ch.buf, frame...)
	c.queue.pos += uint64(len(frame))
	c.mark()
}

// Heard returns the time at which the node last sent bytes.
func (c *Conn) Heard() int64 { return c.lastReceived }

// Pushes receives the messages that a node pushes between the replies of a connection.
// Its methods are called from within Received, Fail and Tick.
type Pushes interface {
	// Pushed delivers one whole message, which is valid until Pushed returns.
	Pushed(c *Conn, message []byte)
	// Ready reports that the connection is ready and the node pushes from now on.
	Ready(c *Conn)
	// Lost reports that the connection has ended, and its undelivered messages with it.
	Lost(c *Conn)
}

// message collects the pieces of a message and passes it to to once it is complete. It
// returns false if the message is too long.
func (c *Conn) message(piece []byte, done bool, to func(*Conn, []byte)) bool {
	if !done || len(c.part) > 0 {
		c.part = append(c.part, piece...)
		piece = c.part
	}
	if !done {
		return len(c.part) <= maxMessage
	}
	to(c, piece)
	if cap(c.part) > 4*holdBack {
		c.part = nil
	} else {
		c.part = c.part[:0]
	}
	return true
}
