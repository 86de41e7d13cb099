package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/tlsconn"
)

// nodeAndPeer returns a node's socket after the handshake, and the node's side of it.
func nodeAndPeer(t testing.TB, below socket) (*securedNode, *tlsconn.Conn) {
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
	var ours, theirs *tlsconn.Handshake
	made := make(chan struct{})
	ours = tlsconn.NewClientHandshake(&tls.Config{
		ServerName: "node", InsecureSkipVerify: true, DynamicRecordSizingDisabled: true,
	}, make(chan struct{}, 1), func(b []byte) { <-made; theirs.Received(b) })
	theirs = tlsconn.NewHandshake(&tls.Config{
		Certificates:                []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true,
	}, nil, make(chan struct{}, 1), func(b []byte) { ours.Received(b) })
	close(made)
	done := make(chan error, 1)
	go func() { done <- theirs.Run() }()
	if err := ours.Run(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}}, [][]slots.Range{nil})
	if err != nil {
		t.Fatal(err)
	}
	th := &thread{worker: proxy.New(proxy.Options{}, router.NewSlots(m)), buf: make([]byte, readSize)}
	b := &backend{t: th, link: new(pool.Link)}
	s := &securedNode{secured: secured{t: th, below: below, conn: ours.Conn(), owner: b}, b: b}
	b.sock = s
	return s, theirs.Conn()
}

// TestSentCommandsCountAsWritten: what a node can read counts as written, also while the socket
// has not accepted all of it. Otherwise keyway would take such commands for not sent, and
// send them again when the connection ends.
func TestSentCommandsCountAsWritten(t *testing.T) {
	below := new(narrow)
	s, node := nodeAndPeer(t, below)
	text := []byte(strings.Repeat("0123456789", 30_000))
	plain, readable, written, seen := make([]byte, readSize), 0, 0, 0
	for rounds := 0; readable < len(text); rounds++ {
		if rounds > 1000 {
			t.Fatalf("the node can read %d of %d bytes after %d rounds", readable, len(text), rounds)
		}
		below.room = 7000
		n, err := s.Write(text[written:])
		if written += n; err != nil && err != errAgain {
			t.Fatal(err)
		}
		if written == len(text) {
			_ = s.drain() // as Ready does when the socket is writable; errAgain is no fault
		}
		m, err := node.Open(plain, below.accepted[seen:])
		if err != nil || string(plain[:m]) != string(text[readable:readable+m]) {
			t.Fatalf("the node reads %d bytes, %v", m, err)
		}
		if readable, seen = readable+m, len(below.accepted); readable > written {
			t.Fatalf("the node can read %d bytes, and %d count as written", readable, written)
		}
	}
	if written != len(text) || s.out != nil {
		t.Errorf("%d of %d bytes are written", written, len(text))
	}
}

// whole is a socket that accepts everything, and has the bytes of in.
type whole struct {
	wire
	in  []byte
	out []byte
}

func (w *whole) Write(b []byte) (int, error) {
	w.out = append(w.out[:0], b...)
	return len(b), nil
}

func (w *whole) Read(b []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, errAgain
	}
	n := copy(b, w.in)
	w.in = w.in[n:]
	return n, nil
}

// TestNodesOverTLSAllocateLittle: a pipeline and its replies allocate only what crypto/tls does: a
// small reader whenever it looks for a record, which is twice at each end.
func TestNodesOverTLSAllocateLittle(t *testing.T) {
	below := new(whole)
	s, node := nodeAndPeer(t, below)
	commands := []byte(strings.Repeat("*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n", 16))
	replies := []byte(strings.Repeat("$5\r\nvalue\r\n", 16))
	plain, sealed := make([]byte, readSize), make([]byte, 0, readSize)
	round := func() {
		if n, err := s.Write(commands); n != len(commands) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if n, err := node.Open(plain, below.out); n != len(commands) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		var err error
		if sealed, err = node.Seal(sealed[:0], replies); err != nil {
			t.Fatal(err)
		}
		below.in = sealed
		if n, err := s.Read(s.t.buf); n != len(replies) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	round()
	// crypto/tls takes 4 for both ends, and the race detector one or two. One for each command
	// would be 16.
	if n := testing.AllocsPerRun(1000, round); n > 6 {
		t.Errorf("a pipeline allocates %v times", n)
	}
}
