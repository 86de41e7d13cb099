package proxy

import (
	"strings"
	"testing"
	"time"
)

const functionList = "*1\r\n*6\r\n$12\r\nlibrary_name\r\n$3\r\nlib\r\n$6\r\nengine\r\n$3\r\nLUA\r\n$9\r\nfunctions\r\n*2\r\n" +
	"*6\r\n$4\r\nname\r\n$5\r\nReads\r\n$11\r\ndescription\r\n$5\r\nflags\r\n$5\r\nflags\r\n*2\r\n$9\r\nallow-oom\r\n$9\r\nno-writes\r\n" +
	"*6\r\n$4\r\nname\r\n$6\r\nwrites\r\n$11\r\ndescription\r\n$-1\r\n$5\r\nflags\r\n*1\r\n$9\r\nallow-oom\r\n"

// TestPausedFunctions: in a pause of writes a node is asked once what its functions
// declare; those that do not write are not held up.
func TestPausedFunctions(t *testing.T) {
	list := cmd("FUNCTION", "LIST")
	for name, tc := range map[string]struct {
		answer string
		runs   bool
	}{
		"READS":  {functionList, true},
		"writes": {functionList, false},
		"nosuch": {functionList, false},
		"reads":  {"-ERR unknown command 'FUNCTION'\r\n", false},
	} {
		r := newRig(t, Options{})
		call := cmd("FCALL", name, "1", onA)
		r.feed("CLIENT PAUSE 1000 WRITE\r\n" + call)
		asked := ""
		for i := range r.w.masters {
			if sent := r.sent(i); sent != "" {
				asked += sent
				r.node(i, tc.answer)
			}
		}
		r.pass(time.Duration(tick))
		if asked != list {
			t.Fatalf("%s: asked %q", name, asked)
		}
		if got := r.sent(0); (got == call) != tc.runs || strings.Contains(got, "LIST") {
			t.Errorf("%s: sent %q", name, got)
		}
	}
}
