package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/proxy"
)

// stream is a socket with two goroutines that exchange bytes with the loop through its
// mailbox. Systems without epoll use it, and connections that are more than a
// descriptor.
//
//	reader: conn.Read(in) --post--> Ready(readable) --Read copies--> resume
//	writer: <--out-- Write copies;  conn.Write(out) --post--> Ready(writable)
type stream struct {
	loop    *loop.Loop
	handler loop.Handler
	conn    net.Conn

	// Used by the loop only.
	in      []byte // bytes that the reader has read and the owner has not; the reader waits meanwhile
	inErr   error
	reading bool // the reader is reading, or its bytes are in the mailbox
	want    bool // the owner wants to read
	busy    bool // the writer is writing
	outErr  error
	wantOut bool // the owner wants to write
	closed  bool
	last    bool // nothing follows what the writer is writing

	resume chan struct{} // makes the reader read again
	out    chan []byte
	done   sync.WaitGroup
}

const streamBuffer = 32 << 10

// lastWrite is the time limit for writing the last bytes after Close.
const lastWrite = time.Second

func newStream(l *loop.Loop, conn net.Conn, h loop.Handler) *stream {
	s := &stream{
		loop: l, handler: h, conn: conn, reading: true, want: true,
		resume: make(chan struct{}, 1), out: make(chan []byte, 1),
	}
	s.done.Add(2)
	go s.readLoop()
	go s.writeLoop()
	return s
}

func (s *stream) readLoop() {
	defer s.done.Done()
	buf := make([]byte, streamBuffer)
	for {
		n, err := s.conn.Read(buf)
		s.loop.Post(func() {
			s.reading, s.in, s.inErr = false, buf[:n], err
			s.notify()
		})
		if err != nil {
			return
		}
		if _, ok := <-s.resume; !ok {
			return
		}
	}
}

func (s *stream) writeLoop() {
	defer s.done.Done()
	defer s.conn.Close()
	for b := range s.out {
		_, err := s.conn.Write(b)
		s.loop.Post(func() {
			s.busy = false
			s.outErr = err
			if s.last && !s.closed {
				s.closeWrite()
			}
			if !s.closed && s.wantOut {
				s.handler.Ready(false, true)
			}
		})
		if err != nil {
			for range s.out { // until Close
			}
			return
		}
	}
}

// notify calls the handler as long as it wants to read and there are bytes or an error.
func (s *stream) notify() {
	for !s.closed && s.want && !s.reading {
		s.handler.Ready(true, false)
		if s.inErr != nil && len(s.in) == 0 {
			return
		}
	}
}

func (s *stream) Read(b []byte) (int, error) {
	if s.reading {
		return 0, errAgain
	}
	if len(s.in) == 0 && s.inErr != nil {
		if s.inErr != io.EOF {
			return 0, s.inErr
		}
		return 0, io.EOF
	}
	n := copy(b, s.in)
	if s.in = s.in[n:]; len(s.in) == 0 && s.inErr == nil {
		s.reading = true
		s.resume <- struct{}{}
	}
	return n, nil
}

func (s *stream) Write(b []byte) (int, error) {
	if s.outErr != nil {
		return 0, s.outErr
	}
	if s.busy {
		return 0, errAgain
	}
	n := min(len(b), streamBuffer)
	s.busy = true
	s.out <- append([]byte(nil), b[:n]...)
	return n, nil
}

func (s *stream) Watch(read, write bool) {
	s.wantOut = write
	if read && !s.want {
		s.want = true
		s.loop.Post(s.notify)
	}
	s.want = read
}

func (s *stream) Cork()   {}
func (s *stream) Uncork() {}

func (s *stream) CloseWrite() {
	if s.last = true; !s.busy {
		s.closeWrite()
	}
}

// closeWrite ends what is written. A connection that speaks TLS may have to wait for its last
// record.
func (s *stream) closeWrite() {
	switch conn := s.conn.(type) {
	case *tls.Conn:
		go conn.CloseWrite() //nolint:errcheck // an error means that the peer has gone
	case interface{ CloseWrite() error }:
		_ = conn.CloseWrite() // as above
	}
}

func (s *stream) Close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.busy { // the writer closes conn after it has written its bytes
		_ = s.conn.SetDeadline(time.Now().Add(lastWrite))
	} else {
		closeSoon(s.conn)
	}
	close(s.resume)
	close(s.out)
}

// closeSoon closes a connection. One that speaks TLS first sends a record, for which it may have
// to wait.
func closeSoon(conn net.Conn) {
	if _, ok := conn.(*tls.Conn); ok {
		go conn.Close()
		return
	}
	conn.Close()
}

// acceptStreams accepts clients for t until ln, a socket of the listener, is closed.
func (s *Server) acceptStreams(t *thread, of *listener, ln net.Listener) {
	pause, local := time.Duration(0), ln.Addr().String()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if isClosed(err) {
				return
			}
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			s.log.Warn("cannot accept clients for now", "error", err, "pause_ms", pause.Milliseconds())
			time.Sleep(pause)
			continue
		}
		pause = 0
		to := withFewest(t)
		isAdmitted := to.admit() // now, since the next client is to see that the thread has one more
		to.loop.Post(func() { to.receiveStream(of, conn, local, isAdmitted) })
	}
}

// receiveStream serves a connection that was accepted, or refuses it.
func (t *thread) receiveStream(of *listener, conn net.Conn, local string, isAdmitted bool) {
	cfg, balancers, peer := of.tls.Load(), of.balancers.Load(), peerOf(conn)
	from := originOf(peer, netip.AddrPort{}, local)
	mayStay := mayConnect(t, balancers, peer)
	if isAdmitted && (!mayStay || t.draining) {
		t.dismiss()
	}
	switch {
	case !mayStay:
		conn.Close()
	case t.draining || !isAdmitted:
		if reply := t.worker.Reject(); cfg == nil { // a client that speaks TLS could not read it
			_ = conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
			_, _ = conn.Write(reply)
		}
		t.srv.reports.refused(proxy.Refusal{
			Reason: "clients.max is reached, or keyway stops", Client: from.peer,
		})
		conn.Close()
	case balancers != nil:
		go func() {
			behind, client, reason := readHeader(conn)
			t.loop.Post(func() {
				switch {
				case behind != nil && !t.draining && mayAnnounce(t, peer, client):
					t.enterStream(cfg, behind, originOf(peer, client, local))
					return
				case reason != "":
					refuseHeader(t, from.peer, reason)
				}
				conn.Close()
				t.dismiss()
			})
		}()
	default:
		t.enterStream(cfg, conn, from)
	}
}

// enterStream makes an admitted connection a client, or begins the handshake with it.
func (t *thread) enterStream(cfg *security, conn net.Conn, from origin) {
	if cfg != nil {
		go t.greetStream(cfg, conn, from.over(cfg.Config))
		return
	}
	t.openStream(conn, from)
}

// openStream begins the session of an admitted client.
func (t *thread) openStream(conn net.Conn, from origin) *client {
	c := &client{t: t}
	c.open(newStream(t.loop, conn, c), from)
	return c
}

// greetStream does the TLS handshake with an admitted client, which becomes a client like others.
func (t *thread) greetStream(cfg *security, conn net.Conn, from origin) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	secure := tls.Server(conn, cfg.Config)
	err := secure.Handshake()
	_ = conn.SetDeadline(time.Time{})
	header, isPlain := errors.AsType[tls.RecordHeaderError](err)
	if isPlain = isPlain && header.Conn != nil; isPlain {
		_ = conn.SetWriteDeadline(time.Now().Add(lastWrite))
		_, _ = conn.Write([]byte(notTLS))
	}
	t.loop.Post(func() {
		switch {
		case err == nil && !t.draining:
			t.countHandshake(secure.ConnectionState())
			c := t.openStream(secure, from)
			c.identify(cfg.of, secure.ConnectionState())
			return
		case isPlain:
			t.refusePlain(from.peer)
		case err != nil:
			t.refuseHandshake(from.peer, err)
		}
		conn.Close()
		t.dismiss()
	})
}
