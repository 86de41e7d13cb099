package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/tlsconn"
)

// securedNode is a node's socket that speaks TLS. While the handshake runs, its link is Dialing,
// so the connect timeout bounds both.
type securedNode struct {
	secured
	b     *backend
	cfg   *tls.Config
	shake *tlsconn.Handshake // nil: it has not begun, or is over
	ended error              // why the node's bytes have ended during the handshake
}

// nodeOf returns the node of a link. Of a node outside the table only the address is known.
func nodeOf(s *Server, l *pool.Link) router.Node {
	t := s.Table()
	if id, ok := t.ByAddr(l.Addr); ok {
		return t.Nodes[id]
	}
	return router.Node{Name: l.Addr, Addr: l.Addr}
}

// tlsOf returns how the next connection of a link is encrypted; nil: it is not.
func tlsOf(s *Server, l *pool.Link) *tls.Config {
	of := s.nodes.Load().TLS
	if of == nil {
		return nil
	}
	cfg := of(nodeOf(s, l))
	if cfg == nil || cfg.ServerName != "" {
		return cfg
	}
	cfg = cfg.Clone()
	cfg.ServerName, _, _ = net.SplitHostPort(l.Addr) // without a port, it cannot be connected to
	return cfg
}

// remedyFor returns what an operator can do about the reason why a link has ended.
func remedyFor(s *Server, l *pool.Link) string {
	if of := s.nodes.Load().Remedy; of != nil {
		return of(nodeOf(s, l), l.Reason())
	}
	return ""
}

// Ready implements loop.Handler.
func (s *securedNode) Ready(readable, writable bool) {
	if !s.b.current() || s.b.sock != socket(s) {
		return
	}
	switch {
	case s.b.connecting && (readable || writable):
		s.b.connecting = false
		if err := connected(s.below); err != nil {
			s.b.link.Fail(s.t.now, err.Error())
			return
		}
		s.begin()
		return
	case s.shake != nil:
		if writable {
			s.send(nil)
		}
		if readable && s.shake != nil {
			s.receive()
		}
		return
	}
	if writable {
		// The link may have nothing to write, but the connection itself.
		switch err := s.drain(); err {
		case nil:
		case errAgain:
			writable = false
		default:
			s.b.readRest(err)
			return
		}
	}
	s.b.Ready(readable, writable)
	s.tell()
}

// begin begins the handshake, in a goroutine that ends with the attempt to connect.
func (s *securedNode) begin() {
	s.b.link.Securing = true
	shake := tlsconn.NewClientHandshake(s.cfg, s.t.srv.host.toNodes, func(b []byte) {
		b = slices.Clone(b)
		s.t.loop.Post(func() { s.send(b) })
	})
	s.shake = shake
	s.below.Watch(true, false)
	go func() {
		err := shake.Run()
		s.t.loop.Post(func() { s.finished(err) })
	}()
}

// send sends bytes of the handshake after those that were not sent yet.
func (s *securedNode) send(b []byte) {
	if s.shake == nil {
		return // the attempt to connect has ended
	}
	if len(b) > 0 {
		s.keep(b)
	}
	if err := s.drain(); err != nil && err != errAgain {
		s.end(err)
		return
	}
	s.below.Watch(s.ended == nil, s.out != nil)
}

// receive passes bytes of the node to the handshake.
func (s *securedNode) receive() {
	n, err := s.below.Read(s.t.buf)
	switch {
	case err == errAgain:
	case err != nil:
		s.end(err)
	case s.shake.Received(s.t.buf[:n]) > maxUnread:
		s.b.link.Fail(s.t.now, "TLS handshake: the node sends more than it is asked for")
	}
}

// end ends the handshake soon. It may find the node's reason in what it has received.
func (s *securedNode) end(err error) {
	if err == io.EOF {
		err = errNodeClosed
	}
	s.ended = err
	s.below.Watch(false, false)
	s.shake.Abort(err)
}

// finished lets the link use the connection if the handshake has succeeded.
func (s *securedNode) finished(err error) {
	if s.shake == nil || !s.b.current() || s.b.sock != socket(s) || s.b.link.State() != pool.Dialing {
		return // the attempt to connect has ended
	}
	if err != nil {
		s.b.link.Fail(s.t.now, handshakeError(err).Error())
		return
	}
	s.conn, s.shake, s.behind = s.shake.Conn(), nil, true
	if s.err = s.ended; s.err == errNodeClosed {
		s.err = io.EOF
	}
	s.Watch(true, false)
	s.b.link.Connected(s.t.now)
	s.b.Ready(true, false)
	s.tell()
}

// Write counts bytes as written when their records are sealed, because the node can execute
// the commands of a record before the socket below has accepted those after it.
func (s *securedNode) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if err := s.drain(); err != nil {
			return n, err
		}
		plain := b[n:min(n+maxSealed, len(b))]
		records, err := s.conn.Seal(s.t.greetings.scratch[:0], plain)
		if err != nil {
			return n, err
		}
		s.t.greetings.scratch = records
		n += len(plain)
		wrote, err := s.below.Write(records)
		if err != nil && err != errAgain {
			return n, err
		}
		if wrote < len(records) {
			s.keep(records[wrote:])
		}
	}
	return n, nil
}

// Close drops what the socket below has not accepted: the link has given it up.
func (s *securedNode) Close() {
	if s.shake != nil {
		s.shake.Abort(io.ErrClosedPipe)
		s.shake = nil
	}
	if s.conn != nil && s.out == nil {
		_, _ = s.below.Write(s.conn.CloseNotify(s.t.greetings.scratch[:0])) // the node may have gone
	}
	s.t.worker.Buffers.Put(s.out)
	s.out, s.sent = nil, 0
	s.below.Close()
}

// reads implements owner.
func (b *backend) reads() bool { return b.sock != nil && !b.link.Paused() }

func handshakeError(err error) error { return fmt.Errorf("TLS handshake: %w", err) }

// secureStream does the handshake over a connection. If it fails, the connection is closed.
func secureStream(ctx context.Context, conn net.Conn, cfg *tls.Config) (net.Conn, error) {
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, handshakeError(err)
	}
	return secure, nil
}
