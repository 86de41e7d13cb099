package upgrade

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns the two ends of a conversation.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Skip(err) // only Linux can hand connections over
	}
	var ends [2]*Conn
	for i, fd := range fds {
		if ends[i], err = newConn(os.NewFile(uintptr(fd), "end")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ends[i].Close)
	}
	return ends[0], ends[1]
}

// TestMessages: messages of any size arrive whole and in order, with a working descriptor of the
// file that was sent.
func TestMessages(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sizes := []int{0, 1, maxPacket - 200, maxPacket, 3*maxPacket + 1, 10 << 20}
	go func() {
		for i, n := range sizes {
			m := Message{Kind: Feed, ID: uint64(i), Part: bytes.Repeat([]byte{1}, n)}
			if err := a.Send(m, int(w.Fd())); err != nil {
				t.Error(err)
			}
		}
		w.Close()
		a.Close()
	}()
	for i, n := range sizes {
		m, fds, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m.ID != uint64(i) || len(m.Part) != n || len(fds) != 1 {
			t.Errorf("message %d has id %d, %d of %d bytes and descriptors %v", i, m.ID, len(m.Part), n, fds)
		}
		if _, err := unix.Write(fds[0], []byte{byte(i)}); err != nil {
			t.Error(err)
		}
		CloseAll(fds)
	}
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != len(sizes) {
		t.Errorf("%d bytes have come through the descriptors, %v", len(got), err)
	}
}

// TestLastMessages: what the other process has said before its end is still received, also if its end
// stays open.
func TestLastMessages(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for range 3 {
		if err := a.Send(Message{Kind: Taken}); err != nil {
			t.Fatal(err)
		}
	}
	b.ReadNoLonger()
	for i := range 3 {
		if m, _, err := b.Receive(); err != nil || m.Kind != Taken {
			t.Errorf("message %d: %v, %v", i, m, err)
		}
	}
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// TestStartedProgramGetsNoSocketsOfSystemd: the variables of systemd for this process do not reach
// its successor, and those that it is given do.
func TestStartedProgramGetsNoSocketsOfSystemd(t *testing.T) {
	for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID"} {
		t.Setenv(name, "1")
	}
	s, err := Start("/bin/sh", []string{"-c", "env >&3"}, []string{"NOTIFY_SOCKET=x"})
	if err != nil {
		t.Skip(err)
	}
	defer s.Close()
	var text []byte
	for {
		b := make([]byte, 64<<10)
		n, err := s.unix.Read(b)
		if n <= 0 || err != nil {
			break
		}
		text = append(text, b[:n]...)
	}
	<-s.Ended
	got := string(text)
	if strings.Contains(got, "LISTEN_") || strings.Contains(got, "WATCHDOG_PID") ||
		!strings.Contains(got, "NOTIFY_SOCKET=x") || !strings.Contains(got, variable+"=3") {
		t.Errorf("the environment is\n%s", got)
	}
}
