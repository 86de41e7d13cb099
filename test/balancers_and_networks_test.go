package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// door is a keyway with a plain listener, and one for balancers of 127.0.0.1.
type door struct {
	*redistest.Keyway
	log       *logBuffer
	balancers string // an address
}

// serveBalancers starts a keyway over one node. more are further keys of the balancers' listener.
func serveBalancers(t *testing.T, streams bool, more, yaml string) *door {
	t.Helper()
	d := &door{log: new(logBuffer)}
	listen := fmt.Sprintf("listen: [127.0.0.1:0, {addr: \"localhost:0\", proxy_protocol: {from: 127.0.0.1}%s}]\n", more)
	d.Keyway = redistest.ServeWith(t, listen+yaml+redistest.Ring(redistest.Start(t).Addr), server.Options{
		Log: slog.New(slog.NewTextHandler(d.log, nil)), Streams: streams,
	}).Ready()
	addrs := d.Server.Addrs()
	d.balancers = addrs[len(addrs)-1].String()
	return d
}

// closed returns how many connections all threads have refused.
func (d *door) closed() (header, network, protected uint64) {
	for _, s := range d.Snapshot() {
		header, network = header+s.ClosedHeader, network+s.ClosedNetwork
		protected += s.ClosedProtected
	}
	return header, network, protected
}

// talk connects from an address of this machine, sends the texts in packets of their own, and
// returns all that comes back until keyway closes the connection, or has answered PING.
func talk(t *testing.T, from, to string, texts ...string) (got, local string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	for i, text := range texts {
		if i > 0 {
			time.Sleep(time.Millisecond) // so that the parts rather arrive one by one
		}
		if _, err := io.WriteString(conn, text); err != nil {
			break // keyway has closed it
		}
	}
	b, buf := []byte(nil), make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		b = append(b, buf[:n]...)
		if err != nil || strings.HasSuffix(string(b), "+PONG\r\n") {
			return string(b), conn.LocalAddr().String()
		}
	}
}

// binaryHeader returns a header of version 2 for a client of IPv4, as the specification has it.
func binaryHeader(command byte, address, more string) string {
	b := "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{0x20 | command, 0x11})
	rest := address + more
	return b + string([]byte{byte(len(rest) >> 8), byte(len(rest))}) + rest
}

// clientOfDocs is 192.0.2.7:4660 to 10.0.0.1:6379.
const clientOfDocs = "\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x34\x18\xeb"

// TestProxyProtocol: the address that a balancer announces is that of the client, whatever form
// the header has, however it arrives, and with commands in the same packet.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	const ask = "CLIENT INFO\r\nPING\r\n"
	for _, streams := range []bool{false, true} {
		d := serveBalancers(t, streams, "", "protected_mode: false\nthreads: 2\n")
		for header, want := range map[string]string{
			"PROXY TCP4 192.0.2.7 10.0.0.1 4660 6379\r\n":                             "192.0.2.7:4660",
			"PROXY TCP6 2001:db8::7 2001:db8::1 4660 6379\r\n":                        "[2001:db8::7]:4660",
			"PROXY UNKNOWN\r\n":                                                       "",
			"PROXY UNKNOWN a b c d e\r\n":                                             "",
			binaryHeader(1, clientOfDocs, ""):                                         "192.0.2.7:4660",
			binaryHeader(1, clientOfDocs, "\x05\x00\x03abc\x04\x00\x00"):              "192.0.2.7:4660",
			binaryHeader(1, clientOfDocs, "\x05\xfd\xe8"+strings.Repeat("x", 0xfde8)): "192.0.2.7:4660",
			binaryHeader(0, clientOfDocs, ""):                                         "",
		} {
			packets := [][]string{{header + ask}, {header, ask}, {header[:5], header[5:] + ask}}
			if len(header) < 200 {
				packets = append(packets, strings.Split(header+ask, ""))
			}
			for _, texts := range packets {
				got, local := talk(t, "127.0.0.1", d.balancers, texts...)
				want := want
				if want == "" {
					want = local // the balancer itself
				}
				if !strings.Contains(got, " addr="+want+" ") {
					t.Errorf("%.50q in %d packets: %q", header, len(texts), got)
				}
			}
		}
		// What is logged about the client has its address too.
		talk(t, "127.0.0.1", d.balancers, binaryHeader(1, clientOfDocs, "")+"*1\r\n$x\r\n")
		d.log.has(t, "client refused", "client=192.0.2.7:4660")
		if header, _, _ := d.closed(); header != 0 {
			t.Errorf("%d headers refused", header)
		}
	}
}

// TestProxyProtocolBeforeTLS: the header comes before the handshake, in the same packet too.
func TestProxyProtocolBeforeTLS(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{false, true} {
		ca := redistest.NewAuthority(t)
		cert, key := ca.Issue("server", 24*time.Hour)
		d := serveBalancers(t, streams, fmt.Sprintf(", tls: {cert: %q, key: %q}", cert, key), "protected_mode: false\n")
		for _, header := range []string{
			binaryHeader(1, clientOfDocs, "\x04\x00\x01x"), "PROXY TCP4 192.0.2.7 10.0.0.1 4660 6379\r\n",
		} {
			conn, err := net.Dial("tcp", d.balancers)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			c := tls.Client(&withPrefix{conn, []byte(header)}, ca.Config(""))
			fmt.Fprint(c, "CLIENT INFO\r\nQUIT\r\n")
			got, err := io.ReadAll(c)
			if err != nil || !strings.Contains(string(got), " addr=192.0.2.7:4660 ") {
				t.Errorf("%q: %q, %v", header, got, err)
			}
			conn.Close()
		}
	}
}

// withPrefix sends bytes with the first that are written, in one packet.
type withPrefix struct {
	net.Conn
	first []byte
}

func (c *withPrefix) Write(b []byte) (int, error) {
	first := c.first
	c.first = nil
	n, err := c.Conn.Write(append(first, b...))
	return n - len(first), err
}

// TestProxyProtocolRefusals: connections that break the rules are told so where they can read it,
// and closed, logged and counted.
func TestProxyProtocolRefusals(t *testing.T) {
	t.Parallel()
	const expects = "-ERR keyway: this port expects the PROXY protocol of a balancer\r\n"
	for _, streams := range []bool{false, true} {
		ca := redistest.NewAuthority(t)
		cert, key := ca.Issue("server", 24*time.Hour)
		tlsListener := fmt.Sprintf("}, {addr: \"127.1.1.1:0\", tls: {cert: %q, key: %q}", cert, key)
		d := serveBalancers(t, streams, tlsListener, "")
		addrs := d.Server.Addrs()
		plain, balancers, secured := addrs[0].String(), addrs[1].String(), addrs[2].String()
		tlsWants := "-ERR keyway: this port speaks TLS only\r\n"
		for i, tc := range []struct{ name, from, to, text, want, log string }{
			{"commands", "127.0.0.1", balancers, "PING\r\n", expects, "sends no PROXY protocol header"},
			{"RESP", "127.0.0.1", balancers, "*1\r\n$4\r\nPING\r\n", expects, "sends no PROXY protocol header"},
			{"TLS", "127.0.0.1", balancers, "\x16\x03\x01\x00\x05hello", expects, "sends no PROXY protocol header"},
			{"broken", "127.0.0.1", balancers, "PROXY TCP4 x\r\n", expects, "sends a broken PROXY protocol header"},
			{"foreign", "127.0.0.2", balancers, "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nPING\r\n", "",
				"its address is not in proxy_protocol.from"},
			{"plain port", "127.0.0.1", plain, "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nPING\r\n",
				"-ERR keyway: this port does not expect the PROXY protocol; see proxy_protocol under listen\r\n",
				"sends a PROXY protocol header, and this port does not expect one"},
			{"plain port, v2", "127.0.0.1", plain, binaryHeader(1, clientOfDocs, "") + "PING\r\n",
				"-ERR keyway: this port does not expect the PROXY protocol; see proxy_protocol under listen\r\n",
				"sends a PROXY protocol header, and this port does not expect one"},
			{"TLS port", "127.0.0.1", secured, "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nPING\r\n", tlsWants,
				"sends a PROXY protocol header, and this port does not expect one"},
		} {
			if streams && tc.name == "TLS port" {
				tc.log = "does not speak TLS" // crypto/tls has read the header
			}
			got, _ := talk(t, tc.from, tc.to, tc.text)
			if got != tc.want {
				t.Errorf("%s: %q", tc.name, got)
			}
			if tc.name == "RESP" || tc.name == "TLS" || tc.name == "plain port, v2" {
				continue // the same reason is logged once a second
			}
			d.log.has(t, "client refused", tc.log)
			redistest.Eventually(t, 10*time.Second, tc.name+" is counted", func() bool {
				header, _, _ := d.closed()
				return header >= uint64(i)
			})
		}
		// A balancer that only looks whether the port is open is no refusal.
		conn, err := net.Dial("tcp", balancers)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		want := uint64(8)
		if streams {
			want-- // the TLS port's
		}
		if header, network, protected := d.closed(); header != want || network+protected != 0 {
			t.Errorf("%d headers, %d networks, %d protected", header, network, protected)
		}
	}
}

// TestProxyProtocolTimeout: a balancer that sends no header, or not all of it, is closed, logged
// and counted.
func TestProxyProtocolTimeout(t *testing.T) {
	t.Parallel()
	var doors []*door
	var conns []net.Conn
	for _, streams := range []bool{false, true} {
		d := serveBalancers(t, streams, "", "clients: {max: 2}\n")
		doors = append(doors, d)
		for _, text := range []string{"", "PROXY TCP4"} {
			conn, err := net.Dial("tcp", d.balancers)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, text)
			conns = append(conns, conn)
		}
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if got, err := io.ReadAll(conn); err != nil || len(got) > 0 {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, d := range doors {
		d.log.has(t, "has sent no PROXY protocol header in time", "client=127.0.0.1:")
		redistest.Eventually(t, 10*time.Second, "the refused ones are counted, and make room", func() bool {
			header, _, _ := d.closed()
			return header == 2 && redistest.Ask(d.Addr, "PING").Text == "PONG"
		})
	}
}

// TestProtectedMode: without a password, clients of other machines are refused, in Redis's words.
// With a password, without protected mode and over loopback they are served.
func TestProtectedMode(t *testing.T) {
	t.Parallel()
	const announced = "PROXY TCP4 192.0.2.7 10.0.0.1 4660 6379\r\n"
	for _, streams := range []bool{false, true} {
		for yaml, want := range map[string]string{
			"": "-DENIED keyway is running in protected mode because protected mode is enabled and no password is " +
				"set for the default user.",
			"users: [{name: default, acl: \"on nopass ~* +@all\"}]\n": "-DENIED keyway is running in protected mode",
			"users: [{name: default, acl: \"off\"}]\n":                "-NOAUTH ",
			"clients: {password: secret}\n":                           "-NOAUTH ",
			"protected_mode: false\n":                                 "+PONG\r\n",
		} {
			d := serveBalancers(t, streams, "", yaml)
			got, _ := talk(t, "127.0.0.1", d.balancers, announced+"PING\r\nQUIT\r\n")
			_, _, protected := d.closed()
			denied := strings.HasPrefix(want, "-DENIED")
			if !strings.HasPrefix(got, want) || denied != (protected == 1) ||
				denied && strings.Count(got, "\r\n") != 1 {
				t.Errorf("%q: %q, %d counted", yaml, got, protected)
			}
			if denied {
				d.log.has(t, "client refused", "protected mode", "client=192.0.2.7:4660")
			}
			// A client of this machine, which needs no balancer.
			if got, _ := talk(t, "127.0.0.2", d.Addr, "PING\r\nQUIT\r\n"); strings.HasPrefix(got, "-DENIED") {
				t.Errorf("%q over loopback: %q", yaml, got)
			}
		}
	}
}

// TestAllowedNetworks: connections from elsewhere are closed before they cost anything, counted
// and logged. A balancer's client counts by its own address. A reload closes clients whose
// network is gone.
func TestAllowedNetworks(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "s")
		d := serveBalancers(t, streams, "}, {addr: \"unix://"+file+"\"",
			"protected_mode: false\nclients: {allow: [127.0.0.3, 192.0.2.0/24]}\n")
		d.balancers = d.Server.Addrs()[1].String()
		for _, tc := range []struct{ from, to, text, want string }{
			{"127.0.0.3", d.Addr, "PING\r\n", "+PONG\r\n"},
			{"127.0.0.1", d.Addr, "PING\r\n", ""},
			{"127.0.0.1", d.balancers, "PROXY TCP4 192.0.2.7 10.0.0.1 4660 6379\r\nPING\r\n", "+PONG\r\n"},
			{"127.0.0.1", d.balancers, "PROXY TCP4 192.0.3.7 10.0.0.1 4660 6379\r\nPING\r\n", ""},
			{"127.0.0.1", d.balancers, "PROXY UNKNOWN\r\nPING\r\n", "+PONG\r\n"}, // the balancer's own check
		} {
			if got, _ := talk(t, tc.from, tc.to, tc.text); got != tc.want {
				t.Errorf("%q from %s: %q", tc.text, tc.from, got)
			}
		}
		redistest.Dial(t, file).Expect("PONG", "PING")
		d.log.has(t, "client refused", "its address is not in clients.allow", "client=127.0.0.1:")
		if header, network, _ := d.closed(); header != 0 || network != 2 {
			t.Errorf("%d headers and %d networks counted", header, network)
		}
	}
	node := redistest.Start(t)
	r := startReloadable(t, redistest.Ring(node.Addr), "")
	inside, outside := dialFrom(t, "127.0.0.1", r.listen), dialFrom(t, "127.0.0.5", r.listen)
	inside.Expect("PONG", "PING")
	outside.Expect("PONG", "PING")
	r.reload("clients: {allow: 127.0.0.1}\n")
	inside.Expect("PONG", "PING")
	if got, err := outside.TryDo("PING"); err == nil {
		t.Errorf("a client of a network that is gone got %v", got)
	}
	if got, _ := talk(t, "127.0.0.5", r.listen, "PING\r\n"); got != "" {
		t.Errorf("%q", got)
	}
	r.reload("clients: {allow: [127.0.0.1, 127.0.0.5]}\n")
	if got, _ := talk(t, "127.0.0.5", r.listen, "PING\r\n"); got != "+PONG\r\n" {
		t.Errorf("%q", got)
	}
	inside.Expect("PONG", "PING")
}

func dialFrom(t *testing.T, from, to string) *redistest.Client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return redistest.Over(t, conn)
}

// TestProtectedModeIsAnnounced: check and the log say on which addresses clients are refused.
func TestProtectedModeIsAnnounced(t *testing.T) {
	t.Parallel()
	const nodes = "layout: ring\nnodes: [{name: a, addr: \"10.255.255.1:1\"}]\n"
	const warning = "protected mode: clients of other machines are refused on 0.0.0.0:6380, 10.0.0.1:1, because " +
		"clients need no password; set clients.password, users or users_file, or write protected_mode: false if only " +
		"trusted machines reach keyway"
	const listen = "listen: [0.0.0.0:6380, 127.0.0.1:2, \"localhost:3\", \"unix:///x\", \"10.0.0.1:1\"]\n"
	for yaml, want := range map[string]int{
		listen: 1, listen + "protected_mode: false\n": 0, listen + "clients: {password: x}\n": 0,
		"listen: [127.0.0.1:1, \"[::1]:1\"]\n": 0,
	} {
		out, ok := check(t, nodes+yaml, "--offline")
		if !ok || lines(out, "warning: "+warning) != want || lines(out, "protected mode") != want {
			t.Errorf("%q: %s", yaml, out)
		}
	}
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr), "clients: {password: x}\n")
	balancers := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	r.head = fmt.Sprintf("listen: [%s, {addr: %q, proxy_protocol: {from: 127.0.0.1}}]\nadmin: %s\n",
		r.listen, balancers, r.admin)
	r.reload("clients: {password: x}\n")
	if strings.Contains(r.stderr.String(), "protected mode") {
		t.Error("the log warns though there is a password")
	}
	r.reload("")
	redistest.Eventually(t, 10*time.Second, "the log warns", func() bool {
		return strings.Contains(r.stderr.String(),
			"protected mode: clients of other machines are refused on "+balancers)
	})
}

// TestProtectedModeAndCertificates: a client that must have a certificate needs no password, and one
// that speaks TLS can read why it is refused.
func TestProtectedModeAndCertificates(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{false, true} {
		ca := redistest.NewAuthority(t)
		cert, key := ca.Issue("server", 24*time.Hour)
		ca.Issue("client", 24*time.Hour)
		for auth, want := range map[string]string{
			"require": "+PONG\r\n+OK\r\n", "optional": "-DENIED keyway is running in protected mode",
		} {
			d := serveBalancers(t, streams, fmt.Sprintf(", tls: {cert: %q, key: %q, client_ca: %q, client_auth: %s}",
				cert, key, ca.File, auth), "")
			conn, err := net.Dial("tcp", d.balancers)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprint(conn, binaryHeader(1, clientOfDocs, ""))
			c := tls.Client(conn, ca.Config("client"))
			fmt.Fprint(c, "PING\r\nQUIT\r\n")
			if got, err := io.ReadAll(c); !strings.HasPrefix(string(got), want) {
				t.Errorf("%s: %q, %v", auth, got, err)
			}
		}
	}
}
