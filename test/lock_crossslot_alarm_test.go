package test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLockScriptOverTwoNodes: a script that acquires a lock and counts its holders, with keys that
// share no tag, is refused when these belong to two nodes. Whichever thread refuses it, KEYWAY
// LOCKS marks the lock, and the log has it once.
func TestLockScriptOverTwoNodes(t *testing.T) {
	t.Parallel()
	const script = `if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) ` +
		`then return redis.call('incr',KEYS[2]) end return 0`
	nodes := redistest.Three(t)
	k, log := logged(t, redistest.Ring(nodes[0].Addr, nodes[1].Addr, nodes[2].Addr)+
		"threads: 3\nlocks: {patterns: ['lock:*']}\n", slog.LevelWarn)
	k.Ready()
	clients := make([]*redistest.Client, 9)
	for i := range clients {
		clients[i] = k.Dial()
	}
	refused := map[string]bool{}
	for i := range 60 {
		c, lock := clients[i%len(clients)], fmt.Sprintf("lock:%d", i)
		c.Expect("OK", "SET", lock, "id", "NX", "PX", "60000")
		reply := c.Do("EVAL", script, "2", lock, fmt.Sprintf("fence:%d", i), "id2", "60000")
		refused[lock] = strings.Contains(reply.Text, "CROSSSLOT")
	}
	marked := func() (n int) {
		for _, row := range clients[0].MustDo("KEYWAY", "LOCKS").Elems {
			if isMarked := strings.Contains(fmt.Sprint(row), "crossslot"); isMarked {
				n++
				if !refused[row.Elems[1].Text] {
					t.Fatalf("%v was not refused", row)
				}
			}
		}
		return n
	}
	want := 0
	for _, is := range refused {
		if is {
			want++
		}
	}
	if want < 10 {
		t.Fatalf("%d scripts were refused", want)
	}
	redistest.Eventually(t, 10*time.Second, "a mark for each lock", func() bool { return marked() == want })
	redistest.Eventually(t, 10*time.Second, "the alarm in the log", func() bool {
		return strings.Contains(log.String(), "alarm=crossslot")
	})
	time.Sleep(2 * time.Second) // each thread logs once a second
	if n := strings.Count(log.String(), "alarm=crossslot"); n != 1 {
		t.Errorf("the log has it %d times:\n%s", n, log.String())
	}
}
