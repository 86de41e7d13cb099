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

// listen takes a piece of a message. It tells false when the message is too
// long.
func (c *Conn) listen(piece []byte, done bool) bool {
	if !done || len(c.part) > 0 {
		c.part = append(c.part, piece...)
		piece = c.part
	}
	if !done {
		return len(c.part) <= maxMessage
	}
	c.Listener.Said(c, piece)
	if cap(c.part) > 4*holdBack {
		c.part = nil
	} else {
		c.part = c.part[:0]
	}
	return true
}
