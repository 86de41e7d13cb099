package test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// tlsHead returns the first lines of a file with a plain listener and one that speaks TLS.
func (r *reloadable) tlsHead(addr, cert, key, more string) string {
	return fmt.Sprintf("listen: [%s, {addr: %q, tls: {cert: %q, key: %q%s}}]\nadmin: %s\n",
		r.listen, addr, cert, key, more, r.admin)
}

// TestTLSRotation: a reload adds TLS. keyway uses new certificates without being told, drops no
// client over them, and keeps the old one if the new files are broken. It says so once.
func TestTLSRotation(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	node := redistest.Start(t)
	r := startReloadable(t, redistest.Ring(node.Addr), "")
	ca := redistest.NewAuthority(t)
	cert, key := ca.Issue("server", 24*time.Hour)
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	r.head = r.tlsHead(addr, cert, key, "")
	if out := r.reload(""); !strings.Contains(out, "  listen: "+r.listen+" -> "+r.listen+", "+addr+"\n") ||
		!strings.Contains(out, "].tls.key: (none) -> "+key+"\n") {
		t.Errorf("reload printed %s", out)
	}
	serial := func() string {
		conn, err := tls.Dial("tcp", addr, ca.Config(""))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	defer countOverTLS(t, addr, ca)()
	first := serial()
	ca.Issue("server", 5*24*time.Hour)
	redistest.Eventually(t, 20*time.Second, "keyway uses the new certificate", func() bool { return serial() != first })
	changed := regexp.MustCompile(`key="?listen\[127[^ ]+\]\.tls\.cert"? from="[^"]+ valid until`)
	redistest.Eventually(t, 10*time.Second, "the log has the change and the warning", func() bool {
		log := r.stderr.String()
		return changed.MatchString(log) && strings.Contains(log, "the certificate expires on ")
	})
	second := serial()
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := func() int { return strings.Count(r.stderr.String(), "not reloaded; nothing was changed") }
	redistest.Eventually(t, 20*time.Second, "keyway notices the broken key", func() bool { return failed() == 1 })
	if serial() != second {
		t.Error("a broken key has changed the certificate")
	}
	r.checks(false, "listen[1].tls.key: the file ",
		"name the private key of the certificate, in PEM form and not encrypted")
	ca.Issue("server", 48*time.Hour)
	redistest.Eventually(t, 20*time.Second, "keyway uses the third one", func() bool { return serial() != second })
	if n := failed(); n != 1 {
		t.Errorf("%d lines about the broken key", n)
	}
	r.checks(true, "certificate "+cert+" for localhost, 127.0.0.1, valid until ",
		"warning: the certificate expires on ")
	r.expiryShown(cert, 48*time.Hour)
}

// countOverTLS makes clients count until stop is called. None may be dropped.
func countOverTLS(t *testing.T, addr string, ca *redistest.Authority) (stop func()) {
	var isDone atomic.Bool
	var clients sync.WaitGroup
	for i := range 8 {
		c := redistest.DialTLS(t, addr, ca.Config(""))
		clients.Go(func() {
			for n := int64(1); !isDone.Load(); n++ {
				got, err := c.TryDo("INCR", fmt.Sprint("counter", i))
				if err != nil || got.Int != n {
					t.Errorf("client %d: %v, %v instead of %d", i, got, err, n)
					return
				}
			}
		})
	}
	return func() {
		isDone.Store(true)
		clients.Wait()
	}
}

// checks runs keyway check.
func (r *reloadable) checks(ok bool, words ...string) {
	r.t.Helper()
	out, err := exec.Command(redistest.Build(r.t), "check", "--offline", "-c", r.file).CombinedOutput()
	for _, w := range words {
		if (err == nil) != ok || !strings.Contains(string(out), w) {
			r.t.Errorf("check prints no %q, %v:\n%s", w, err, out)
		}
	}
}

// expiryShown checks the metric of a certificate's file.
func (r *reloadable) expiryShown(cert string, valid time.Duration) {
	t := r.t.(*testing.T)
	_, metrics := fetch(t, "http://"+r.admin+"/metrics")
	want := time.Now().Add(valid).Unix()
	pattern := `keyway_tls_certificate_expiry_timestamp_seconds\{file="` + regexp.QuoteMeta(cert) + `"\} (\S+)`
	if m := regexp.MustCompile(pattern).FindStringSubmatch(metrics); m == nil {
		t.Error("no metric of the certificate")
	} else if at, _ := strconv.ParseFloat(m[1], 64); at < float64(want-600) || at > float64(want) {
		t.Errorf("the certificate expires at %v, not %d", at, want)
	}
}

// TestTLSHandshakeFlood: clients that begin handshakes and do not go on get few goroutines, delay
// others little, and do not keep new clients out.
func TestTLSHandshakeFlood(t *testing.T) {
	s := serveTLS(t, false, "", "clients: {max: 2000}\n")
	c := s.Dial()
	pings := func() time.Duration {
		began := time.Now()
		for range 300 {
			c.Expect("PONG", "PING")
		}
		return time.Since(began)
	}
	alone, before := pings(), runtime.NumGoroutine()
	hello := clientHello(t, s)
	for i := range 900 {
		conn, err := net.Dial("tcp", s.tls)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		switch i % 3 {
		case 0: // never says more than its first message
			_, _ = conn.Write(hello)
		case 1:
			_, _ = conn.Write(hello[:len(hello)/2])
		}
	}
	flooded := pings()
	t.Logf("300 PINGs took %v, and %v during the flood; %d goroutines more", alone, flooded,
		runtime.NumGoroutine()-before)
	if flooded > 50*alone {
		t.Errorf("300 PINGs took %v, and %v during the flood", alone, flooded)
	}
	if n := runtime.NumGoroutine() - before; n > 300 {
		t.Errorf("the flood has %d goroutines", n)
	}
	redistest.DialTLS(t, s.tls, s.ca.Config("")).Expect("PONG", "PING")
	s.log.has(t, "TLS handshake failed", "the client was silent, and others waited for its place")
}

// clientHello returns the first message of a client.
func clientHello(t *testing.T, s *secured) []byte {
	near, far := net.Pipe()
	defer near.Close()
	go tls.Client(far, s.ca.Config("")).Handshake()
	b := make([]byte, 64<<10)
	n, err := near.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// TestTLSMessagesAfterHandshake: keyway answers a key update, and ends a connection that wants
// to renegotiate.
func TestTLSMessagesAfterHandshake(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is not installed; make tools installs it")
	}
	s := serveTLS(t, false, "", "")
	for version, command := range map[string]string{"-tls1_3": "K", "-tls1_2": "R"} {
		cmd := exec.Command("openssl", "s_client", "-connect", s.tls, "-CAfile", s.ca.File, version)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := new(redistest.Log)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		say := func(text, reply string) {
			t.Helper()
			if _, err := io.WriteString(in, text+"\n"); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
			redistest.Eventually(t, 10*time.Second, text+" is answered by "+reply, func() bool {
				return strings.Contains(out.String(), reply)
			})
		}
		say("ECHO before", "before")
		if command == "K" {
			say(command, "KEYUPDATE")
			say("ECHO after", "\r\nafter")
		} else {
			say(command, "unexpected message")
		}
		in.Close()
		_ = cmd.Wait() // the exit status depends on the version of openssl
	}
}
