package faults

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// secure is a keyway process with a plain listener, one that speaks TLS, and an admin address.
type secure struct {
	*redistest.Process
	tls, admin string
	cfg        *tls.Config // of its clients
}

// serveSecure starts a keyway of so many nodes with this configuration. more are further listeners.
func serveSecure(t *testing.T, ca *redistest.Authority, nodes int, more, yaml string) *secure {
	t.Helper()
	cert, key := ca.Issue("server", 24*time.Hour)
	s := &secure{cfg: ca.Config(""), tls: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))}
	plain := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	adminAddr, adminYAML := admin(t)
	s.admin = adminAddr
	yaml = fmt.Sprintf("listen: [%q, {addr: %q, tls: {cert: %q, key: %q}}%s]\nshutdown: {drain: 0s}\n",
		plain, s.tls, cert, key, more) + adminYAML + yaml
	s.Process = redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", yaml))
	s.Addr = plain
	redistest.Eventually(t, 10*time.Second, "keyway reaches the nodes", func() bool {
		conn, err := net.Dial("tcp", adminAddr)
		if err != nil {
			return false
		}
		conn.Close()
		return metric(t, adminAddr, "keyway_node_up") == float64(nodes)
	})
	return s
}

// dialTLS connects from one of many addresses, since one has too few ports for all clients of a
// test, and gets a reply from a node.
func dialTLS(addr string, cfg *tls.Config, i int) (*tls.Conn, error) {
	d := &net.Dialer{
		Timeout:   20 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%100))},
	}
	conn, err := tls.DialWithDialer(d, "tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	defer conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "EXISTS nothing\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	reply := make([]byte, 4)
	if _, err := io.ReadFull(conn, reply); err != nil || string(reply) != ":0\r\n" {
		conn.Close()
		return nil, fmt.Errorf("got %q, %v", reply, err)
	}
	return conn, nil
}

// maxTLSClient is the most memory that an idle client may take.
const maxTLSClient = 16 << 10

// TestManyTLSClients: each of 10,000 idle clients that speak TLS takes 16 KiB of the process's
// memory at most, all in, and none takes a goroutine. All of them get replies at once.
func TestManyTLSClients(t *testing.T) {
	redistest.OfAProcess(t)
	n := scale(3_000, 10_000) // so many that what the process itself returns meanwhile matters little
	yaml := "clients: {max: 20000}\n" + redistest.Ring(redistest.Start(t).Addr)
	s := serveSecure(t, redistest.NewAuthority(t), 1, "", yaml)
	var conns []*tls.Conn
	defer func() {
		for _, c := range conns {
			c.NetConn().Close()
		}
	}()
	open := func(upTo int) {
		for len(conns) < upTo {
			c, err := dialTLS(s.tls, s.cfg, len(conns))
			if err != nil {
				t.Fatalf("client %d: %v", len(conns), err)
			}
			conns = append(conns, c)
		}
	}
	open(100) // the first ones make the process allocate what is not theirs
	goroutines, base := metric(t, s.admin, "go_goroutines"), s.RSS()
	began := time.Now()
	open(100 + n)
	took := time.Since(began)
	var each int64
	redistest.Eventually(t, 30*time.Second, "an idle client takes 16 KiB at most", func() bool {
		each = (s.RSS() - base) / int64(n)
		return each <= maxTLSClient
	})
	more := metric(t, s.admin, "go_goroutines") - goroutines
	t.Logf("%d idle clients, connected in %s: %d bytes each, %.0f goroutines more", n, took, each, more)
	if more > 20 {
		t.Errorf("%d clients cost %.0f goroutines", n, more)
	}
	for _, c := range conns {
		io.WriteString(c, "PING\r\n")
	}
	for i, c := range conns {
		reply := make([]byte, 7)
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(c, reply); err != nil || string(reply) != "+PONG\r\n" {
			t.Fatalf("client %d got %q, %v", i, reply, err)
		}
	}
}

// handshakesPerSecond is the storm of handshakes that others must not notice.
const handshakesPerSecond = 1000

// storm makes full handshakes for half a second, so many in a second whether or not the earlier ones have ended, as
// clients do that have all lost their connections. It returns how many have succeeded.
func storm(addr string, cfg *tls.Config) (done int64) {
	const most = handshakesPerSecond / 2 // at a time; if the machine cannot do more, there are fewer a second
	var wg sync.WaitGroup
	var ended atomic.Int64
	running := make(chan struct{}, most)
	began := time.Now()
	for i := range handshakesPerSecond / 2 {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / handshakesPerSecond)))
		running <- struct{}{}
		wg.Go(func() {
			defer func() { <-running }()
			if c, err := dialTLS(addr, cfg, i); err == nil {
				ended.Add(1)
				c.NetConn().Close()
			}
		})
	}
	wg.Wait()
	return ended.Load()
}

// TestHandshakesLeaveOthersCalm: a thousand clients a second that connect with full handshakes, get a reply and leave
// delay plain clients of the same keyway hardly more than those of another one.
func TestHandshakesLeaveOthersCalm(t *testing.T) {
	redistest.OfAProcess(t)
	ca := redistest.NewAuthority(t)
	over := map[string]string{} // the TLS address beside each plain one
	var done int64
	var took time.Duration
	(&calm{
		node: func() *redistest.Node {
			n := redistest.Start(t, ca.NodeOptions()...)
			over[n.Addr] = n.TLSAddr
			return n
		},
		yaml: func(node string) string { return redistest.Ring(node) },
		serve: func(yaml string) *redistest.Process {
			s := serveSecure(t, ca, 1, "", yaml)
			over[s.Addr] = s.tls
			return s.Process
		},
		disturb: func(addr string) {
			began := time.Now()
			done += storm(over[addr], ca.Config(""))
			took += time.Since(began)
		},
	}).assert(t)
	t.Logf("%d handshakes, %.0f a second", done, float64(done)/took.Seconds())
	if done == 0 {
		t.Error("no handshake has succeeded: the test has not tested anything")
	}
}

// maxTLSCost is how much more processor time of keyway a command may take over TLS.
const maxTLSCost = 2.5

// TestTLSCosts: GETs of 50 clients in pipelines of 16 take keyway's processor at most 2.5 times
// as long over TLS as over plain connections.
func TestTLSCosts(t *testing.T) {
	redistest.OfAProcess(t)
	ca := redistest.NewAuthority(t)
	node := redistest.Start(t)
	s := serveSecure(t, ca, 1, "", "threads: 1\n"+redistest.Ring(node.Addr))
	n := scale(300_000, 1_000_000)
	cost := func(command, addr string, more ...string) float64 {
		_, port, _ := net.SplitHostPort(addr)
		args := append([]string{"-h", "127.0.0.1", "-p", port, "-c", "50", "-P", "16", "-n", fmt.Sprint(n),
			"-r", "1000", "-t", command, "-q"}, more...)
		before := s.CPU()
		if out, err := exec.Command("redis-benchmark", args...).CombinedOutput(); err != nil {
			t.Fatalf("redis-benchmark: %v\n%s", err, out)
		}
		return float64((s.CPU() - before).Nanoseconds()) / float64(n) / 1e3
	}
	cost("set", s.Addr)
	var plain, secured []float64
	for range 3 {
		plain = append(plain, cost("get", s.Addr))
		secured = append(secured, cost("get", s.tls, "--tls", "--cacert", ca.File))
	}
	ratio := slices.Min(secured) / slices.Min(plain)
	t.Logf("processor time of a GET: plain %.2f us, over TLS %.2f us; ratio %.2f", plain, secured, ratio)
	if ratio > maxTLSCost {
		t.Errorf("a GET takes %.2f times as long over TLS", ratio)
	}
}
