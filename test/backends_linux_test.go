package test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// names answers every question for an IPv4 address with the one that it has at the
// moment.
func names(t *testing.T) *atomic.Pointer[net.IP] {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := new(atomic.Pointer[net.IP])
	before := net.DefaultResolver
	// A question may outlive its test. DialUDP, unlike a Dialer, does not read DefaultResolver.
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
	}}
	done := make(chan struct{})
	t.Cleanup(func() {
		net.DefaultResolver = before
		server.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			if q.Type == dnsmessage.TypeA {
				a := dnsmessage.AResource{A: [4]byte(at.Load().To4())}
				header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
				m.Answers = []dnsmessage.Resource{{Header: header, Body: &a}}
			}
			if out, err := m.Pack(); err == nil {
				server.WriteTo(out, from)
			}
		}
	}()
	return at
}

// TestNodeNameMoves: a host name that changes its address is looked up again when
// keyway connects again.
func TestNodeNameMoves(t *testing.T) {
	for _, threads := range []int{1, 2} {
		at := names(t)
		first, second := net.ParseIP("127.0.0.1"), net.ParseIP("127.0.0.2")
		at.Store(&first)
		a := redistest.Start(t)
		yaml := redistest.Ring(fmt.Sprintf("redis-a.example:%d", a.Port))
		k := redistest.Serve(t, fmt.Sprintf("threads: %d\n", threads)+yaml).Ready()
		c := k.Dial()
		c.Expect("OK", "SET", "x", "first")
		b := redistest.StartAt(t, "127.0.0.2", a.Port)
		at.Store(&second)
		c.Expect("first", "GET", "x") // the connection is as it was
		a.Kill()
		redistest.Eventually(t, 10*time.Second, "the new address is found", func() bool {
			return c.Do("SET", "x", "second").Text == "OK"
		})
		if got := b.Do("GET", "x").Text; got != "second" {
			t.Errorf("the node at the new address has %q", got)
		}
		k.Stop()
	}
}
