package server

import (
	"crypto/tls"
	"errors"
	"io"
	"time"

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
	// Cork makes the next writes wait for Uncork or CloseWrite, if the peer's system allows that.
	// So the last reply and the end of the stream leave in one packet.
	Cork()
	Uncork()
	// CloseWrite tells the peer that nothing more will follow. Reading goes on.
	CloseWrite()
	Close()
}

var errAgain = errors.New("not now")

// client is a client's socket and its session.
type client struct {
	t         *thread
	sock      socket
	session   *proxy.Session
	*farewell // nil until keyway stops
	gone      bool
	isPutOff  bool // its output waits: it is in the thread's waiting
	isAway    bool // another process serves it, or soon answers whether it does
	stays     bool // the process that replaces this one cannot take it
}

// clientGarbage is about how many bytes a client leaves as garbage when it leaves, and arrivalGarbage when it comes. So
// the memory of a burst of clients goes back to the system when they have left, and most of what accepting them took
// when they idle.
const (
	clientGarbage  = 1 << 10
	arrivalGarbage = 1 << 8
)

// open begins the session.
func (c *client) open(sock socket, from origin) {
	c.sock = sock
	c.session = c.t.worker.Open(c, from.peer, from.local)
	c.t.srv.reports.client("client accepted", c)
	c.t.srv.host.memory.add(arrivalGarbage)
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
	if c.isAway {
		return
	}
	if c.gone {
		c.discard()
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
	if c.isPutOff = false; c.isAway {
		return
	}
	if c.t.draining && !c.gone && c.mayLeave() && c.leave() {
		return
	}
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
		if c.t.draining && !s.Dead() {
			c.bid()
			return
		}
		c.close()
		return
	}
	c.sock.Watch(s.Reading(), s.Pending() > 0)
	if c.t.passage != nil {
		c.t.passage.next(c)
	}
}

// writeNow writes as much of b as the socket accepts, and returns how many bytes these are. If the socket has failed,
// flush will find that out.
func (c *client) writeNow(b []byte) int {
	if c.isAway || c.gone || c.t.draining {
		return 0
	}
	n, _ := c.sock.Write(b)
	return max(n, 0)
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
	c.t.srv.host.memory.add(clientGarbage)
}

// withFewest returns the thread that a new client should get: the one with the fewest clients, or t
// if it has hardly more. The kernel spreads connections over the threads' sockets by chance, so of
// 50 clients one thread of two may get 33.
func withFewest(t *thread) *thread {
	best, least, own := t, t.clients.Load(), t.clients.Load()
	for _, other := range t.srv.threads {
		if n := other.clients.Load(); n < least {
			best, least = other, n
		}
	}
	if own-least <= own/16 {
		return t // handing a client over costs more than it would gain
	}
	return best
}

// admit counts a new client, and reports whether there is room for it. If there is not,
// the client is not counted. Another thread may call it for t.
func (t *thread) admit() bool {
	if count(t, 1) > t.srv.maxClients.Load() || !t.srv.host.hasRoom(0) {
		t.dismiss()
		return false
	}
	return true
}

func (t *thread) dismiss() { count(t, -1) }

// count counts n clients more, and returns how many all threads have.
func count(t *thread, n int64) int64 {
	t.clients.Add(n)
	t.srv.host.open.Add(n)
	return t.srv.clients.Add(n)
}

// farewell is what a client needs that keyway closes because it stops. keyway first ends what it
// sends, and closes the socket when the client has closed its own, or soon. If the socket were
// closed at once, a command that the client is just sending would reset the connection, and the
// client might not read its last reply.
type farewell struct {
	tried   int64 // when leave was last called
	until   int64 // the socket is closed at the latest; 0: it is not lingering
	crossed bool  // the client has sent something in that time
}

func (c *client) needFarewell() {
	if c.farewell == nil {
		c.farewell = new(farewell)
	}
}

// lingerAtOnce is how long closed clients may linger if they are all closed at once.
const lingerAtOnce = 100 * time.Millisecond

// mayLeave reports whether leave should be called: once a turn, so that a client that always has
// more to send does not keep the thread busy.
func (c *client) mayLeave() bool {
	if c.needFarewell(); c.tried == c.t.now || !proxy.MayLeave(c.session) {
		return false
	}
	c.tried = c.t.now
	return true
}

// leave writes the remaining output to a client that may leave, and the end of the stream behind
// it. It does not if the client has sent something: that is served first.
func (c *client) leave() (left bool) {
	n, err := c.sock.Read(c.t.buf)
	switch {
	case err == nil:
		c.t.worker.Received(c.session, c.t.buf[:n])
		return false
	case err == io.EOF:
		c.t.worker.EOF(c.session)
		return false
	case err != errAgain:
		c.close()
		return true
	}
	c.sock.Cork()
	for b := c.session.Output(); len(b) > 0; b = c.session.Output() {
		n, err := c.sock.Write(b)
		if n > 0 {
			c.session.Wrote(n)
		}
		if err != nil || n < len(b) {
			c.sock.Uncork()
			return false
		}
	}
	c.part(false)
	return true
}

// bid is leave for a client of which keyway reads no more commands.
func (c *client) bid() {
	n, _ := c.sock.Read(c.t.buf)
	c.part(n > 0)
}

// part ends the session, and what is sent to the client.
func (c *client) part(isCut bool) {
	t := c.t
	proxy.Left(c.session, isCut)
	t.srv.reports.client("client closed, since keyway stops", c)
	c.gone = true
	t.worker.Gone(c.session)
	c.sock.CloseWrite()
	c.sock.Watch(true, false)
	c.needFarewell()
	c.until = t.now + t.linger
	t.lingering = append(t.lingering, c)
}

// discard reads what a lingering client sends, until it closes the connection.
func (c *client) discard() {
	if c.farewell == nil || c.until == 0 {
		return
	}
	n, err := c.sock.Read(c.t.buf)
	if n > 0 && !c.crossed {
		c.crossed = true
		c.t.worker.Stats.Crossed++
	}
	if err != nil && err != errAgain {
		c.depart()
	}
}

// depart closes the socket of a lingering client.
func (c *client) depart() {
	if c.until == 0 {
		return
	}
	c.until = 0
	c.sock.Close()
	c.t.dismiss()
}

// tickLingering closes the clients that have lingered for too long.
func tickLingering(t *thread) {
	for len(t.lingering) > 0 && (t.lingering[0].until <= t.now) {
		t.lingering[0].depart()
		t.lingering[0] = nil
		t.lingering = t.lingering[1:]
	}
}
