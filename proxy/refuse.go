package proxy

import "github.com/keyway-proxy/keyway/pool"

// Refusal is a log entry: keyway refused a client's request or closed the client.
type Refusal struct {
	Reason string // one of a few texts, because the log is rate-limited by reason
	Client string // the client's address
}

// maxRefusals bounds the refusals that one turn logs.
const maxRefusals = 16

// logRefusal asks the shell to log a refusal.
func (w *Worker) logRefusal(s *Session, reason string) {
	if len(w.ready.Refusals) < maxRefusals {
		w.ready.Refusals = append(w.ready.Refusals, Refusal{reason, s.peer})
	}
}

// tlsHandshake is the first byte that a TLS client sends (RFC 8446, section 5.1). No Redis
// command begins with it.
const tlsHandshake = 0x16

// isTLS reports whether b begins a TLS handshake: b is the first input of the connection, and
// its second byte is a TLS major version. b has at least two bytes and begins with
// tlsHandshake.
func isTLS(s *Session, b []byte) bool {
	return s.lastCmd == nil && s.partial == nil && s.line.head == nil && len(s.in) == 0 && b[1] == 3
}

// Peer returns the client's address for logs.
func (s *Session) Peer() string { return s.peer }

// NodeName returns the name of the node of a link. The name of a cluster's node is its
// address.
func NodeName(l *pool.Link) string {
	if n, ok := l.Owner.(*node); ok {
		return n.name
	}
	return l.Addr
}
