package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
)

// refusals are texts in error replies, and what to do about each; see control.Account.Remedy.
var refusals = []struct{ text, remedy string }{
	{"WRONGPASS", "correct backend.username and backend.password"},
	{"invalid password", "correct backend.password"}, // before Redis 6
	{"NOAUTH", "write backend.password"},
	{"without any password configured", "remove backend.password, or set the server's requirepass"},
	{"no password is set", "remove backend.password, or set the server's requirepass"}, // before Redis 6
	{"DENIED", "set the server's requirepass and backend.password, or turn its protected-mode off"},
	{"NOPERM", "allow its user the command: ACL SETUSER NAME +COMMAND"},
	{"max number of clients", "raise the server's maxclients, or close connections"},
	{"the node's register says", "wait until keyway has taken that layout; if it cannot, the log says why"},
	{"LOADING", "wait until the server has loaded its data"},
	{"BUSY", "wait until the script ends, or end it: SCRIPT KILL"},
	{
		"cluster support disabled",
		"name nodes of a cluster; for standalone nodes write layout: ring, range or modulo, or slots: {static: ...}",
	},
	{"unknown command 'sentinel'", "name sentinels, not Redis nodes; sentinels listen on port 26379 by default"},
	{"No such master", "write a name that SENTINEL MASTERS prints"},
}

// handshakes are texts in errors of TLS, and what to do about each. %s is the section of the
// configuration with tls.
var handshakes = []struct{ text, remedy string }{
	{"first record does not look like a TLS handshake", notTLS},
	{"signed by unknown authority", "name the authority that signed the server's certificate: %s.tls.ca"},
	{"certificate is valid for", "write a name that the certificate has into %s.tls.server_name"},
	{"cannot validate certificate for", "write a name that the certificate has into %s.tls.server_name"},
	{"certificate is not valid for any names", "give the server a certificate with its name, a subjectAltName"},
	{"certificate relies on legacy Common Name", "give the server a certificate with its name as subjectAltName"},
	{"has expired or is not yet valid", "replace the server's certificate, or set this machine's clock"},
	{"remote error: tls: expired certificate", "replace the certificate %s.tls.cert"},
	{"remote error: tls: certificate required", "write %s.tls.cert and %[1]s.tls.key: the server demands a " +
		"certificate"},
	{"remote error: tls: unknown certificate authority", "write a certificate into %s.tls.cert that an authority of " +
		"the server has signed (its tls-ca-cert-file)"},
	{"remote error: tls: bad certificate", "write a certificate into %s.tls.cert that the server accepts"},
	{"remote error: tls: handshake failure", "write %s.tls.cert and %[1]s.tls.key if the server demands a " +
		"certificate, or look into its log: it may allow no common version or cipher"},
	{"remote error: tls: protocol version not supported", "allow TLS 1.2 or 1.3 on the server (tls-protocols)"},
	{"TLS handshake: no answer", notTLS},
	{"TLS handshake: context deadline exceeded", notTLS},
	{"TLS handshake: EOF", notTLS},
	{"TLS handshake: ", "look into the server's log"},
}

// notTLS says what to do about a server that does not speak TLS. Such a Redis may be silent, because
// it waits for the end of a line.
const notTLS = "name the server's tls-port; if it has none, write %s.tls: false, or leave %[1]s.tls out"

// Explain describes for an operator why a server could not be asked as an account, and what to
// do about it.
func Explain(err error, as control.Account) (problem, remedy string) {
	text := strings.TrimSuffix(err.Error(), ".")
	for _, r := range refusals {
		if strings.Contains(text, r.text) {
			return "refuses keyway: " + text, as.Remedy(r.remedy)
		}
	}
	if as.TLS != nil {
		for _, r := range handshakes {
			switch isOfTLS := strings.Contains(text, r.text); {
			case isOfTLS && strings.Contains(r.remedy, "%"):
				return "cannot be reached over TLS: " + text, fmt.Sprintf(r.remedy, as.TLSSection)
			case isOfTLS:
				return "cannot be reached over TLS: " + text, r.remedy
			}
		}
	}
	var reply redis.Error
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, ErrNoAddress):
		return "cannot be reached: " + text, "start the sentinels, or correct their addresses and the master's name"
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "connection refused"):
		return "cannot be reached: connection refused", "start it, or correct its address"
	case errors.As(err, &name):
		return "cannot be reached: " + name.Error(), "correct its name, or write its IP address"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF),
		strings.Contains(text, "connection reset by peer"), text == "the node closed the connection":
		return "closes the connection without an answer",
			endedRemedy(as)
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "does not answer in time: " + text,
			"correct its address, let firewalls pass its packets, or see whether it is stopped or overloaded"
	case strings.Contains(text, "redis: can't parse"), strings.Contains(text, "redis: invalid reply"):
		return "does not speak as Redis: " + text, "correct its address"
	case errors.As(err, &reply):
		return "refuses keyway: " + text, "look into the server's log"
	}
	return "cannot be reached: " + text, "correct its address, or look into the server's log"
}

// endedRemedy returns what to do about a server that closes connections without an answer.
func endedRemedy(as control.Account) string {
	const others = "look into the server's log, for maxclients and protected-mode"
	if as.TLS == nil {
		return "if its port speaks TLS, write " + as.TLSSection + ".tls or name another port; otherwise " + others
	}
	return others + ", and for errors of TLS"
}
