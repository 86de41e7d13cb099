package tlsconn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// pair does a handshake, and returns both sides. What the client sends arrives in sealed.
func pair(t testing.TB, version uint16) (client *tls.Conn, sealed chan []byte, server *Conn, toClient net.Conn) {
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
	sealed = make(chan []byte, 100)
	go func() {
		for {
			b := make([]byte, 64<<10)
			n, err := far.Read(b)
			if err != nil {
				close(sealed)
				return
			}
			sealed <- b[:n]
		}
	}()
	client = tls.Client(near, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	greeted := make(chan error, 1)
	go func() { greeted <- client.Handshake() }()
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true}
	h := NewHandshake(cfg, <-sealed, make(chan struct{}, 1), func(b []byte) { _, _ = far.Write(bytes.Clone(b)) })
	done := make(chan error, 1)
	go func() { done <- h.Run() }()
	for {
		select {
		case b := <-sealed:
			h.Received(b)
		case err := <-done:
			if err := errors.Join(err, <-greeted); err != nil {
				t.Fatal(err)
			}
			return client, sealed, h.Conn(), far
		}
	}
}

// TestOpenAndSeal: contents arrive whole and in order, however their records are cut, and a
// record that is not complete is no error.
func TestOpenAndSeal(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, sealed, server, toClient := pair(t, version)
		text := strings.Repeat("0123456789", 3000) // two records
		written := make(chan error, 1)
		go func() {
			_, err := client.Write([]byte(text))
			written <- err
		}()
		plain := make([]byte, 64<<10+MaxOverhead)
		var got []byte
		for len(got) < len(text) {
			for _, b := range <-sealed {
				n, err := server.Open(plain, []byte{b})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, plain[:n]...)
			}
		}
		if err := <-written; err != nil { // Close sends nothing while a Write has not returned
			t.Fatal(err)
		}
		if string(got) != text || server.Output() != nil {
			t.Errorf("version %x: %d bytes differ", version, len(got))
		}
		records, err := server.Seal([]byte("before"), []byte(text))
		if err != nil || !bytes.HasPrefix(records, []byte("before")) {
			t.Fatal(err)
		}
		go toClient.Write(records[len("before"):])
		back := make([]byte, len(text))
		if _, err := io.ReadFull(client, back); err != nil || string(back) != text {
			t.Errorf("version %x: the client read %v", version, err)
		}
		go func() { _ = client.Close() }()
		if _, err := server.Open(plain, <-sealed); err != io.EOF {
			t.Errorf("version %x: after the client's close: %v", version, err)
		}
		if len(server.CloseNotify(nil)) == 0 {
			t.Error("no close_notify")
		}
	}
}

// TestOpenEndsCutConnections: the end of the bytes is the end of the connection between records,
// and an error within one. Bytes that are not of the client are an error, and it is told.
func TestOpenEndsCutConnections(t *testing.T) {
	_, _, server, _ := pair(t, tls.VersionTLS13)
	if err := server.End(); err != io.EOF {
		t.Errorf("%v", err)
	}
	client, sealed, server, _ := pair(t, tls.VersionTLS13)
	go client.Write([]byte("hello"))
	plain := make([]byte, 64<<10+MaxOverhead)
	b := <-sealed
	if n, err := server.Open(plain, b[:len(b)-1]); n != 0 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if err := server.End(); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	client, sealed, server, _ = pair(t, tls.VersionTLS13)
	go client.Write([]byte("hello"))
	b = <-sealed
	b[len(b)-1] ^= 1
	if n, err := server.Open(plain, b); n != 0 || err == nil || len(server.Output()) == 0 {
		t.Errorf("a changed byte: %d %v", n, err)
	}
}

// TestHello: one byte shows that a client does not speak TLS.
func TestHello(t *testing.T) {
	for text, want := range map[string]struct {
		complete bool
		err      string
	}{
		"":                               {},
		"\x16":                           {},
		"\x16\x03\x01\x00":               {},
		"\x16\x03\x01\x00\x02a":          {},
		"\x16\x03\x01\x00\x02ab":         {complete: true},
		"\x16\x03\x01\x00\x02abc":        {complete: true},
		"*":                              {err: ErrPlain.Error()},
		"\x16\r\n":                       {err: ErrPlain.Error()},
		"\x16\x03\x01\xff\xff":           {err: "the first record announces 65535 bytes"},
		"\x16\x03\x01\x40\x00unfinished": {},
	} {
		complete, err := Hello([]byte(text))
		if complete != want.complete || (err == nil) != (want.err == "") || err != nil && err.Error() != want.err {
			t.Errorf("%q: %v %v", text, complete, err)
		}
	}
}

// TestAbortedHandshake: a handshake that waits for the client ends when it is aborted, and holds
// no token while it waits.
func TestAbortedHandshake(t *testing.T) {
	cpu := make(chan struct{}, 1)
	h := NewHandshake(&tls.Config{}, nil, cpu, func([]byte) {})
	done := make(chan error, 1)
	go func() { done <- h.Run() }()
	for h.Waits(time.Now().Add(time.Hour)) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	cpu <- struct{}{} // blocks forever if the handshake keeps it
	<-cpu
	h.Abort(io.ErrClosedPipe)
	if err := <-done; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// BenchmarkRecord opens and seals a small record.
func BenchmarkRecord(b *testing.B) {
	client, sealed, server, _ := pair(b, tls.VersionTLS13)
	text := bytes.Repeat([]byte("*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n"), 16)
	records := make([][]byte, b.N)
	for i := range records {
		go client.Write(text)
		records[i] = <-sealed
	}
	plain, scratch := make([]byte, 64<<10), make([]byte, 0, 64<<10)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		n, err := server.Open(plain, records[i])
		if err != nil {
			b.Fatal(err)
		}
		if scratch, err = server.Seal(scratch[:0], plain[:n]); err != nil {
			b.Fatal(err)
		}
	}
}
