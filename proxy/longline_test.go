package proxy

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/pool"
)

// TestLongErrorLine: an error that repeats a client's long key, or a status that a
// script makes, is a reply like others, and ends no connection that others share.
func TestLongErrorLine(t *testing.T) {
	for _, kind := range []string{"-NOGROUP ", "+"} {
		r := newRig(t, Options{})
		r.feed(cmd("XPENDING", onA, "g") + cmd("GET", onA))
		r.sent(0)
		reply := kind + strings.Repeat("x", 300<<10) + "\r\n"
		r.node(0, reply+"$1\r\nv\r\n")
		if got := r.got(); got != reply+"$1\r\nv\r\n" {
			t.Errorf("%q: the client has got %d bytes", kind, len(got))
		}
		if r.shared(0).State() != pool.Ready {
			t.Errorf("%q ended the connection", kind)
		}
	}
}
