package proxy

import "github.com/keyway-proxy/keyway/pool"

// Refusal is a client that was refused something or closed, for the log.
type Refusal struct {
	Reason string // one of a few: the log is limited by reason
	Client string // its address
}

// maxRefusals is how many are kept for a turn's log; more are only counted.
const maxRefusals = 16

// logRefusal has the shell log that the client was refused something.
func (w *Worker) logRefusal(s *Session, reason string) {
	if len(w.ready.Refusals) < maxRefusals {
		w.ready.Refusals = append(w.ready.Refusals, Refusal{reason, s.peer})
	}
}

// tlsHandshake is the first byte of a TLS client (RFC 8446, section 5.1). No Redis
// command begins with it.
const tlsHandshake = 0x16

// isTLS reports whether b, two bytes or more from tlsHandshake on, is the beginning of a TLS
// handshake: the first bytes of the connection, with a TLS version behind the first.
func (s *Session) isTLS(b []byte) bool {
	return s.lastCmd == nil && s.partial == nil && s.line.head == nil && len(s.in) == 0 && b[1] == 3
}

// Peer is the client's address, for people.
func (s *Session) Peer() string { return s.peer }

// NodeName returns the name of the node that the connection leads to: a cluster's
// nodes are called by their address.
func NodeName(c *pool.Conn) string {
	if n, ok := c.Owner.(*node); ok {
		return n.name
	}
	return c.Addr
}
