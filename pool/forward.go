package pool

// Forwarder is a Receiver whose client may get bytes of the reply from the node's socket without the process
// seeing them.
type Forwarder interface {
	Receiver
	// ForwardsTo returns the client to whom the next piece of the reply would go at once and unchanged. nil: it
	// would not.
	ForwardsTo() any
	// Forwarded is called instead of Reply for n bytes that the client's socket has accepted.
	Forwarded(n int)
}

const (
	// minForwarded is the smallest number of bytes that Forwardable offers. Fewer are copied sooner than moved.
	minForwarded = 32 << 10
	// forwardedTail is how many bytes of a string are left for Received. They come with the end of the reply, so
	// that it leaves in the same write.
	forwardedTail = 8 << 10
)

// Forwardable returns how many bytes that the node sends next are the inside of one string in a reply, and the client
// who gets them as they are. n is 0 if the caller has to pass all bytes to Received. Otherwise it may move up to n
// bytes from the node's socket to the client's, and then calls Forwarded.
func Forwardable(l *Link) (to any, n int) {
	if l.input.scan.Payload() < minForwarded+forwardedTail || l.state != Ready {
		return nil, 0
	}
	c, ok := l.traffic.(*Conn)
	if !ok || !c.midReply {
		return nil, 0
	}
	if by, ok := c.fifo.at(0).to.(Forwarder); ok {
		to = by.ForwardsTo()
	}
	if to == nil {
		return nil, 0
	}
	return to, int(min(c.input.scan.Payload()-forwardedTail, maxMessage))
}

// IsLargeNext reports whether the next reply is known to be large. The caller should read little of it at first: it can
// move the rest.
func IsLargeNext(l *Link) bool {
	c, ok := l.traffic.(*Conn)
	return ok && c.LargeNext
}

// Forwarded records that n of the bytes that Forwardable has offered have gone from the node's socket to the client's.
func Forwarded(l *Link, n int, now int64) {
	c := l.traffic.(*Conn)
	l.Stats.BytesIn += uint64(n)
	l.lastReceived, l.progress.at = now, now
	c.input.scan.Skip(n)
	c.fifo.at(0).to.(Forwarder).Forwarded(n)
}
