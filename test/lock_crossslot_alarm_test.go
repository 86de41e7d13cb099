package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLockScriptOverTwoNodes: a script that acquires a lock and counts its holders, with keys that
// share no tag, is refused when these belong to two nodes. KEYWAY LOCKS marks the lock.
func TestLockScriptOverTwoNodes(t *testing.T) {
	t.Parallel()
	const script = `if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) ` +
		`then return redis.call('incr',KEYS[2]) end return 0`
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Ring(nodes[0].Addr, nodes[1].Addr, nodes[2].Addr)+
		"threads: 1\nlocks: {patterns: ['lock:*']}\n").Ready()
	c := k.Dial()
	for i := range 100 {
		lock := fmt.Sprintf("lock:%d", i)
		c.Expect("OK", "SET", lock, "id", "NX", "PX", "60000")
		reply := c.Do("EVAL", script, "2", lock, fmt.Sprintf("fence:%d", i), "id2", "60000")
		row := fmt.Sprint(c.MustDo("KEYWAY", "LOCKS", "MATCH", lock))
		refused, marked := strings.Contains(reply.Text, "CROSSSLOT"), strings.Contains(row, "crossslot")
		if refused != marked {
			t.Errorf("%v, and the list has %s", reply, row)
		}
		if refused {
			return
		}
	}
	t.Error("no script was refused")
}
