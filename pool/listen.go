package pool

// Listener is who a listening connection speaks to: one that carries no
// requests, but what a node says by itself. Its methods are called from within
// Received, Fail, Tick and Close.
type Listener interface {
	// Up: the connection is ready, and the node knows nothing of it yet.
	Up(c *Conn)
	// Said brings one whole message, which is valid until Said returns.
	Said(c *Conn, message []byte)
	// Down: the connection has ended.
	Down(c *Conn)
}

// maxMessage bounds a message; Redis's own bulk limit lies below it.
const maxMessage = 600 << 20

// Tell queues a frame on a listening connection that is Ready; what the node
// answers comes as a message.
func (c *Conn) Tell(frame []byte) {
	ch := c.queue.reserve(len(frame))
	ch.buf = append(ch.buf, frame...)
	c.queue.pos += uint64(len(frame))
	c.mark()
}

// Heard is when the node last said something.
func (c *Conn) Heard() int64 { return c.heard }

// Pushes is who gets what a node pushes between the replies of a connection. Its
// methods are called from within Received, Fail and Tick.
type Pushes interface {
	// Pushed brings one whole message, which is valid until Pushed returns.
	Pushed(c *Conn, message []byte)
	// Ready: from now on the node pushes.
	Ready(c *Conn)
	// Lost: the connection has ended, and what was to be pushed with it.
	Lost(c *Conn)
}

// message takes a piece of what a node says by itself, and gives it to whom it is
// for when it is whole. It tells false when it is too long.
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
