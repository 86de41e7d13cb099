package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// secured is a keyway with a plain listener and one that speaks TLS.
type secured struct {
	*redistest.Keyway
	ca  *redistest.Authority
	log *logBuffer
	tls string // its address
}

// serveTLS starts a keyway over one node. more are further keys of the listener's tls.
func serveTLS(t *testing.T, streams bool, more, yaml string) *secured {
	t.Helper()
	node := redistest.Start(t)
	s := &secured{ca: redistest.NewAuthority(t), log: new(logBuffer)}
	cert, key := s.ca.Issue("server", 24*time.Hour)
	if strings.Contains(more, "%s") {
		more = fmt.Sprintf(more, s.ca.File)
	}
	listen := fmt.Sprintf("listen: [127.0.0.1:0, {addr: \"localhost:0\", tls: {cert: %q, key: %q%s}}]\n",
		cert, key, more)
	s.Keyway = redistest.ServeWith(t, listen+yaml+redistest.Ring(node.Addr), server.Options{
		Log: slog.New(slog.NewTextHandler(s.log, nil)), Streams: streams,
	}).Ready()
	addrs := s.Server.Addrs()
	s.tls = addrs[len(addrs)-1].String()
	return s
}

// counted returns how many handshakes and refusals all threads have counted.
func (s *secured) counted() (full, resumed, plain, failed uint64) {
	for _, shot := range s.Snapshot() {
		full, resumed = full+shot.TLSFull, resumed+shot.TLSResumed
		plain, failed = plain+shot.ClosedPlain, failed+shot.ClosedHandshake
	}
	return full, resumed, plain, failed
}

// TestTLSClients: redis-cli and go-redis work over TLS 1.2 and 1.3, beside clients without it.
// Commands, pushes, blocking commands and values of 1 MB arrive as over a plain connection.
func TestTLSClients(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{false, true} {
		s := serveTLS(t, streams, "", "threads: 2\n")
		_, port, _ := net.SplitHostPort(s.tls)
		cli := func(args ...string) string {
			t.Helper()
			args = append([]string{"-h", "localhost", "-p", port, "--tls", "--cacert", s.ca.File}, args...)
			out, err := exec.Command("redis-cli", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("redis-cli %q: %v\n%s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		if got := cli("SET", "k", "by redis-cli"); got != "OK" {
			t.Errorf("SET: %q", got)
		}
		s.Dial().Expect("by redis-cli", "GET", "k")
		large := strings.Repeat("0123456789abcdef", 1<<16)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cfg := s.ca.Config("")
			cfg.MinVersion, cfg.MaxVersion = version, version
			goRedisOver(t, s.tls, cfg, large)
		}
		if got := cli("STRLEN", "large"); got != fmt.Sprint(len(large)) {
			t.Errorf("STRLEN: %q", got)
		}
	}
}

func goRedisOver(t *testing.T, addr string, cfg *tls.Config, large string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: addr, TLSConfig: cfg, PoolSize: 4})
	defer c.Close()
	if err := c.Set(ctx, "large", large, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(ctx, "large").Result(); err != nil || got != large {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	sub := c.Subscribe(ctx, "news")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(ctx, "news", "hello").Err(); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "hello" {
		t.Fatalf("%v %v", m, err)
	}
	popped := make(chan error, 1)
	go func() { popped <- c.BLPop(ctx, 10*time.Second, "list").Err() }()
	if err := c.RPush(ctx, "list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-popped; err != nil {
		t.Fatal(err)
	}
}

// TestTLSResumption: a client resumes its session on any thread, with less work.
func TestTLSResumption(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, false, "", "threads: 2\n")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		before, resumedBefore, _, _ := s.counted()
		cfg := s.ca.Config("")
		cfg.MinVersion, cfg.MaxVersion = version, version
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		const clients = 10
		for range clients {
			c := redistest.DialTLS(t, s.tls, cfg)
			c.Expect("PONG", "PING") // tickets of TLS 1.3 come before the first reply
			c.Close()
		}
		full, resumed, _, _ := s.counted()
		if full-before != 1 || resumed-resumedBefore != clients-1 {
			t.Errorf("version %x: %d full and %d resumed handshakes", version, full-before, resumed-resumedBefore)
		}
	}
}

// TestPlainOnTLSPort: a client that does not speak TLS is told so and closed at once, and is
// logged and counted.
func TestPlainOnTLSPort(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{false, true} {
		s := serveTLS(t, streams, "", "")
		conn, err := net.Dial("tcp", s.tls)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(handshakeLimit - time.Second)) // not because it has taken too long
		fmt.Fprint(conn, "*1\r\n$4\r\nPING\r\n")
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != "-ERR keyway: this port speaks TLS only\r\n" {
			t.Errorf("%q, %v", got, err)
		}
		s.log.has(t, "client refused", "does not speak TLS", "client="+conn.LocalAddr().String())
		if _, _, plain, failed := s.counted(); plain != 1 || failed != 0 {
			t.Errorf("%d without TLS and %d failed handshakes counted", plain, failed)
		}
		redistest.DialTLS(t, s.tls, s.ca.Config("")).Expect("PONG", "PING")
	}
}

// handshakeLimit is how long a handshake may take.
const handshakeLimit = 10 * time.Second

// TestClientCertificates: with client_auth require, a client needs a certificate of client_ca.
// With optional it may have none, but no wrong one. A refusal is logged.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	other := redistest.NewAuthority(t)
	other.Issue("stranger", time.Hour)
	for _, streams := range []bool{false, true} {
		for _, auth := range []string{"", "require", "optional"} {
			more := ", client_ca: %s"
			if auth != "" {
				more += ", client_auth: " + auth
			}
			s := serveTLS(t, streams, more, "")
			s.ca.Issue("client", time.Hour)
			s.ca.Issue("expired", -time.Hour)
			stranger := s.ca.Config("")
			stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &other.Config("stranger").Certificates[0], nil
			}
			withoutOne := "certificate required"
			if auth == "optional" {
				withoutOne = "PONG"
			}
			for name, tc := range map[string]struct {
				cfg  *tls.Config
				want string
			}{
				"one of the authority": {s.ca.Config("client"), "PONG"},
				"none":                 {s.ca.Config(""), withoutOne},
				"an expired one":       {s.ca.Config("expired"), "expired certificate"},
				"a stranger's":         {stranger, "unknown certificate authority"},
			} {
				if got := pingTLS(s.tls, tc.cfg); !strings.Contains(got, tc.want) {
					t.Errorf("client_auth %q, streams %v, %s: got %q, want %q", auth, streams, name, got, tc.want)
				}
			}
			s.log.has(t, "TLS handshake failed", "client=127.0.0.1:", "reason=")
		}
	}
}

// pingTLS returns the reply to PING, or the error.
func pingTLS(addr string, cfg *tls.Config) string {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", addr, cfg)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "PING\r\n")
	b := make([]byte, 100)
	n, err := conn.Read(b) // in TLS 1.3 the client learns only here that it was refused
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

// TestTLSByteByByte: records and handshakes that arrive byte by byte are read as if at once.
func TestTLSByteByByte(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, false, "", "")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := net.Dial("tcp", s.tls)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.ca.Config("")
		cfg.MinVersion, cfg.MaxVersion = version, version
		c := redistest.Over(t, tls.Client(byteWise{conn}, cfg))
		for i := range 20 {
			value := strings.Repeat("v", i*7)
			c.Expect("OK", "SET", "k", value)
			c.Expect(value, "GET", "k")
		}
		c.Expect("OK", "QUIT")
		if _, err := c.Conn.Read(make([]byte, 1)); err != io.EOF { // close_notify, not a cut
			t.Errorf("after QUIT: %v", err)
		}
	}
}

// byteWise writes each byte alone.
type byteWise struct{ net.Conn }

func (c byteWise) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		if i%16 == 0 {
			time.Sleep(100 * time.Microsecond) // so that they are not read together
		}
	}
	return len(b), nil
}

// TestTLSSlowReader: replies of 1 MB reach a client that reads slowly, unchanged and in order,
// while keyway's buffers for it stay bounded and others are served.
func TestTLSSlowReader(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, false, "", "")
	other := s.Dial()
	large := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	other.Expect("OK", "SET", "large", string(large))
	conn, err := net.Dial("tcp", s.tls)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	c := tls.Client(conn, s.ca.Config(""))
	defer c.Close()
	c.SetDeadline(time.Now().Add(50 * time.Second))
	const replies = 8
	fmt.Fprint(c, strings.Repeat("GET large\r\n", replies))
	want := append(append([]byte("$1048576\r\n"), large...), "\r\n"...)
	chunk := make([]byte, 32<<10)
	for i := range replies {
		got := make([]byte, 0, len(want))
		for len(got) < len(want) {
			n, err := c.Read(chunk[:min(len(chunk), len(want)-len(got))])
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, chunk[:n]...); len(got)%(256<<10) < n && i < 2 {
				time.Sleep(20 * time.Millisecond)
				other.Expect("PONG", "PING")
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("reply %d is not what was set", i)
		}
	}
}
