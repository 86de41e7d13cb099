package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/tlsconn"
)

// narrow is a socket that accepts few bytes, and none in between.
type narrow struct {
	wire
	accepted []byte
	room     int
}

func (w *narrow) Write(b []byte) (int, error) {
	n := min(len(b), w.room)
	w.accepted, w.room = append(w.accepted, b[:n]...), w.room-n
	if n < len(b) {
		return n, errAgain
	}
	return n, nil
}

// shaken returns a connection after its handshake, and the client's side of it.
func shaken(t *testing.T) (*tlsconn.Conn, *tls.Conn, net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	h := tlsconn.NewHandshake(&tls.Config{
		Certificates:                []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true,
	}, nil, make(chan struct{}, 1), func(b []byte) { _, _ = far.Write(bytes.Clone(b)) })
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, err := far.Read(b)
			if err != nil {
				return
			}
			h.Received(b[:n])
		}
	}()
	greeted := make(chan error, 1)
	go func() { greeted <- client.Handshake() }()
	if err := h.Run(); err != nil {
		t.Fatal(err)
	}
	if err := <-greeted; err != nil {
		t.Fatal(err)
	}
	return h.Conn(), client, far
}

// TestSealedBytesCountWhenAccepted: bytes count as written once the socket has accepted all of
// their records. The caller passes them again until then, and the client gets them once.
func TestSealedBytesCountWhenAccepted(t *testing.T) {
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}}, [][]slots.Range{nil})
	if err != nil {
		t.Fatal(err)
	}
	conn, client, far := shaken(t)
	below := new(narrow)
	s := &secured{t: &thread{worker: proxy.New(proxy.Options{}, router.NewSlots(m))}, below: below, conn: conn}
	text := []byte(strings.Repeat("0123456789", 15_000)) // more than is sealed at a time
	written := 0
	for rounds := 0; written < len(text); rounds++ {
		if rounds > 1000 {
			t.Fatalf("%d of %d bytes are written after %d rounds", written, len(text), rounds)
		}
		below.room = 7000
		n, err := s.Write(text[written:min(written+64<<10, len(text))])
		written += n
		if err != nil && err != errAgain {
			t.Fatal(err)
		}
		if written > len(below.accepted) {
			t.Fatalf("%d bytes count as written, and the socket has accepted %d", written, len(below.accepted))
		}
	}
	below.room = 1000
	s.Close()
	go far.Write(below.accepted)
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("the client got %d of %d bytes, %v", len(got), len(text), err)
	}
}
