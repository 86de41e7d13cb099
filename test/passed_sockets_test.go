package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// TestPassedSockets: keyway accepts clients at sockets that it was started with, on all threads,
// by their names; two may have one name. While keyway restarts, clients wait. A socket that it
// does not use is in the log.
func TestPassedSockets(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	tcp, other := listenTCP(t), listenTCP(t)
	dir, err := os.MkdirTemp("", "keyway") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "clients")
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	own := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	yaml := fmt.Sprintf("threads: 2\nshutdown: {drain: 0s}\nlisten: [systemd:clients, %s]\n", own) +
		redistest.Ring(node.Addr)
	start := func() *redistest.Process {
		return redistest.Passing(t, yaml, "clients:others:clients", tcp, other, unix)
	}
	p := start()
	addrs := []string{tcp.Addr().String(), own, path}
	for _, addr := range addrs {
		redistest.Eventually(t, 10*time.Second, "keyway answers at "+addr, func() bool {
			return redistest.Ask(addr, "SET", "k", "1").Text == "OK"
		})
	}
	p.End()
	for _, want := range []string{"where keyway does not accept clients", "socket=others"} {
		if log := p.Stderr.String(); !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	waiting := redistest.Dial(t, addrs[0])
	p = start()
	waiting.Expect("1", "GET", "k")
	p.Cmd.Process.Signal(syscall.SIGTERM)
	if err := p.Cmd.Wait(); err != nil {
		t.Errorf("keyway ended with %v", err)
	}
}

// TestPassedSocketIsMissing: keyway says what it was started with, and what to do.
func TestPassedSocketIsMissing(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	yaml := "listen: systemd:clients\n" + redistest.Ring(node.Addr)
	const remedy = "start keyway by a .socket unit of systemd with this FileDescriptorName, or listen on an address"
	none := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", yaml))
	others := redistest.Passing(t, yaml, "others", listenTCP(t))
	datagrams := redistest.Passing(t, yaml, "clients", udp)
	for want, p := range map[string]*redistest.Process{
		"cannot listen on systemd:clients: keyway was started without such a socket; " + remedy: none,
		"keyway was started without such a socket, and with others; " + remedy:                  others,
		"it is no listening socket; write ListenStream= and no Accept=yes into":                 datagrams,
	} {
		if err := p.Cmd.Wait(); err == nil || !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("keyway ended with %v, want %q:\n%s", err, want, p.Stderr)
		}
	}
}
