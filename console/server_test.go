package console

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/overview"
)

const token = "0123456789abcdef"

// serve serves a console until the test ends, and returns its address and the levels of the log that were set.
func serve(t *testing.T) (addr string, levels *[]string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	levels = new([]string)
	p := &Pool{
		State: func() overview.State {
			nodes := []overview.Node{{Name: "a", State: overview.Ready}}
			return overview.State{Version: "1.2.3", Layout: "ring", Nodes: nodes}
		},
		Level: func() string { return "info" },
		SetLevel: func(level, user, addr string) error {
			*levels = append(*levels, level+" by "+user+"@"+addr)
			return nil
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Serve(ctx, ln, Options{
			Pools:   func() map[string]*Pool { return map[string]*Pool{"one": p, "two": p} },
			IsToken: func(text string) (is, hasAny bool) { return text == token, true },
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), levels
}

type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{c, t, bufio.NewReader(c)}
}

// expect sends bytes, and expects lines that begin with these.
func (c *client) expect(sent string, lines ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, sent); err != nil {
		c.t.Fatal(err)
	}
	for _, want := range lines {
		if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			c.t.Fatalf("%q: %q, %v; want %q", sent, line, err, want)
		}
	}
}

// TestConsole: the console answers what redis-cli sends, and KEYWAY for the pool that was chosen. The level of
// the log needs a token.
func TestConsole(t *testing.T) {
	addr, levels := serve(t)
	c := dial(t, addr)
	c.expect("PING\r\n*2\r\n$4\r\nPI", "+PONG")
	c.expect("NG\r\n$2\r\nhi\r\n", "$2", "hi")
	c.expect("COMMAND DOCS\r\nCLIENT SETINFO LIB-NAME x\r\n", "*0", "+OK")
	c.expect("CLIENT SETNAME x\r\nCLIENT KILL ID 1\r\nCLIENT\r\n", "+OK",
		"-ERR keyway: the console has no command 'CLIENT KILL'", "-ERR wrong number of arguments")
	c.expect("KEYWAY STATUS\r\n", "-ERR keyway: choose a pool first: KEYWAY POOL")
	c.expect("KEYWAY POOL\r\n", "*2", "$3", "one", "$3", "two")
	c.expect("KEYWAY POOL three\r\n", "-ERR keyway: there is no such pool")
	c.expect("KEYWAY POOL two\r\nKEYWAY STATUS\r\n", "+OK", "*", "$7", "version", "$5", "1.2.3")

	c = dial(t, addr)
	c.expect("KEYWAY POOL one\r\nKEYWAY LOG\r\n", "+OK", "$4", "info")
	c.expect("KEYWAY LOG debug\r\n", "-ERR keyway: the level of the log can be set by")
	c.expect("AUTH 0123456789abcdeX\r\nKEYWAY LOG debug\r\n", "-WRONGPASS", "-ERR keyway")
	c.expect("HELLO 3 AUTH default "+token+"\r\n", "%4", "$6", "server", "$6", "keyway", "$4", "mode", "$7", "console",
		"$5", "proto", ":3", "$4", "role", "$6", "master")
	c.expect("KEYWAY LOG debug\r\nINFO\r\n", "+OK", "=", "txt:# Server")
	dial(t, addr).expect("QUIT\r\n", "+OK")
	if len(*levels) != 1 || !strings.HasPrefix((*levels)[0], "debug by @127.0.0.1:") {
		t.Errorf("levels that were set: %q", *levels)
	}
}

// TestConsoleIsBounded: no client can make the console read or keep much, or end it, whatever lengths it announces.
func TestConsoleIsBounded(t *testing.T) {
	addr, _ := serve(t)
	for _, hostile := range []string{
		"*9223372036854775807\r\n", "*1000000000\r\n", "*1\r\n$9223372036854775807\r\n",
		"*1\r\n$9223372036854775800\r\nx\r\n",
		"*1\r\n$16385\r\n", "*65\r\n", "*1\r\n$-5\r\n", strings.Repeat("x", 17<<10), "*64\r\n" +
			strings.Repeat("$16384\r\n"+strings.Repeat("x", 16384)+"\r\n", 4),
	} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, hostile) // the console may have closed the connection already
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		said, err := io.ReadAll(c) // an error if what was sent was not read before the end
		if len(said) > 0 && !strings.HasPrefix(string(said), "-ERR ") || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.40q: %q, %v", hostile, said, err)
		}
	}
	var all []*client
	for range maxConns {
		c := dial(t, addr)
		c.expect("PING\r\n", "+PONG")
		all = append(all, c)
	}
	dial(t, addr).expect("", "-ERR max number of clients reached")
	all[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "PING\r\n")
		if line, _ := c.r.ReadString('\n'); line == "+PONG\r\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a client that has left stays taken")
		}
	}
}
