package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// The scripts of an application, which keyway does not know unless they are declared.
const (
	ownAcquire = `local ttl, me = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
redis.call('SET', KEYS[1], me, 'EX', ttl)
return 0`
	ownRenew = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.status_reply('OK')`
	ownRelease = `return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or -1`
	ownAsk     = `return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PTTL', KEYS[1]) or -5`

	ownDeclared = `
    - does: acquire
      token: 2
      lease: 1
      unit: s
      done: 0
      other: 1
      text: |
        -- ours
        local ttl, me = ARGV[1], ARGV[2]
        if redis.call("EXISTS", KEYS[1]) == 1 then return 1 end
        redis.call("SET", KEYS[1], me, "EX", ttl)
        return 0
    - {text: "%s", does: renew, lease: 2, unit: s, done: OK, other: nil}
    - {text: "%s", does: release, other: -1}
    - {text: "%s", does: ask, done: lease, other: -5}
`
)

// TestDeclaredLockScripts: once an application's scripts are declared, by a reload, they get the
// replies of one Redis from a majority of nodes, and KEYWAY LOCKS shows their locks wherever
// they are. Otherwise they are refused, and not seen.
func TestDeclaredLockScripts(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	var addrs []string
	for _, node := range n.five {
		addrs = append(addrs, node.Addr)
	}
	text := "layout: ring\nlocks:\n  quorum: [{match: 'lock:*', nodes: [" + strings.Join(addrs, ", ") +
		"], timeout: 2s}]\n"
	renew := strings.ReplaceAll(ownRenew, "\n", `\n`)
	declared := text + "  scripts:" + fmt.Sprintf(ownDeclared, renew, ownRelease, ownAsk)
	r := startReloadable(t, redistest.NodesYAML([]*redistest.Node{n.other}), text)
	w := &lockWorlds{t, redistest.Dial(t, redistest.Start(t).Addr), redistest.Dial(t, r.listen)}
	acquire := []string{"EVAL", ownAcquire, "1", "lock:a", "40", "me"}
	refused := func() {
		t.Helper()
		const want = `-ERR keyway: "lock:a" is a lock on 5 nodes (locks.quorum lock:*): keyway does not know what ` +
			"this script does with the lock; it knows the scripts of many libraries, others that compare the " +
			"token and then delete the key or change its lease, and those that locks.scripts declares; " +
			"nothing was executed\r\n"
		if got := w.raw(w.keyway, acquire); got != want {
			t.Errorf("%q", got)
		}
	}
	refused()
	r.reload(declared)
	redistest.Eventually(t, 10*time.Second, "all lock nodes vote", func() bool {
		return w.raw(w.keyway, []string{"EVAL", ownAcquire, "1", "lock:first", "1", "me"}) == ":0\r\n" &&
			n.holding("lock:first", "me") == 5
	})
	for _, key := range []string{"lock:a", "own:a"} {
		w.ownScripts(key)
	}
	if count := n.holding("lock:a", "me"); count != 5 {
		t.Errorf("%d of 5 nodes hold the lock", count)
	}
	seen := func() (rows []string) {
		for _, row := range w.keyway.MustDo("KEYWAY", "LOCKS", "MATCH", "*:a").Elems {
			f := map[string]string{}
			for i := 0; i+1 < len(row.Elems); i += 2 {
				f[row.Elems[i].Text] = row.Elems[i+1].Text
			}
			rows = append(rows, strings.Join([]string{f["key"], f["state"], f["library"], f["token"]}, " "))
		}
		return rows
	}
	redistest.Eventually(t, 10*time.Second, "both locks in the list", func() bool {
		rows := strings.Join(seen(), "\n")
		return strings.Contains(rows, "lock:a held declared me") && strings.Contains(rows, "own:a held declared me")
	})
	r.reload(text)
	refused()
}

// ownScripts compares what the declared scripts return, with the lock in each state. In the end
// me has the lock.
func (w *lockWorlds) ownScripts(key string) {
	w.t.Helper()
	for _, c := range [][]string{
		{ownAsk, "me"}, {ownRelease, "me"}, {ownRenew, "me", "50"},
		{ownAcquire, "40", "me"}, {ownAcquire, "40", "other"}, {ownAcquire, "40", "me"},
		{ownAsk, "me"}, {ownAsk, "other"}, {ownRenew, "other", "50"}, {ownRenew, "me", "50"}, {ownAsk, "me"},
		{ownRelease, "other"}, {ownRelease, "me"}, {ownRelease, "me"}, {ownAcquire, "40", "me"},
	} {
		command := append([]string{"EVAL", c[0], "1", key}, c[1:]...)
		if p, k := w.both(command, command); !agree(p, k) {
			w.t.Errorf("%s: %q: %q, and Redis says %q", key, command, k, p)
		}
	}
}
