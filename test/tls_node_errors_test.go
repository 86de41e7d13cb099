package test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// troubledTLS are nodes that keyway cannot reach over TLS, and why. wants are what check and the
// log say; they name the node's own section.
type troubledTLS struct{ name, addr, tls, problem, remedy string }

func troubles(t *testing.T, ca *redistest.Authority) []troubledTLS {
	other, expired := redistest.NewAuthority(t), redistest.NewAuthority(t)
	good := func() *redistest.Node { return redistest.Start(t, ca.NodeOptions()...) }
	strict := func() *redistest.Node {
		return redistest.Start(t, ca.NodeOptions("--tls-auth-clients", "yes")...)
	}
	old := redistest.Start(t, ca.NodeOptions("--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2")...)
	options := expired.NodeOptions()
	expired.Issue("node", -time.Hour)
	late := redistest.Start(t, options...)
	cert, key := other.Issue("client", time.Hour)
	trust := func(file, more string) string { return fmt.Sprintf("{ca: %q%s}", file, more) }
	return []troubledTLS{
		{"authority", good().TLSAddr, trust(other.File, ""), "certificate signed by unknown authority",
			"name the authority that signed the server's certificate: nodes[0].tls.ca"},
		{"system", good().TLSAddr, "true", "certificate signed by unknown authority",
			"name the authority that signed the server's certificate: nodes[1].tls.ca"},
		{"expired", late.TLSAddr, trust(expired.File, ""), "certificate has expired or is not yet valid",
			"replace the server's certificate, or set this machine's clock"},
		{"name", good().TLSAddr, trust(ca.File, ", server_name: redis.example"),
			"certificate is valid for localhost, not redis.example",
			"write a name that the certificate has into nodes[3].tls.server_name"},
		{"plain", good().Addr, trust(ca.File, ""), "TLS handshake: ",
			"name the server's tls-port; if it has none, write nodes[4].tls: false, or leave nodes[4].tls out"},
		{"encrypted", good().TLSAddr, "false", "", "if its port speaks TLS, write nodes[5].tls or name another port; " +
			"otherwise look into the server's log, for maxclients and protected-mode"},
		{"strict", strict().TLSAddr, trust(ca.File, ""), "remote error: tls: certificate required",
			"write nodes[6].tls.cert and nodes[6].tls.key: the server demands a certificate"},
		{"stranger", strict().TLSAddr, trust(ca.File, fmt.Sprintf(", cert: %q, key: %q", cert, key)),
			"remote error: tls: unknown certificate authority",
			"write a certificate into nodes[7].tls.cert that an authority of the server has signed"},
		{"old", old.TLSAddr, trust(ca.File, ""), "remote error: tls: handshake failure",
			"write nodes[8].tls.cert and nodes[8].tls.key if the server demands a certificate"},
		{"silent", silent(t), trust(ca.File, ""), "TLS handshake: ",
			"name the server's tls-port; if it has none, write nodes[9].tls: false, or leave nodes[9].tls out"},
	}
}

// TestTLSErrorsNameTheRemedy: for each way in which TLS with a node fails, the log says once what
// to do, and check does too.
func TestTLSErrorsNameTheRemedy(t *testing.T) {
	t.Parallel()
	ca := redistest.NewAuthority(t)
	all := troubles(t, ca)
	// A busy machine is no silent node.
	yaml := "layout: ring\nbackend: {connect_timeout: 3s}\nnodes:\n"
	for _, n := range all {
		yaml += fmt.Sprintf("  - {name: %s, addr: %s, tls: %s}\n", n.name, n.addr, n.tls)
	}
	log := new(redistest.Log)
	k := redistest.ServeWith(t, yaml, server.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	checked, ok := check(t, yaml, "--connect")
	for _, n := range all {
		want := fmt.Sprintf("remedy=%q", n.remedy)
		if n.name == "old" || n.name == "stranger" {
			want = strings.TrimSuffix(want, `"`) // its remedy is longer
		}
		var line string
		redistest.Eventually(t, 20*time.Second, "the log has node "+n.name, func() bool {
			for line = range strings.Lines(log.String()) {
				if strings.Contains(line, `msg="node unreachable" node=`+n.name+" ") {
					return true
				}
			}
			return false
		})
		if !strings.Contains(line, n.problem) || !strings.Contains(line, want) {
			t.Errorf("the log has\n%s\nwant %s; %s", line, n.problem, want)
		}
		if lines(checked, "problem: node "+n.name+" ", n.problem, n.remedy) != 1 || ok {
			t.Errorf("check prints no problem of %s:\n%s\nwant %s; %s", n.name, checked, n.problem, n.remedy)
		}
	}
	k.Stop()
}

// TestTLSAccounts: keyway shows its certificate to nodes that demand one. A host name in an
// address is the name that the certificate must have.
func TestTLSAccounts(t *testing.T) {
	t.Parallel()
	ca := redistest.NewAuthority(t)
	cert, key := ca.Issue("client", time.Hour)
	strict := redistest.Start(t, ca.NodeOptions("--tls-auth-clients", "yes")...)
	older := redistest.Start(t, ca.NodeOptions("--tls-protocols", "TLSv1.2")...)
	own := fmt.Sprintf("{ca: %q, cert: %q, key: %q}", ca.File, cert, key)
	for name, node := range map[string]string{
		"certificate": fmt.Sprintf("{name: a, addr: %s, tls: %s}", strict.TLSAddr, own),
		"host name":   fmt.Sprintf("{name: a, addr: localhost:%d, tls: %s}", strict.TLSPort, own),
		"given name": fmt.Sprintf("{name: a, addr: %s, tls: %s, server_name: localhost}}", strict.TLSAddr,
			own[:len(own)-1]),
		"not verified": fmt.Sprintf("{name: a, addr: %s, tls: {insecure_skip_verify: true, %s}", strict.TLSAddr,
			own[strings.Index(own, "cert:"):]),
		"without TLS":   fmt.Sprintf("{name: a, addr: %s, tls: false}", strict.Addr),
		"over TLS 1.2":  fmt.Sprintf("{name: a, addr: %s, tls: %s}", older.TLSAddr, own),
		"the backend's": fmt.Sprintf("{name: a, addr: %s}", strict.TLSAddr),
	} {
		yaml := "layout: ring\nnodes: [" + node + "]\nbackend: {tls: " + own + "}\n"
		k := redistest.Serve(t, yaml).Ready()
		k.Dial().Expect("OK", "SET", "key", name)
		if out, ok := check(t, yaml, "--connect"); !ok {
			t.Errorf("%s: %s", name, out)
		}
		k.Stop()
	}
}
