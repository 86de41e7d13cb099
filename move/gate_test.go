package move_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// gate is a way to a node that lets a test act between two commands.
type gate struct {
	Addr string

	mu     sync.Mutex
	before string // runs act before this text is passed to the node, once
	act    func()
	sent   bytes.Buffer // what clients have sent
}

// newGate opens a way to the node at target.
func newGate(t *testing.T, target string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Addr: ln.Addr().String()}
	var ended sync.WaitGroup
	var conns []net.Conn
	t.Cleanup(func() {
		ln.Close()
		g.mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		g.mu.Unlock()
		ended.Wait()
	})
	ended.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			node, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			g.mu.Lock()
			conns = append(conns, client, node)
			g.mu.Unlock()
			ended.Go(func() { pass(client, node, func(b []byte) []byte { return b }) })
			ended.Go(func() { pass(node, client, func(b []byte) []byte { return g.look(b, node) }) })
		}
	})
	return g
}

// look passes what stands before the awaited text to the node, acts, and returns the rest.
func (g *gate) look(b []byte, node net.Conn) []byte {
	g.mu.Lock()
	g.sent.Write(b)
	act, at := g.act, -1
	if act != nil {
		at = bytes.Index(b, []byte(g.before))
	}
	if at >= 0 {
		g.act = nil
	}
	g.mu.Unlock()
	if at < 0 {
		return b
	}
	node.Write(b[:at])
	act()
	return b[at:]
}

// When has act run before the next text is passed to the node.
func (g *gate) When(text string, act func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before, g.act = text, act
}

// Sent returns what clients have sent to the node.
func (g *gate) Sent() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent.String()
}

// Came reports whether the awaited text has come.
func (g *gate) Came() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.act == nil
}

func pass(to, from net.Conn, look func([]byte) []byte) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			to.Write(look(buf[:n]))
		}
		if err != nil {
			return
		}
	}
}
