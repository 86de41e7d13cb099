package server

import (
	"errors"
	"io"

	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/tlsconn"
)

var (
	errNodeClosed = errors.New("the node closed the connection")
	errPipe       = errors.New("bytes of a reply are lost in a pipe")
)

// backend is a node's socket and its link.
type backend struct {
	t          *thread
	link       *pool.Link
	sock       socket
	dials      uint64 // link.Stats.Dials when sock was opened
	connecting bool
	up         bool // the log has this link as reachable
	isPutOff   bool // its requests wait: it is in the thread's waiting
}

func (b *backend) Ready(readable, writable bool) {
	if !b.current() {
		return
	}
	now := b.t.now
	if b.connecting && (writable || readable) {
		b.connecting = false
		if err := connected(b.sock); err != nil {
			b.link.Fail(now, err.Error())
			return
		}
		b.sock.Watch(true, false)
		b.link.Connected(now)
		return
	}
	if writable {
		b.flush()
	}
	if !readable || !b.current() {
		return
	}
	b.read()
}

// current reports whether the socket belongs to the link's latest attempt to dial.
// It closes the socket of an earlier attempt, whose bytes must not count for the new one.
func (b *backend) current() bool {
	if b.dials != b.link.Stats.Dials {
		b.close()
	}
	return b.sock != nil
}

// read passes received bytes to the link. It fails the link if the socket has
// ended.
func (b *backend) read() error {
	isForwarded, err := b.forward()
	n := 0
	if !isForwarded {
		n, err = b.sock.Read(b.room())
	}
	switch {
	case err == nil && isForwarded:
	case err == nil:
		b.link.Received(b.t.buf[:n], b.t.now)
	case err == io.EOF:
		b.link.Fail(b.t.now, errNodeClosed.Error())
	case tlsconn.IsAlert(err): // with TLS 1.3, a node refuses keyway's certificate after the handshake
		pool.Refuse(b.link, b.t.now, err.Error())
	case err != errAgain:
		b.link.Fail(b.t.now, err.Error())
	}
	return err
}

// maxForwarded is how many bytes of a large reply may be moved in one turn.
const maxForwarded = 256 << 10

// largeHead is how much is read of a reply that is known to be large, so that the rest can be forwarded. A piece of
// that size is not kept until more arrives.
const largeHead = 16 << 10

// room returns the buffer to read into.
func (b *backend) room() []byte {
	if pool.IsLargeNext(b.link) && b.t.pipe.Open() {
		if _, isPlain := descriptorOf(b.sock); isPlain {
			return b.t.buf[:largeHead]
		}
	}
	return b.t.buf
}

// forward moves the inside of a large reply from the node's socket to the client's in the kernel, if that is what the
// node sends next and nothing else waits for the client. What the client's socket does not accept goes the way of all
// other bytes, so nothing stays in the pipe. forward returns false if it has done nothing.
func (b *backend) forward() (done bool, err error) {
	to, n := pool.Forwardable(b.link)
	if n == 0 {
		return false, nil
	}
	c, pipe := to.(*proxy.Session).Bind.(*client), &b.t.pipe
	from, isPlain := descriptorOf(b.sock)
	client, isPlainToo := descriptorOf(c.sock)
	if !isPlain || !isPlainToo || c.isAway || c.gone || b.t.draining || !pipe.Open() {
		return false, nil
	}
	switch _, err := pipe.Fill(from, min(n, maxForwarded)); err {
	case nil:
	case loop.ErrRefused:
		return false, nil
	case loop.ErrAgain:
		return true, errAgain
	default:
		return true, err
	}
	pool.Forwarded(b.link, pipe.Drain(client), b.t.now)
	for n := pipe.Read(b.t.buf); n > 0; n = pipe.Read(b.t.buf) {
		b.link.Received(b.t.buf[:n], b.t.now)
	}
	if !pipe.IsEmpty() { // never: a pipe gives back what is in it
		pipe.Close()
		return true, errPipe
	}
	return true, nil
}

// readRest fails a link whose socket cannot be written any more. It first reads what
// the node has sent: a node that refuses a request sends the reason before it closes.
func (b *backend) readRest(cause error) {
	dials := b.link.Stats.Dials
	isOpen := func() bool { return b.link.State() == pool.Ready || b.link.State() == pool.Greeting }
	for isOpen() && b.link.Stats.Dials == dials && b.read() == nil {
	}
	if b.link.Stats.Dials == dials {
		b.link.Fail(b.t.now, cause.Error())
	}
}

func (b *backend) flush() {
	for b.sock != nil && !b.connecting {
		out := b.link.NextWrite()
		if len(out) == 0 {
			b.sock.Watch(!b.link.Paused(), false)
			return
		}
		n, err := b.sock.Write(out)
		if n > 0 {
			b.link.Wrote(n, b.t.now)
		}
		if err == errAgain || err == nil && n < len(out) {
			b.sock.Watch(!b.link.Paused(), true)
			return
		}
		if err != nil {
			b.readRest(err)
			return
		}
	}
}

func (b *backend) hangup() {
	b.close()
	b.connecting, b.up = false, false
}

// open sets the socket of the link's latest attempt to dial.
func (b *backend) open(s socket) {
	b.sock, b.dials = s, b.link.Stats.Dials
	b.t.srv.host.open.Add(1)
}

func (b *backend) close() {
	if b.sock != nil {
		b.sock.Close()
		b.sock = nil
		b.t.srv.host.open.Add(-1)
	}
}

// serve performs a link's duty and writes its bytes.
func (t *thread) serve(l *pool.Link) {
	b, _ := l.Bind.(*backend)
	if b == nil {
		b = &backend{t: t, link: l}
		l.Bind = b
	}
	switch l.Duty() {
	case pool.Hangup:
		b.hangup()
		t.srv.reports.lost(l)
		if of := t.srv.nodes.Load().Refused; of != nil && pool.PasswordRefused(l) {
			of(nodeOf(t.srv, l))
		}
		if l.Epoch > t.srv.cfg.Load().Epoch() && t.srv.o.LaterEpoch != nil {
			t.srv.o.LaterEpoch(l)
		}
	case pool.Dial:
		b.hangup()
		t.srv.reports.dialing(l)
		t.dial(b)
		return
	}
	b.flush()
	if b.link.State() == pool.Ready && !b.up {
		b.up = true
		t.srv.reports.found(l)
		t.srv.reports.behind(l, t.srv.cfg.Load().Epoch())
	}
}
