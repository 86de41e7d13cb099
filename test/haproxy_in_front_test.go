package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestHAProxy: behind a real HAProxy, keyway sees the clients' addresses, by both versions of the
// header. HAProxy's health checks find keyway healthy, though clients.allow lacks the balancer,
// and leave nothing in the log.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Fatal("haproxy is not installed; make tools installs it")
	}
	for _, version := range []string{"send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"} {
		d := serveBalancers(t, false, "", "protected_mode: false\nclients: {allow: 127.0.0.2}\nthreads: 2\n")
		listen := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
		p := startHAProxy(t, fmt.Sprintf(`
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout check 10s
  option redispatch
listen keyway
  bind %s
  unique-id-format %%ci
  option tcp-check
  tcp-check send PING\r\n
  tcp-check expect string +PONG
  server a %s check inter 100ms check-send-proxy %s
`, listen, d.balancers, version))
		redistest.Eventually(t, 20*time.Second, "HAProxy passes clients on", func() bool {
			return redistest.Ask(listen, "PING").Kind != 0 || strings.Contains(d.log.String(), "clients.allow")
		})
		c := dialFrom(t, "127.0.0.2", listen)
		if got := c.Do("CLIENT", "INFO").Text; !strings.Contains(got, " addr="+c.Conn.LocalAddr().String()+" ") {
			t.Errorf("%s: %s from %v", version, got, c.Conn.LocalAddr())
		}
		other := dialFrom(t, "127.0.0.3", listen) // HAProxy accepts it, and keyway does not
		if got, err := other.TryDo("PING"); err == nil {
			t.Errorf("%s: %v", version, got)
		}
		d.log.has(t, "client refused", "clients.allow", "client="+other.Conn.LocalAddr().String())
		// Checks go on meanwhile.
		accepted := func() (n uint64) {
			for _, s := range d.Snapshot() {
				n += s.Accepted
			}
			return n
		}
		before := accepted()
		redistest.Eventually(t, 20*time.Second, "HAProxy checks keyway", func() bool { return accepted() >= before+3 })
		if log := p.String(); strings.Contains(log, "is DOWN") {
			t.Errorf("%s: %s", version, log)
		}
		if header, _, _ := d.closed(); header != 0 || strings.Contains(d.log.String(), "PROXY protocol") {
			t.Errorf("%s: %d headers refused\n%s", version, header, d.log.String())
		}
	}
}

// startHAProxy starts a HAProxy that ends with the test, and returns what it prints.
func startHAProxy(t *testing.T, text string) *redistest.Log {
	t.Helper()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := new(redistest.Log)
	cmd := exec.Command("haproxy", "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return out
}
