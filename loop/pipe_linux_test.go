package loop

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// tcpPair returns the descriptors of the two ends of a connection, which do not block.
func tcpPair(t *testing.T) (near, far int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	of := func(c net.Conn) int {
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		t.Cleanup(func() { f.Close() })
		fd := int(f.Fd()) // which makes it block
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	return of(dialed), of(accepted)
}

// TestPipeMovesAllBytes: what a socket does not accept comes out of the pipe by Read, so that no byte is lost or in
// another place, and the pipe is empty in between.
func TestPipeMovesAllBytes(t *testing.T) {
	var p Pipe
	if !p.Open() {
		t.Fatal("the system refuses a pipe of 256 KiB; see fs.pipe-user-pages-soft in pipe(7)")
	}
	defer p.Close()
	node, nodeEnd := tcpPair(t)
	client, clientEnd := tcpPair(t)
	if err := unix.SetsockoptInt(client, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	var sent, got, left []byte
	buf := make([]byte, 64<<10)
	filled, shorts := 0, 0
	for range 200 {
		piece := make([]byte, 1+rand.IntN(300<<10))
		random.Read(piece)
		n, err := unix.Write(node, piece)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		sent = append(sent, piece[:max(n, 0)]...)
		if len(left) == 0 { // otherwise the bytes would overtake those
			n, err := p.Fill(nodeEnd, 1+rand.IntN(300<<10))
			if err != nil && err != ErrAgain {
				t.Fatal(err)
			}
			filled += n
			if moved := p.Drain(client); moved < n {
				shorts++
			}
			for n := p.Read(buf); n > 0; n = p.Read(buf) {
				left = append(left, buf[:n]...)
			}
			if !p.IsEmpty() {
				t.Fatal("something has stayed in the pipe")
			}
		}
		if rand.IntN(8) == 0 { // the client reads rarely, and then all
			for n, _ := unix.Read(clientEnd, buf); n > 0; n, _ = unix.Read(clientEnd, buf) {
				got = append(got, buf[:n]...)
			}
			got, left = append(got, left...), nil
		}
	}
	for n, _ := unix.Read(clientEnd, buf); n > 0; n, _ = unix.Read(clientEnd, buf) {
		got = append(got, buf[:n]...)
	}
	got = append(got, left...)
	if len(got) != filled || !bytes.HasPrefix(sent, got) {
		t.Errorf("the client got %d bytes of %d, or others", len(got), filled)
	}
	if shorts == 0 {
		t.Error("the client's socket has always accepted all: the test has tested nothing")
	}
}

// TestPipeSaysWhyItIsNotFilled: that nothing has arrived, that the stream has ended, and that something is no socket,
// are different things.
func TestPipeSaysWhyItIsNotFilled(t *testing.T) {
	var p Pipe
	if !p.Open() {
		t.Fatal("the system refuses a pipe of 256 KiB; see fs.pipe-user-pages-soft in pipe(7)")
	}
	near, far := tcpPair(t)
	if _, err := p.Fill(far, 1<<20); err != ErrAgain {
		t.Errorf("nothing has arrived: %v", err)
	}
	if err := unix.Shutdown(near, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	var err error
	for err = ErrAgain; err == ErrAgain; {
		_, err = p.Fill(far, 1<<20)
	}
	if err != io.EOF {
		t.Errorf("the stream has ended: %v", err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	if _, err := p.Fill(epoll, 1<<20); !errors.Is(err, ErrRefused) {
		t.Errorf("no socket: %v", err)
	}
	if p.Open() {
		t.Error("it opens again although the system cannot do it")
	}
}
