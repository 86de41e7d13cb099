package proxy

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/emulation"
)

// TestSlotScanCountsEachKeyOnce: pages are asked for until the end, keys that come twice count once;
// a node that is lost is told of, and a client that leaves ends the scan.
func TestSlotScanCountsEachKeyOnce(t *testing.T) {
	r := newRig(t, Options{Cluster: emulation.New("10.9.9.9:1", nil)})
	page := func(cursor string, keys ...string) string {
		return "*2\r\n" + "$1\r\n" + cursor + "\r\n" + cmd(keys...)
	}
	r.feed("CLUSTER COUNTKEYSINSLOT 3300\r\nPING\r\n") // a's
	if got := r.sent(0); got != cmd("SCAN", "0", "COUNT", "1000") {
		t.Fatalf("a was sent %q", got)
	}
	r.node(0, page("5", onA, "{b}1", "other"))
	if got := r.sent(0); got != cmd("SCAN", "5", "COUNT", "1000") {
		t.Fatalf("a was sent %q", got)
	}
	if got := r.got(); got != "" {
		t.Fatalf("PING has overtaken: %q", got)
	}
	r.node(0, page("0", onA, "{b}2"))
	if got := r.got(); got != ":3\r\n+PONG\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.sent(1); got != "" {
		t.Errorf("b was sent %q", got)
	}

	r.feed("CLUSTER GETKEYSINSLOT 3300 1\r\n")
	r.sent(0)
	r.node(0, page("5", onA, "{b}1"))
	if got := r.got(); got != "*1\r\n$1\r\nb\r\n" || r.sent(0) != "" {
		t.Errorf("%q, or more was asked for than is wanted", got)
	}

	r.feed("CLUSTER COUNTKEYSINSLOT 3300\r\n")
	r.sent(0)
	r.w.nodes[0].conns[0].Fail(r.now, "reset")
	if got := r.got(); !strings.HasPrefix(got, "-CLUSTERDOWN keyway: node a") {
		t.Errorf("%q", got)
	}

	gone := newRig(t, Options{Cluster: emulation.New("10.9.9.9:1", nil)})
	gone.feed("CLUSTER COUNTKEYSINSLOT 3300\r\n")
	gone.sent(0)
	gone.w.Gone(gone.s)
	gone.node(0, page("5", onA))
	if got := gone.sent(0); got != "" {
		t.Errorf("a client that has left goes on scanning: %q", got)
	}
}
