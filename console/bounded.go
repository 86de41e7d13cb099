package console

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

const (
	maxConns     = 32
	idleTime     = 10 * time.Minute
	commandTime  = 10 * time.Second // for the rest of a command, and for the reader of a reply
	maxReadAhead = 4 << 10
	acceptPause  = 100 * time.Millisecond
)

// limits bound a command. Nobody has long ones for the console.
var limits = resp.Limits{MaxBulk: 16 << 10, MaxArgs: 64, MaxInline: 16 << 10, MaxRequest: 64 << 10}

// bounded is a listener with a bounded number of connections, each of which passes on whole commands only. Package
// redcon trusts the lengths that a client announces, so it must not see those of a hostile one.
type bounded struct {
	net.Listener
	mu   sync.Mutex
	open int
}

// Accept implements net.Listener. Connections beyond the bound get Redis's error.
func (l *bounded) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			time.Sleep(acceptPause) // such as too many open files: redcon would try again at once
			continue
		case l.add(1):
			return &conn{Conn: c, of: l}, nil
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("-ERR max number of clients reached\r\n"))
		c.Close()
	}
}

// add counts connections. It returns false if that would be too many.
func (l *bounded) add(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open+n > maxConns {
		return false
	}
	l.open += n
	return true
}

// conn is a connection of a bounded listener.
type conn struct {
	net.Conn
	of     *bounded
	parser resp.Parser
	in     []byte // not parsed yet
	out    []byte // the rest of a command that Read has not returned yet
	closed sync.Once
}

// Read implements net.Conn. It returns a part of one command. After an error in the protocol, which the client
// gets, it returns that.
func (c *conn) Read(b []byte) (int, error) {
	for len(c.out) == 0 {
		n, status, err := c.parser.Next(c.in, &limits)
		if err != nil {
			_, _ = c.Write(resp.AppendError(nil, "ERR "+err.Error()))
			return 0, err
		}
		if status == resp.More {
			if err := c.fill(); err != nil {
				return 0, err
			}
			continue
		}
		if status == resp.Ready {
			c.out = append(c.out, c.parser.Frame()...)
		}
		c.in = append(c.in[:0], c.in[n:]...)
	}
	n := copy(b, c.out)
	c.out = append(c.out[:0], c.out[n:]...)
	return n, nil
}

// fill reads more bytes. A client has less time for the rest of a command than for the next one.
func (c *conn) fill() error {
	wait := idleTime
	if len(c.in) > 0 {
		wait = commandTime
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	var b [maxReadAhead]byte
	n, err := c.Conn.Read(b[:])
	c.in = append(c.in, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(commandTime)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closed.Do(func() { c.of.add(-1) })
	return c.Conn.Close()
}
