package topology

import (
	"fmt"
	"testing"
)

// TestMigrationsIn: of a reply to CLUSTER NODES, the slots count that the node itself moves, with the addresses of both
// nodes, whatever else the reply has.
func TestMigrationsIn(t *testing.T) {
	const list = "aaa :7001@17001,host-a myself,master - 0 0 1 connected 0-5460 [5->-bbb] [7-<-ccc] [x->-bbb] [9->-] " +
		"[70000->-bbb] [12->-ddd]\n" +
		"bbb 10.0.0.2:7002@17002 master - 0 0 2 connected 5461-10922 [8->-aaa]\n" +
		"ccc 10.0.0.3:7003@17003,host-c,shard-id=1 master - 0 0 3 connected\nshort line\n\n"
	const want = "[{5 10.0.0.1:7001 10.0.0.2:7002} {7 10.0.0.3:7003 10.0.0.1:7001} {12 10.0.0.1:7001 ddd}]"
	if got := fmt.Sprint(migrationsIn(list, "10.0.0.1:7001")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := migrationsIn("-ERR", "a:1"); got != nil {
		t.Errorf("%v", got)
	}
}
