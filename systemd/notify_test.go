package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// journal is systemd's end of the socket.
type journal struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func listen(t *testing.T) *journal {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		os.RemoveAll(dir)
	})
	return &journal{t, conn, path}
}

// next returns the next message.
func (j *journal) next() string {
	j.t.Helper()
	b := make([]byte, 4096)
	_ = j.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := j.conn.Read(b)
	if err != nil {
		j.t.Fatal(err)
	}
	return string(b[:n])
}

func (j *journal) notifier(more map[string]string) *Notifier {
	j.t.Helper()
	n, err := New(func(name string) (string, bool) {
		if name == "NOTIFY_SOCKET" {
			return j.path, true
		}
		text, ok := more[name]
		return text, ok
	}, 7)
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { n.conn.Close() })
	return n
}

func TestMessagesToSystemd(t *testing.T) {
	j := listen(t)
	n := j.notifier(nil)
	for _, tc := range []struct {
		send func()
		want string
	}{
		{func() { n.Ready("listening on 127.0.0.1:6380") }, "READY=1\nSTATUS=listening on 127.0.0.1:6380\n"},
		{func() { n.Reloading(1500 * time.Microsecond) }, "RELOADING=1\nMONOTONIC_USEC=1500\n"},
		{func() { n.Ready("two\nlines") }, "READY=1\nSTATUS=two lines\n"},
		{
			func() { n.Stopping("stopping", 3*time.Second) },
			"STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=3000000\n",
		},
		{func() { n.Replaced(8) }, "MAINPID=8\nWATCHDOG=1\n"},
	} {
		tc.send()
		if got := j.next(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// TestReplacedIsSilent: a process that another one has replaced sends nothing any more.
func TestReplacedIsSilent(t *testing.T) {
	j := listen(t)
	n, other := j.notifier(nil), j.notifier(nil)
	n.Replaced(8)
	n.Stopping("stopping", time.Second)
	other.Ready("serving")
	for _, want := range []string{"MAINPID=8\nWATCHDOG=1\n", "READY=1\nSTATUS=serving\n"} {
		if got := j.next(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNoSystemd: without a socket in the environment nothing is sent, and nothing fails.
func TestNoSystemd(t *testing.T) {
	n, err := New(func(string) (string, bool) { return "", false }, 7)
	if n != nil || err != nil {
		t.Fatalf("%v, %v", n, err)
	}
	n.Ready("x")
	n.Reloading(0)
	n.Stopping("x", 0)
	n.Replaced(8)
	n.Watch(t.Context(), func(context.Context) error { panic("asked") }, nil)
	_, err = New(func(string) (string, bool) { return "/nowhere/notify", true }, 7)
	if err == nil || !strings.Contains(err.Error(), "connecting to systemd, NOTIFY_SOCKET=/nowhere/notify") {
		t.Error(err)
	}
}

func TestWatchdogOfTheEnvironment(t *testing.T) {
	j := listen(t)
	for _, tc := range []struct {
		env  map[string]string
		want time.Duration
	}{
		{map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30 * time.Second},
		{map[string]string{"WATCHDOG_USEC": "30000000"}, 30 * time.Second},
		{map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0},
		{map[string]string{"WATCHDOG_USEC": "soon"}, 0},
		{map[string]string{"WATCHDOG_USEC": "0"}, 0},
		{map[string]string{"WATCHDOG_USEC": "9223372036854775807"}, 0},
		{nil, 0},
	} {
		if got := j.notifier(tc.env).watchdog; got != tc.want {
			t.Errorf("%v: %s, want %s", tc.env, got, tc.want)
		}
	}
}

// TestWatchStopsWithTheThreads: systemd hears from keyway while the threads are alive, and no
// longer when they are not.
func TestWatchStopsWithTheThreads(t *testing.T) {
	j := listen(t)
	n := j.notifier(map[string]string{"WATCHDOG_USEC": "20000"})
	ctx, cancel := context.WithCancel(t.Context())
	states := make(chan error)
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Watch(ctx, func(call context.Context) error {
			if _, ok := call.Deadline(); !ok {
				t.Error("alive may take any time")
			}
			select {
			case err := <-states:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func(err error) { failed <- err })
	}()
	for range 3 {
		states <- nil
		if got := j.next(); got != "WATCHDOG=1\n" {
			t.Errorf("%q", got)
		}
	}
	stuck := errors.New("stuck")
	for range 3 {
		states <- stuck
		select {
		case err := <-failed:
			if err != stuck {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nobody says that the threads are stuck")
		}
	}
	n.Ready("") // the next message, so none was sent before
	if got := j.next(); got != "READY=1\nSTATUS=\n" {
		t.Errorf("%q", got)
	}
	states <- nil
	if got := j.next(); got != "WATCHDOG=1\n" {
		t.Errorf("after the threads have recovered: %q", got)
	}
	cancel()
	<-ended
}
