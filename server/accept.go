package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/proxyheader"
)

// origin is where a client comes from.
type origin struct {
	peer, local string // the addresses for logs and CLIENT LIST
	// isTrusted says that protected mode does not concern the client: it is of this machine, or
	// has proven by a certificate who it is.
	isTrusted bool
}

// over returns the origin of a client that has connected by TLS.
func (o origin) over(cfg *tls.Config) origin {
	o.isTrusted = o.isTrusted || cfg.ClientAuth == tls.RequireAndVerifyClientCert
	return o
}

// unixPeer is the address of clients over a socket file.
const unixPeer = "unix"

// originOf returns the origin of a client behind a socket's peer, which is not valid for a socket
// file. client is the address that a balancer has announced; not valid: there is none.
func originOf(peer, client netip.AddrPort, local string) origin {
	o := origin{peer: unixPeer, local: local, isTrusted: true}
	if peer.IsValid() {
		o.peer, o.isTrusted = peer.String(), peer.Addr().IsLoopback()
	}
	if client.IsValid() {
		o.peer, o.isTrusted = client.String(), o.isTrusted && client.Addr().IsLoopback()
	}
	return o
}

// The reasons why a connection does not become a client.
const (
	notAllowed   = "its address is not in clients.allow"
	notBalancer  = "its address is not in proxy_protocol.from, and this port is for balancers"
	noHeader     = "sends no PROXY protocol header, and this port expects one"
	brokenHeader = "sends a broken PROXY protocol header"
	lateHeader   = "has sent no PROXY protocol header in time"
	cutHeader    = "has closed the connection inside of the PROXY protocol header"
	extraHeader  = "sends a PROXY protocol header, and this port does not expect one"
	protected    = "protected mode: it is of another machine, and the default user needs no password"
)

// mayConnect reports whether a connection may become a client. If not, it has counted and logged
// it. balancers are those of its listener; nil: there are none. peer is not valid for a socket
// file.
func mayConnect(t *thread, balancers *config.Networks, peer netip.AddrPort) bool {
	switch {
	case balancers == nil:
		return isAllowed(t, peer)
	case balancers.Contain(peer.Addr()):
		return true // the client behind it may be elsewhere
	}
	refuseHeader(t, peer.String(), notBalancer)
	return false
}

// isAllowed reports whether clients.allow has the address. If not, it has counted and logged it.
func isAllowed(t *thread, peer netip.AddrPort) bool {
	allow := t.srv.cfg.Load().Clients.Allow
	if len(allow) == 0 || !peer.IsValid() || allow.Contain(peer.Addr()) {
		return true
	}
	t.worker.Stats.ClosedNetwork++
	t.srv.reports.refused(proxy.Refusal{Reason: notAllowed, Client: peer.String()})
	return false
}

// mayAnnounce reports whether the client that a balancer announces may connect. The balancer may
// connect for itself: its health checks announce nobody, or in version 1 its own address.
func mayAnnounce(t *thread, balancer, client netip.AddrPort) bool {
	return !client.IsValid() || client.Addr() == balancer.Addr() || isAllowed(t, client)
}

// refuseHeader counts and logs a connection that breaks the rules of the PROXY protocol.
func refuseHeader(t *thread, peer, reason string) {
	t.worker.Stats.ClosedHeader++
	t.srv.reports.refused(proxy.Refusal{Reason: reason, Client: peer})
}

// protect refuses a client of another machine while clients need no password, as Redis does.
func (c *client) protect(from origin) {
	w := c.t.worker
	if from.isTrusted || !c.t.srv.cfg.Load().ProtectedMode || !w.Options.Users.Default.Admits() {
		return
	}
	w.Stats.ClosedProtected++
	w.LogRefusal(c.session, protected)
	c.session.AnswerError(nil, errtext.Protected)
	c.session.CloseAfter()
}

// closeForbidden closes the clients that clients.allow does not have any more, once they have
// read the replies to what they have sent.
func closeForbidden(t *thread) {
	t.worker.Each(func(s *proxy.Session) {
		// The address of a client over a socket file cannot be parsed, and is not valid.
		if peer, _ := netip.ParseAddrPort(s.Peer()); !isAllowed(t, peer) {
			s.CloseAfter()
		}
	})
	for g := range t.greetings.all {
		if peer, _ := netip.ParseAddrPort(g.from.peer); !isAllowed(t, peer) {
			g.close()
		}
	}
}

// headerTimeout is how long a balancer may take to send the header.
const headerTimeout = 5 * time.Second

// announcement is a connection of a balancer that has not sent its whole header. It costs no
// goroutine, and memory only for the bytes of an incomplete header.
type announcement struct {
	t        *thread
	of       *listener
	sock     movable
	peer     netip.AddrPort
	local    string
	deadline int64
	received []byte
	refused  bool // the balancer only has to read why
}

// movable is a socket that can get another handler.
type movable interface {
	socket
	Handle(h loop.Handler)
}

// await waits for the header of a balancer's connection that was admitted.
func (t *thread) await(of *listener, sock movable, peer netip.AddrPort, local string) {
	a := &announcement{
		t: t, of: of, sock: sock, peer: peer, local: local, deadline: t.now + int64(headerTimeout),
	}
	if t.announcements == nil {
		t.announcements = map[*announcement]struct{}{}
	}
	t.announcements[a] = struct{}{}
	sock.Handle(a)
}

// enter makes a connection a client, or begins the handshake with it. received is what it has
// sent so far.
func (t *thread) enter(cfg *security, sock movable, from origin, received []byte) {
	if cfg != nil {
		g := t.greet(cfg, from)
		g.sock.below = sock
		sock.Handle(g.sock)
		if len(received) > 0 {
			g.received(received)
		}
		return
	}
	c := &client{t: t}
	sock.Handle(c)
	c.open(sock, from)
	if len(received) > 0 {
		t.worker.Received(c.session, received)
	}
}

// Ready implements loop.Handler.
func (a *announcement) Ready(readable, _ bool) {
	if !readable {
		return
	}
	b := a.t.buf[:greetRead]
	n, err := a.sock.Read(b)
	switch {
	case err == errAgain:
	case err != nil && (a.refused || len(a.received) == 0):
		a.close() // it has only looked whether the port is open
	case err != nil:
		refuseHeader(a.t, a.peer.String(), cutHeader)
		a.close()
	case !a.refused:
		a.parse(b[:n])
	}
}

// parse looks for the whole header in what was received, of which b is the last.
func (a *announcement) parse(b []byte) {
	t := a.t
	if len(a.received) > 0 {
		a.received = append(a.received, b...)
		b = a.received
	}
	client, n, err := proxyheader.Parse(b)
	switch {
	case err == proxyheader.ErrMore:
		if len(a.received) == 0 {
			a.received = append(a.received, b...)
		}
		return
	case err != nil:
		a.refuse(err)
		return
	case !mayAnnounce(t, a.peer, client):
		a.close()
		return
	}
	delete(t.announcements, a)
	a.t = nil
	t.enter(a.of.tls.Load(), a.sock, originOf(a.peer, client, a.local), b[n:])
}

// refuse closes a connection without a header when the peer has read why, or soon.
func (a *announcement) refuse(err error) {
	reason := noHeader
	if errors.Is(err, proxyheader.ErrBroken) {
		reason = brokenHeader
	}
	refuseHeader(a.t, a.peer.String(), reason)
	a.refused, a.received = true, nil
	a.deadline = min(a.deadline, a.t.now+int64(lingering))
	// A new connection has room for one line. If it has not, the log says why.
	_, _ = a.sock.Write([]byte(wantsHeader))
	a.sock.CloseWrite()
}

// wantsHeader is the reply to a client that connects without a balancer.
const wantsHeader = "-ERR keyway: this port expects the PROXY protocol of a balancer\r\n"

// close ends a connection that does not become a client.
func (a *announcement) close() {
	a.sock.Close()
	delete(a.t.announcements, a)
	a.t.dismiss()
}

// tickAnnouncements closes connections whose header takes too long.
func tickAnnouncements(t *thread) {
	for a := range t.announcements {
		if a.deadline <= t.now {
			if !a.refused {
				refuseHeader(t, a.peer.String(), lateHeader)
			}
			a.close()
		}
	}
}

// readHeader reads the header of a balancer's connection. The connection that it returns begins
// behind the header. It blocks for at most headerTimeout. reason is empty on success, and
// neither is set if the peer has sent nothing.
func readHeader(conn net.Conn) (behind net.Conn, client netip.AddrPort, reason string) {
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	var received []byte
	b := make([]byte, 4<<10)
	for {
		n, err := conn.Read(b)
		received = append(received, b[:n]...)
		client, length, parseErr := proxyheader.Parse(received)
		timeout, isNet := errors.AsType[net.Error](err)
		switch {
		case len(received) > 0 && parseErr == nil:
			return &readBefore{conn, received[length:]}, client, ""
		case len(received) > 0 && parseErr != proxyheader.ErrMore:
			_ = conn.SetWriteDeadline(time.Now().Add(lastWrite))
			_, _ = io.WriteString(conn, wantsHeader)
			if errors.Is(parseErr, proxyheader.ErrBroken) {
				return nil, client, brokenHeader
			}
			return nil, client, noHeader
		case isNet && timeout.Timeout():
			return nil, client, lateHeader
		case err != nil && len(received) > 0:
			return nil, client, cutHeader
		case err != nil:
			return nil, client, ""
		}
	}
}

// readBefore is a connection of which some bytes were read before.
type readBefore struct {
	net.Conn
	read []byte
}

func (c *readBefore) Read(b []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.read)
	c.read = c.read[n:]
	return n, nil
}

// peerOf returns the address of a connection's peer, not valid for a socket file.
func peerOf(conn net.Conn) netip.AddrPort {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := tcp.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// apply makes the next connections to the listener follow the configuration.
func (l *listener) apply(of *config.Listener) {
	l.secure(of.TLS)
	l.balancers.Store(nil)
	if of.Proxy != nil {
		l.balancers.Store(&of.Proxy.From)
	}
}
