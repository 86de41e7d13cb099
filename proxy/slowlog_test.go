package proxy

import (
	"strings"
	"testing"
	"time"
)

// TestSlowLogSplitsTheTime: KEYWAY SLOWLOG names the node of a slow command, and says how long the command
// waited in keyway before it was written, and how long for the node. SLOWLOG GET has six
// elements for it, as Redis has: some clients accept no more.
func TestSlowLogSplitsTheTime(t *testing.T) {
	r := newRig(t, Options{Recording: Recording{SlowLog: SlowLog{SlowerThan: 10 * time.Millisecond, SlowEntries: 9}}})
	r.feed(cmd("GET", onA))
	r.pass(10 * time.Millisecond)
	r.sent(0) // the node's socket takes it only now
	r.pass(20 * time.Millisecond)
	r.node(0, "$1\r\nx\r\n")
	r.feed(cmd("MGET", onA, onB))
	r.sent(0)
	r.sent(1)
	r.node(0, "*1\r\n$1\r\nx\r\n")
	r.pass(30 * time.Millisecond)
	r.node(1, "*1\r\n$1\r\ny\r\n")
	r.feed(cmd("SET", onA, "z"))
	r.pass(10 * time.Millisecond)
	r.sent(0)
	r.pass(40 * time.Millisecond)
	r.dies(0)
	r.got()
	r.feed(cmd("KEYWAY", "SLOWLOG"))
	entry := func(id, micros, queued, ofNode, node string) string {
		return "*18\r\n$2\r\nid\r\n:" + id + "\r\n$4\r\ntime\r\n:1000\r\n$11\r\nduration-us\r\n:" + micros +
			"\r\n$8\r\nqueue-us\r\n:" + queued + "\r\n$7\r\nnode-us\r\n:" + ofNode +
			"\r\n$4\r\nnode\r\n$1\r\n" + node + "\r\n"
	}
	text := r.got()
	rest := text
	for _, want := range []string{
		"*3\r\n" + entry("2", "50000", "10000", "40000", "a"), entry("1", "30000", "0", "30000", "b"),
		entry("0", "30000", "10000", "20000", "a"), "$4\r\nargs\r\n" + cmd("GET", onA),
	} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Fatalf("%q is missing in %q", want, text)
		}
	}
	r.feed(cmd("SLOWLOG", "GET") + cmd("KEYWAY", "SLOWLOG", "COUNT", "1"))
	if got := r.got(); !strings.HasPrefix(got, "*3\r\n*6\r\n:2\r\n:1000\r\n:50000\r\n*3\r\n") ||
		!strings.Contains(got, "\r\n*1\r\n*18\r\n") {
		t.Errorf("%q", got)
	}
	r.feed(cmd("KEYWAY", "SLOWLOG", "COUNT", "0") + cmd("KEYWAY", "SLOWLOG", "1"))
	if got := r.got(); got != "-ERR count should be greater than 0\r\n-ERR syntax error\r\n" {
		t.Errorf("%q", got)
	}
}
