package server

import (
	"io"

	"github.com/keyway-proxy/keyway/tlsconn"
)

// secured is a socket that speaks TLS, after the handshake. It opens and seals records in the
// loop, between the thread's buffers and the socket below. So an idle socket needs no buffer.
type secured struct {
	t     *thread
	below socket
	owner owner
	conn  *tlsconn.Conn

	out    []byte // records that the socket below has not accepted yet
	sent   int    // bytes of out that it has accepted
	sealed int    // bytes in out that Write has not reported as written; clients only

	err    error // why nothing more can be read
	told   bool  // Read has returned err
	posted bool  // the loop will tell err
	behind bool  // bytes may have arrived behind the handshake; they come before err
	ended  bool  // the peer was told that nothing more follows
}

// owner is what a secured socket belongs to: a client, or a link to a node.
type owner interface {
	// Ready is that of loop.Handler.
	Ready(readable, writable bool)
	// reads reports whether the owner wants to read from its socket.
	reads() bool
}

// securedClient is the socket of a client that speaks TLS.
type securedClient struct {
	secured
	greeting *greeting // nil: the handshake is over
	client   *client
}

// maxSealed is the most that Write seals at a time: a few records of the largest size.
const maxSealed = 64 << 10

// Ready implements loop.Handler.
func (s *securedClient) Ready(readable, writable bool) {
	if s.greeting != nil {
		s.greeting.ready(readable, writable)
		return
	}
	if writable {
		// The session may have nothing to write, but the connection itself.
		switch err := s.drain(); err {
		case nil:
		case errAgain:
			writable = false
		default:
			s.client.close()
			return
		}
	}
	s.client.Ready(readable, writable)
	s.tell()
}

// tell lets the owner read err, if it is reading: the socket below need not report it again.
func (s *secured) tell() {
	if s.err != nil && !s.told && s.owner.reads() {
		s.owner.Ready(true, false)
	}
}

// Read opens all records that have arrived. It keeps no contents back, so that the socket
// below always says whether there is more to read.
func (s *secured) Read(b []byte) (int, error) {
	if s.err != nil && !s.behind {
		s.told = true
		return 0, s.err
	}
	var sealed []byte
	if !s.behind {
		room := len(b) - tlsconn.MaxOverhead
		n, err := s.below.Read(s.t.greetings.readBuffer()[:room])
		switch {
		case err == io.EOF:
			s.err = s.conn.End()
			s.told = true
			return 0, s.err
		case err != nil:
			return 0, err
		}
		sealed = s.t.greetings.buffer[:n]
	}
	s.behind = false
	n, err := s.conn.Open(b, sealed)
	if err != nil {
		s.err = err
	}
	if out := s.conn.Output(); len(out) > 0 {
		s.keep(out)
		if err := s.drain(); err != nil && err != errAgain && s.err == nil {
			s.err = err
		}
	}
	switch {
	case n > 0:
		return n, nil
	case s.err != nil:
		s.told = true
		return 0, s.err
	}
	return 0, errAgain
}

// Write counts bytes as written when the socket below has accepted all of their records.
// Until then the caller passes them again, and the session counts them as unread by the client.
func (s *secured) Write(b []byte) (n int, err error) {
	for {
		if err := s.drain(); err != nil {
			return n, err
		}
		n += s.sealed
		s.sealed = 0
		if n == len(b) {
			return n, nil
		}
		plain := b[n:min(n+maxSealed, len(b))]
		records, err := s.conn.Seal(s.t.greetings.scratch[:0], plain)
		if err != nil {
			return n, err
		}
		s.t.greetings.scratch = records
		s.sealed = len(plain)
		wrote, err := s.below.Write(records)
		if err != nil && err != errAgain {
			return n, err
		}
		if wrote < len(records) {
			s.keep(records[wrote:])
		}
	}
}

// keep copies records that the socket below does not accept now.
func (s *secured) keep(records []byte) {
	if s.out == nil {
		s.out = s.t.worker.Buffers.Get(len(records))
	}
	s.out = append(s.out, records...)
}

// drain writes what keep has kept. It returns errAgain if the socket below does not accept
// all of it.
func (s *secured) drain() error {
	for s.sent < len(s.out) {
		n, err := s.below.Write(s.out[s.sent:])
		s.sent += n
		if err != nil {
			return err
		}
	}
	if s.out != nil {
		s.t.worker.Buffers.Put(s.out)
		s.out, s.sent = nil, 0
	}
	return nil
}

func (s *secured) Watch(read, write bool) {
	if s.err != nil {
		if read && !s.told && !s.posted {
			s.posted = true
			s.t.loop.Post(s.tell)
		}
		read = false
	}
	s.below.Watch(read, write || s.out != nil)
}

func (s *secured) Cork()   { s.below.Cork() }
func (s *secured) Uncork() { s.below.Uncork() }

func (s *secured) CloseWrite() {
	s.end()
	s.below.CloseWrite()
}

// end tells the peer that nothing was cut off. It gets no second chance to.
func (s *secured) end() {
	if !s.ended && s.drain() == nil {
		_, _ = s.below.Write(s.conn.CloseNotify(s.t.greetings.scratch[:0]))
	}
	s.ended = true
}

func (s *secured) Close() {
	s.end()
	s.t.worker.Buffers.Put(s.out)
	s.out, s.sent = nil, 0
	s.below.Close()
}
