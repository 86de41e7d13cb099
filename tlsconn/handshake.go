package tlsconn

import (
	"crypto/tls"
	"sync"
	"time"
)

// Handshake is a handshake under way. Run runs it in a goroutine. The other methods may be
// called from any goroutine meanwhile, and do not block.
type Handshake struct {
	conn *Conn
	send func([]byte)  // sends sealed bytes to the peer; it is called in the goroutine of Run
	cpu  chan struct{} // a token for each handshake that may compute at a time

	mu      sync.Mutex
	in      []byte        // received and not yet read
	aborted error         // why the handshake ends
	waiting bool          // for bytes of the peer
	since   time.Time     // since when, while waiting
	more    chan struct{} // in or aborted has changed
}

// NewHandshake returns the server's side of a handshake by cfg with a peer that has sent in. send must copy the
// bytes, and send them to the peer. cpu has the capacity of how many handshakes may compute at
// a time.
func NewHandshake(cfg *tls.Config, in []byte, cpu chan struct{}, send func([]byte)) *Handshake {
	h := newHandshake(in, cpu, send)
	h.conn.tls = tls.Server(wire{h.conn}, cfg)
	return h
}

// NewClientHandshake is NewHandshake for the client's side. cfg must have a ServerName.
func NewClientHandshake(cfg *tls.Config, cpu chan struct{}, send func([]byte)) *Handshake {
	h := newHandshake(nil, cpu, send)
	h.conn.tls = tls.Client(wire{h.conn}, cfg)
	return h
}

func newHandshake(in []byte, cpu chan struct{}, send func([]byte)) *Handshake {
	h := &Handshake{conn: new(Conn), send: send, cpu: cpu, in: in, more: make(chan struct{}, 1)}
	h.conn.hs = h
	return h
}

// Run blocks until the handshake has succeeded, or returns why it has failed.
func (h *Handshake) Run() error {
	h.cpu <- struct{}{}
	defer func() { <-h.cpu }()
	return h.conn.tls.Handshake()
}

// Conn returns the connection once Run has returned nil. From then on Received must not be
// called. The caller must call Open soon: bytes may have arrived behind the handshake.
func (h *Handshake) Conn() *Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn.hs, h.conn.in = nil, h.in
	return h.conn
}

// Received passes bytes of the peer to the handshake. It copies them. It returns how many bytes
// the handshake has not read yet.
func (h *Handshake) Received(b []byte) (unread int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in = append(h.in, b...)
	h.wake()
	return len(h.in)
}

// Abort makes Run return err soon, unless what was received before says more.
func (h *Handshake) Abort(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.aborted == nil {
		h.aborted = err
		h.wake()
	}
}

// Waits returns how long the handshake has been waiting for bytes of the peer; 0 if it is not.
func (h *Handshake) Waits(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.waiting {
		return 0
	}
	return now.Sub(h.since)
}

func (h *Handshake) wake() {
	select {
	case h.more <- struct{}{}:
	default: // read has not noticed the last one yet
	}
}

// read returns bytes of the peer. While it waits for them, others may compute.
func (h *Handshake) read(b []byte) (int, error) {
	if n, err := h.take(b); n > 0 || err != nil {
		return n, err
	}
	<-h.cpu
	defer func() { h.cpu <- struct{}{} }()
	for {
		<-h.more
		if n, err := h.take(b); n > 0 || err != nil {
			return n, err
		}
	}
}

// take returns bytes that have arrived. If there are none, the handshake waits from now on.
func (h *Handshake) take(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := copy(b, h.in)
	h.in = h.in[n:]
	switch {
	case n > 0:
		h.waiting = false
	case h.aborted != nil:
		return 0, h.aborted
	case !h.waiting:
		h.waiting, h.since = true, time.Now()
	}
	return n, nil
}
