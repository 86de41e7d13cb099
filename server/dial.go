package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/pool"
)

// dial connects to the node. It looks up a host name each time, because addresses change,
// and outside the loop, because look-ups block.
func (t *thread) dial(b *backend) {
	if b.link.Addr == "" {
		b.link.Fail(t.now, errtext.NoSentinel)
		return
	}
	if t.inherited.serve(b) {
		return
	}
	addr, err := netip.ParseAddrPort(b.link.Addr)
	if err == nil && !t.srv.o.Streams {
		t.connectTo(b, addr)
		return
	}
	link, dials := b.link, b.link.Stats.Dials
	still := func() bool { return link.State() == pool.Dialing && link.Stats.Dials == dials }
	if t.srv.o.Streams {
		t.srv.dialStream(t, b, still)
		return
	}
	t.srv.resolve(link.Addr, func(addr netip.AddrPort, err error) {
		t.loop.Post(func() {
			switch {
			case !still():
			case err != nil:
				link.Fail(t.now, err.Error())
			default:
				t.connectTo(b, addr)
			}
		})
	})
}

func (t *thread) connectTo(b *backend, addr netip.AddrPort) {
	cfg := tlsOf(t.srv, b.link)
	if cfg == nil {
		t.open(b, addr, b, func(below socket) socket { return below })
		return
	}
	s := &securedNode{secured: secured{t: t, owner: b}, b: b, cfg: cfg}
	t.open(b, addr, s, func(below socket) socket {
		s.below = below
		return s
	})
}

// open begins to connect. h is the handler of the socket, and over returns the socket that the
// backend uses over it.
func (t *thread) open(b *backend, addr netip.AddrPort, h loop.Handler, over func(socket) socket) {
	below, err := t.connect(h, addr)
	if err != nil {
		b.link.Fail(t.now, err.Error())
		return
	}
	b.open(over(below))
	b.connecting = true
}

// resolve looks up a host name in a goroutine, which then calls done.
func (s *Server) resolve(addr string, done func(netip.AddrPort, error)) {
	go func() {
		ctx, cancel := context.WithTimeout(s.stop, s.cfg.Load().Backend.ConnectTimeout)
		defer cancel()
		done(lookup(ctx, addr))
	}()
}

// lookup returns an IP address of a host name, and the port.
func lookup(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %s: %w", addr, err)
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %s: %w", addr, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %s: %w", addr, err)
	}
	// Prefer IPv4, as net.Dial does: a name such as localhost often has an IPv6 address
	// on which no process listens.
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
		}
	}
	return netip.AddrPortFrom(ips[0], uint16(n)), nil
}

// dialStream dials in a goroutine and then gives the stream to the backend in the loop.
// still reports whether the connection still wants this attempt.
func (s *Server) dialStream(t *thread, b *backend, still func() bool) {
	addr, cfg := b.link.Addr, tlsOf(s, b.link)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Load().Backend.ConnectTimeout)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil && cfg != nil {
			conn, err = secureStream(ctx, conn, cfg)
		}
		t.loop.Post(func() {
			switch {
			case !still() || b.link.State() != pool.Dialing:
				if err == nil {
					conn.Close()
				}
			case err != nil:
				b.link.Fail(t.now, err.Error())
			default:
				b.open(newStream(t.loop, conn, b))
				b.link.Connected(t.now)
			}
		})
	}()
}
