package tlsconn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Conn is one end of a connection after the handshake. It opens and seals records
// between slices; it has no socket. Its methods do not block.
type Conn struct {
	tls *tls.Conn
	in  []byte // sealed bytes that crypto/tls has not taken yet; only while Open runs, or after the handshake
	eof bool   // the peer sends no more bytes
	out []byte // sealed bytes that crypto/tls has written
	hs  *Handshake
}

// MaxOverhead is by how many bytes Open can return more than it was given: the rest of a
// record of which all but the last byte were given before.
const MaxOverhead = 17 << 10

// errWait is what crypto/tls gets when there are no bytes. It must be a temporary net.Error:
// all others end the connection.
var errWait net.Error = waitError{}

type waitError struct{}

func (waitError) Error() string   { return "no bytes yet" }
func (waitError) Timeout() bool   { return true }
func (waitError) Temporary() bool { return true }

// Open opens the records in sealed, and those that a previous call has left incomplete. It
// returns the length of the contents, which it writes to plain. plain must have room for
// len(sealed) + MaxOverhead bytes, because Open keeps no contents back.
//
// Open returns io.EOF when the peer has closed its side in the way of TLS, or another error
// when the connection is broken. n bytes are valid all the same. After each call the caller
// must send Output, which may answer a key update, or say why the connection is broken.
func (c *Conn) Open(plain, sealed []byte) (n int, err error) {
	switch {
	case len(c.in) == 0:
		c.in = sealed
	case len(sealed) > 0:
		c.in = append(c.in, sealed...)
	}
	for n < len(plain) {
		m, err := c.tls.Read(plain[n:])
		n += m
		if err == errWait {
			break
		}
		if err != nil {
			c.in = nil
			return n, err
		}
	}
	c.in = nil
	return n, nil
}

// End tells the connection that the peer's bytes have ended. It returns io.EOF, or
// io.ErrUnexpectedEOF in the middle of a record.
func (c *Conn) End() error {
	c.eof = true
	var none [1]byte
	for {
		if _, err := c.tls.Read(none[:]); err != nil {
			return err
		}
	}
}

// Seal appends the records with the contents plain to sealed.
func (c *Conn) Seal(sealed, plain []byte) ([]byte, error) {
	before := c.out
	c.out = sealed
	_, err := c.tls.Write(plain)
	sealed, c.out = c.out, before
	return sealed, err
}

// Output returns, once, the sealed bytes that the connection has to send by itself.
func (c *Conn) Output() []byte {
	out := c.out
	c.out = nil
	return out
}

// CloseNotify appends the record that ends this side of the connection.
func (c *Conn) CloseNotify(sealed []byte) []byte {
	before := c.out
	c.out = sealed
	_ = c.tls.CloseWrite() // an error means that the connection is broken: nothing is appended
	sealed, c.out = c.out, before
	return sealed
}

// State returns what the handshake has agreed on.
func (c *Conn) State() tls.ConnectionState { return c.tls.ConnectionState() }

// IsAlert reports whether err is an error of TLS with which the other side has ended a connection.
func IsAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// wire is the connection below crypto/tls.
type wire struct{ *Conn }

func (w wire) Read(b []byte) (int, error) {
	if w.hs != nil {
		return w.hs.read(b)
	}
	if len(w.in) > 0 {
		n := copy(b, w.in)
		w.in = w.in[n:]
		return n, nil
	}
	if w.eof {
		return 0, io.EOF
	}
	return 0, errWait
}

func (w wire) Write(b []byte) (int, error) {
	if w.hs != nil {
		w.hs.send(b)
		return len(b), nil
	}
	w.out = append(w.out, b...)
	return len(b), nil
}

func (wire) Close() error                     { return nil }
func (wire) LocalAddr() net.Addr              { return nil }
func (wire) RemoteAddr() net.Addr             { return nil }
func (wire) SetDeadline(time.Time) error      { return nil }
func (wire) SetReadDeadline(time.Time) error  { return nil }
func (wire) SetWriteDeadline(time.Time) error { return nil }

// ErrPlain is the error of a handshake with a client that does not speak TLS.
var ErrPlain = errors.New("the client does not speak TLS")

// recordHeader is the length of the header of a record; see RFC 8446, section 5.1.
const recordHeader = 5

// maxHello is the longest first record that a client may send.
const maxHello = 16<<10 + recordHeader

// Hello reports whether b, the first bytes of a client, begin with a complete record, which is
// enough to start the handshake. It returns ErrPlain, or another error, if they never will.
func Hello(b []byte) (complete bool, err error) {
	const (
		handshake    = 22
		majorVersion = 3
	)
	switch {
	case len(b) > 0 && b[0] != handshake, len(b) > 1 && b[1] != majorVersion:
		return false, ErrPlain
	case len(b) < recordHeader:
		return false, nil
	}
	n := recordHeader + int(b[3])<<8 + int(b[4])
	if n > maxHello {
		return false, fmt.Errorf("the first record announces %d bytes", n-recordHeader)
	}
	return len(b) >= n, nil
}
