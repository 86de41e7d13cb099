package server

import (
	"crypto/tls"
	"errors"
	"io"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/proxy"
)

// socket moves bytes between the loop and a peer. It is either a descriptor that epoll
// watches (fd) or a pair of goroutines (stream). Its methods do not block.
type socket interface {
	// Read reads received bytes. It returns errAgain if there are none, and io.EOF at the
	// end.
	Read(b []byte) (int, error)
	// Write writes as many bytes as possible without blocking. It returns errAgain if
	// that is none.
	Write(b []byte) (int, error)
	// Watch selects the events for which the handler's Ready is called.
	Watch(read, write bool)
	Close()
}

var errAgain = errors.New("not now")

// client is a client's socket and its session.
type client struct {
	t        *thread
	sock     socket
	session  *proxy.Session
	gone     bool
	isPutOff bool // its output waits: it is in the thread's putOff
}

// open begins the session.
func (c *client) open(sock socket, from origin) {
	c.sock = sock
	c.session = c.t.worker.Open(c, from.peer, from.local)
	c.t.srv.reports.client("client accepted", c)
	c.protect(from)
}

// identify makes a client that has just done the handshake the user that its certificate names,
// if the listener says that it does.
func (c *client) identify(by *config.TLS, s tls.ConnectionState) {
	if by.UserFrom == "" || len(s.VerifiedChains) == 0 {
		return
	}
	names := by.Users(s.VerifiedChains[0][0])
	if !proxy.Identify(c.t.worker, c.session, names) {
		c.t.srv.reports.unnamed(c.session.Peer(), names)
	}
}

// Ready writes the session's output to the client's socket, and passes the bytes that the
// client has sent to the session.
func (c *client) Ready(readable, writable bool) {
	if c.gone {
		return
	}
	if writable {
		c.flush()
	}
	if !readable || c.gone {
		return
	}
	n, err := c.sock.Read(c.t.buf)
	switch {
	case err == nil:
		c.t.worker.Received(c.session, c.t.buf[:n])
	case err == io.EOF:
		c.t.worker.EOF(c.session)
	case err != errAgain:
		c.close()
	}
}

// flush writes the session's output, and watches the socket for what the session needs
// next.
func (c *client) flush() {
	s := c.session
	c.isPutOff = false
	for !c.gone && !s.Dead() {
		b := s.Output()
		if len(b) == 0 {
			break
		}
		n, err := c.sock.Write(b)
		if n > 0 {
			s.Wrote(n)
		}
		if err == errAgain || err == nil && n < len(b) {
			break
		}
		if err != nil {
			c.close()
			return
		}
	}
	if s.ShouldClose() {
		c.close()
		return
	}
	c.sock.Watch(s.Reading(), s.Pending() > 0)
}

// reads implements owner.
func (c *client) reads() bool { return !c.gone && c.session.Reading() }

func (c *client) close() {
	if c.gone {
		return
	}
	c.gone = true
	c.t.srv.reports.client("client gone", c)
	c.sock.Close()
	c.t.worker.Gone(c.session)
	c.t.dismiss()
}

// admit counts a new client, and reports whether there is room for it. If there is not,
// the client is not counted.
func (t *thread) admit() bool {
	t.srv.host.open.Add(1)
	if t.srv.clients.Add(1) > t.srv.maxClients.Load() || !t.srv.host.hasRoom() {
		t.dismiss()
		return false
	}
	return true
}

func (t *thread) dismiss() {
	t.srv.clients.Add(-1)
	t.srv.host.open.Add(-1)
}
