package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/systemd"
)

// listenForSystemd returns systemd's end of a socket, and the path of the socket.
func listenForSystemd(t *testing.T) (socket *net.UnixConn, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "notify")
	socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		socket.Close()
		os.RemoveAll(dir)
	})
	return socket, path
}

// watchedBy returns a way to the systemd at path, which ends a process that it does not hear from
// for 100 ms.
func watchedBy(t *testing.T, path string) *systemd.Notifier {
	t.Helper()
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000"}
	n, err := systemd.New(func(name string) (string, bool) {
		text, ok := env[name]
		return text, ok
	}, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// hearsAlive reports whether systemd hears within that time that the process is alive.
func hearsAlive(socket *net.UnixConn, within time.Duration) bool {
	b := make([]byte, 100)
	_ = socket.SetReadDeadline(time.Now().Add(within))
	n, err := socket.Read(b)
	return err == nil && string(b[:n]) == "WATCHDOG=1\n"
}

// twoFail waits until two questions to the threads have failed.
func twoFail(t *testing.T, failed <-chan error) {
	t.Helper()
	for range 2 {
		select {
		case <-failed:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody says that a thread is stuck")
		}
	}
}

// TestStuckThreadStopsTheWatchdog: systemd hears from keyway while all threads turn. When one is
// stuck, systemd hears nothing until it turns again, although the other thread turns.
func TestStuckThreadStopsTheWatchdog(t *testing.T) {
	socket, path := listenForSystemd(t)
	cfg, err := config.Parse("f.yml", []byte("listen: 127.0.0.1:0\nthreads: 2\nslots: {seeds: [127.0.0.1:1]}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, Setup{Table: new(router.Table)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	n := watchedBy(t, path)
	failed := make(chan error, 100)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		n.Watch(ctx, func(ctx context.Context) error {
			_, err := s.Snapshot(ctx)
			return err
		}, func(err error) { failed <- err })
	}()
	hears := func(within time.Duration) bool { return hearsAlive(socket, within) }
	for range 2 {
		if !hears(10 * time.Second) {
			t.Fatal("systemd hears nothing")
		}
	}

	stuck, release := make(chan struct{}), make(chan struct{})
	s.threads[1].loop.Post(func() {
		close(stuck)
		<-release
	})
	<-stuck
	for len(failed) > 0 { // a slow machine
		<-failed
	}
	twoFail(t, failed)            // the first may be of a question that came before
	for hears(time.Millisecond) { // what was sent before
	}
	twoFail(t, failed)
	if hears(time.Millisecond) {
		t.Error("systemd hears from a keyway with a stuck thread")
	}
	close(release)
	if !hears(10 * time.Second) {
		t.Error("systemd hears nothing when the thread turns again")
	}
	cancel()
	<-watched
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
