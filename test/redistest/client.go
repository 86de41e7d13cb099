package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Reply is one reply, or one push message of RESP3.
type Reply struct {
	Kind  byte // '+', '-', ':', '$', '*' or a type byte of RESP3
	Text  string
	Int   int64
	Null  bool
	Elems []Reply
}

func (r Reply) String() string {
	switch {
	case r.Null:
		return "(nil)"
	case r.Elems != nil || strings.IndexByte("*%~>", r.Kind) >= 0:
		parts := make([]string, len(r.Elems))
		for i, e := range r.Elems {
			parts[i] = e.String()
		}
		return "[" + strings.Join(parts, " ") + "]"
	case r.Kind == ':':
		return strconv.FormatInt(r.Int, 10)
	case r.Kind == '-':
		return "-" + r.Text
	}
	return r.Text
}

// Client is a simple client: it has one connection and does not retry.
type Client struct {
	t    testing.TB
	Conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

// ioTimeout bounds every read and write.
const ioTimeout = 60 * time.Second

// TryDial connects to addr, which is a host:port or the path of a socket file.
func TryDial(addr string) (*Client, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return newClient(conn), nil
}

func newClient(conn net.Conn) *Client {
	return &Client{Conn: conn, r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriterSize(bounded{conn}, 64<<10)}
}

// bounded is a connection whose writes take ioTimeout at most, each, also those of a full buffer.
type bounded struct{ net.Conn }

func (b bounded) Write(p []byte) (int, error) {
	b.SetWriteDeadline(time.Now().Add(ioTimeout))
	return b.Conn.Write(p)
}

// Dial connects to addr, or fails the test. It closes the connection when the test ends.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	c, err := TryDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	t.Cleanup(c.Close)
	return c
}

// Ask sends one command over a connection of its own. It returns the zero Reply if the
// connection fails.
func Ask(addr string, args ...string) Reply {
	c, err := TryDial(addr)
	if err != nil {
		return Reply{}
	}
	defer c.Close()
	r, err := c.TryDo(args...)
	if err != nil {
		return Reply{}
	}
	return r
}

// Close closes the connection.
func (c *Client) Close() { c.Conn.Close() }

// Send appends a command to the client's buffer. Flush sends it.
func (c *Client) Send(args ...string) {
	c.head('*', len(args))
	for _, a := range args {
		c.head('$', len(a))
		c.w.WriteString(a)
		c.w.WriteString("\r\n")
	}
}

func (c *Client) head(kind byte, n int) {
	b := strconv.AppendInt(append(c.w.AvailableBuffer(), kind), int64(n), 10)
	c.w.Write(append(b, "\r\n"...))
}

// Raw appends the bytes of s to the client's buffer.
func (c *Client) Raw(s string) { c.w.WriteString(s) }

// Flush sends the bytes in the client's buffer.
func (c *Client) Flush() error { return c.w.Flush() }

// Receive reads one reply.
func (c *Client) Receive() (Reply, error) {
	c.Conn.SetReadDeadline(time.Now().Add(ioTimeout))
	return readReply(c.r)
}

// ReceiveRaw reads one reply and returns its bytes.
func (c *Client) ReceiveRaw() (string, error) {
	c.Conn.SetReadDeadline(time.Now().Add(ioTimeout))
	r := &recorder{Reader: c.r}
	_, err := readReply(r)
	return r.read.String(), err
}

// recorder is a reader that keeps a copy of the bytes that are read.
type recorder struct {
	*bufio.Reader
	read strings.Builder
}

func (r *recorder) ReadSlice(delim byte) ([]byte, error) {
	line, err := r.Reader.ReadSlice(delim)
	r.read.Write(line)
	return line, err
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.read.Write(b[:n])
	return n, err
}

// TryDo sends a command and reads its reply.
func (c *Client) TryDo(args ...string) (Reply, error) {
	c.Send(args...)
	if err := c.Flush(); err != nil {
		return Reply{}, err
	}
	return c.Receive()
}

// Do sends a command and reads its reply. It fails the test if the connection fails.
func (c *Client) Do(args ...string) Reply {
	c.t.Helper()
	r, err := c.TryDo(args...)
	if err != nil {
		c.t.Fatalf("%.60q: %v", args, err)
	}
	return r
}

// MustDo is like Do, but also fails the test if the reply is an error.
func (c *Client) MustDo(args ...string) Reply {
	c.t.Helper()
	r := c.Do(args...)
	if r.Kind == '-' {
		c.t.Fatalf("%.60q: %s", args, r.Text)
	}
	return r
}

// Expect sends a command and fails the test unless want is the reply, formatted by
// Reply.String.
func (c *Client) Expect(want string, args ...string) {
	c.t.Helper()
	if got := c.Do(args...).String(); got != want {
		c.t.Errorf("%.80q: got %.200q, want %.200q", args, got, want)
	}
}

// source is a reader of replies.
type source interface {
	io.Reader
	ReadSlice(delim byte) (line []byte, err error)
}

func readReply(r source) (Reply, error) {
	line, err := r.ReadSlice('\n') // valid until the next read; body is a copy
	if err != nil {
		return Reply{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return Reply{}, fmt.Errorf("malformed reply line %q", line)
	}
	rep := Reply{Kind: line[0]}
	body := string(line[1 : len(line)-2])
	switch rep.Kind {
	case '+', '-', ',', '#', '(':
		rep.Text = body
		return rep, nil
	case '_':
		rep.Null = true
		return rep, nil
	case ':':
		rep.Int, err = strconv.ParseInt(body, 10, 64)
		return rep, err
	case '$', '=', '*', '%', '~', '>':
		n, err := strconv.Atoi(body)
		switch {
		case err != nil:
		case n < 0:
			rep.Null = true
		case rep.Kind == '$' || rep.Kind == '=':
			rep.Text, err = readBulk(r, n)
		case rep.Kind == '%':
			rep.Elems, err = readElems(r, 2*n)
		default:
			rep.Elems, err = readElems(r, n)
		}
		return rep, err
	}
	return rep, fmt.Errorf("unknown reply type in %q", line)
}

// readBulk reads a string of n bytes and its CRLF.
func readBulk(r source, n int) (string, error) {
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	if string(b[n:]) != "\r\n" {
		return "", errors.New("bulk without its CRLF")
	}
	return string(b[:n]), nil
}

// readElems reads n replies.
func readElems(r source, n int) (elems []Reply, err error) {
	for range n {
		e, err := readReply(r)
		if err != nil {
			return elems, err
		}
		elems = append(elems, e)
	}
	return elems, nil
}

// Exchange sends the bytes of send, in pieces that end at the offsets cuts. It returns all
// bytes that come back until the connection is closed or silent.
func Exchange(t testing.TB, addr, send string, cuts []int) (reply string, closed bool) {
	t.Helper()
	return ExchangeUntil(t, addr, send, cuts, func(string) bool { return true })
}

// ExchangeLike is like Exchange with a server that ought to reply as another one has: it ignores
// silence as long as something is missing.
func ExchangeLike(
	t testing.TB, addr, send string, cuts []int, want string, wantClosed bool,
) (reply string, closed bool) {
	t.Helper()
	return ExchangeUntil(t, addr, send, cuts, func(reply string) bool { return !wantClosed && len(reply) >= len(want) })
}

// ExchangeUntil is like Exchange, but ignores silence until enough returns true for the
// reply. On a loaded machine an answer may take long.
func ExchangeUntil(t testing.TB, addr, send string, cuts []int, enough func(string) bool) (reply string, closed bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetNoDelay(true)
	prev := 0
	for _, cut := range append(cuts, len(send)) {
		if _, err := conn.Write([]byte(send[prev:cut])); err != nil {
			break // the server may have closed the connection already
		}
		prev = cut
		if len(cuts) > 0 {
			time.Sleep(200 * time.Microsecond) // so that the pieces arrive separately
		}
	}
	var b bytes.Buffer
	isAwake := false // the server is known to have read what was sent
	for giveUp := time.Now().Add(ioTimeout); ; {
		conn.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		if _, err = io.Copy(&b, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			return b.String(), true
		}
		if b.Len() == 0 && !isAwake {
			awaken(addr, giveUp)
			isAwake = true
			continue
		}
		if enough(b.String()) || time.Now().After(giveUp) {
			return b.String(), false
		}
	}
}

// awaken waits until a server has replied to a command, or has closed the connection. It has read by then what
// was sent to it before.
func awaken(addr string, giveUp time.Time) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(giveUp)
	if _, err := conn.Write([]byte("PING\r\n")); err == nil {
		conn.Read(make([]byte, 1))
	}
}
