package pool

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

// pushed reports whether b begins or continues a push message.
func (c *Conn) pushed(b []byte) bool {
	if c.input.scan.Midway() {
		return c.input.scan.Kind() == '>'
	}
	return b[0] == '>'
}

// push implements traffic. It passes on a push message if the connection allows any.
func (c *Conn) push(piece []byte, done bool) (wrong string) {
	if c.Pushes == nil {
		return c.unexpectedPush(piece, done)
	}
	whole, ok := c.input.message(piece, done)
	if !ok {
		return "a push message is too long"
	}
	if done {
		c.Pushes.Pushed(c, whole)
		c.input.clear()
	}
	return ""
}

// up implements traffic.
func (c *Conn) up(now int64) {
	c.unchecked, c.checkedAt = 0, now
	if c.Pushes != nil {
		c.Pushes.Ready(c)
	}
}

// ended implements traffic.
func (c *Conn) ended(was State) {
	if c.Pushes != nil && was == Ready {
		c.Pushes.Lost(c)
	}
}

// busy implements traffic.
func (c *Conn) busy() bool { return c.fifo.n > 0 }

// worksWhileBusy implements traffic.
func (c *Conn) worksWhileBusy() bool { return c.Pushes == nil }
