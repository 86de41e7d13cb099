package proxy

import (
	"strings"
	"testing"
	"time"
)

// TestHelloTellsOfTheNodes: HELLO names the nodes' software, version and modules,
// and those of today when the nodes have been upgraded.
func TestHelloTellsOfTheNodes(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("HELLO\r\n")
	if got := r.got(); !strings.Contains(got, "$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n") {
		t.Errorf("before a node was asked: %q", got)
	}
	module := "$4\r\nname\r\n$3\r\nlua\r\n$3\r\nver\r\n:1\r\n"
	hello := func(version string) string {
		return "*6\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n" + version + "$7\r\nmodules\r\n*1\r\n*4\r\n" +
			module
	}
	r.mayAskVersion()
	for _, version := range []string{"$5\r\n9.1.2\r\n", "$5\r\n9.2.0\r\n"} {
		r.now += int64(2 * time.Minute)
		r.w.Turn(r.now, time.Unix(1000, 0))
		r.w.Tick()
		if got := r.sent(0); !strings.HasSuffix(got, cmd("HELLO")) {
			t.Fatalf("asked %q", got)
		}
		r.node(0, hello(version))
		r.feed("HELLO\r\n")
		if got := r.got(); !strings.Contains(got, "$6\r\nvalkey\r\n$7\r\nversion\r\n"+version) ||
			!strings.HasSuffix(got, "*1\r\n*4\r\n"+module) {
			t.Errorf("%q", got)
		}
		r.w.Received(r.s, []byte("HELLO 3\r\n"))
		r.greetAll()
		if got := r.got(); !strings.HasSuffix(got, "*1\r\n%2\r\n"+module) {
			t.Errorf("in RESP3: %q", got)
		}
		r.feed("HELLO 2\r\n")
		r.got()
	}
}

// TestHelloOfAnOldNode: one that has no HELLO tells its version in INFO.
func TestHelloOfAnOldNode(t *testing.T) {
	r := newRig(t, Options{})
	r.mayAskVersion()
	r.w.Tick()
	r.sent(0)
	r.node(0, "-ERR unknown command 'HELLO'\r\n")
	if got := r.sent(0); !strings.HasSuffix(got, cmd("INFO", "server")) {
		t.Fatalf("asked %q", got)
	}
	r.node(0, "$22\r\nredis_version:5.0.14\r\n\r\n")
	r.feed("HELLO\r\n")
	if got := r.got(); !strings.Contains(got, "$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n5.0.14\r\n") {
		t.Errorf("%q", got)
	}
}
