package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLockTable: real clients hold locks over the connections of a pool, on several threads.
// KEYWAY LOCKS tells who holds which, whichever thread is asked.
func TestLockTable(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Ring(nodes[0].Addr, nodes[1].Addr, nodes[2].Addr)+
		"threads: 3\nlocks: {patterns: ['mutex:*']}\n").Ready()
	ctx := context.Background()
	db := redis.NewClient(&redis.Options{Addr: k.Addr, PoolSize: 8, ClientName: "worker"})
	t.Cleanup(func() { db.Close() })
	release := redis.NewScript(`if redis.call("get",KEYS[1]) == ARGV[1] ` +
		`then return redis.call("del",KEYS[1]) else return 0 end`)
	held := map[string]bool{}
	for i := range 40 {
		key := "mutex:" + strings.Repeat("k", 1+i)
		if ok, err := db.SetNX(ctx, key, "tok", time.Minute).Result(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if held[key] = i%4 != 0; held[key] {
			continue
		}
		if n, err := release.Run(ctx, db, []string{key}, "tok").Int(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	ask := k.Dial()
	var rows []redistest.Reply
	redistest.Eventually(t, 10*time.Second, "30 locks held", func() bool {
		rows = ask.MustDo("KEYWAY", "LOCKS").Elems
		return len(rows) == 30
	})
	for _, row := range rows {
		f := map[string]redistest.Reply{}
		for i := 0; i+1 < len(row.Elems); i += 2 {
			f[row.Elems[i].Text] = row.Elems[i+1]
		}
		if !held[f["key"].Text] || f["state"].Text != "held" || f["token"].Text != "tok" ||
			f["client-name"].Text != "worker" || !strings.HasPrefix(f["client"].Text, "127.0.0.1:") ||
			f["node"].Text == "" {
			t.Errorf("%v", row)
		}
	}
	all, err := k.Server.Locks(ctx, locks.Query{Count: 7, Match: []byte("mutex:kk*")})
	if err != nil || len(all) != 7 || all[0].Lease < 30_000 || all[0].Lease > 60_000 {
		t.Errorf("%v %+v", err, all)
	}
}

// TestReloadLockPatterns: a reload changes which locks are counted together and whether any are
// watched, and does not forget who holds which.
func TestReloadLockPatterns(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)),
		"layout: ring\nthreads: 2\nlocks: {patterns: ['a:*', 'b:*']}\n")
	c := redistest.Dial(t, r.listen)
	for _, key := range []string{"a:1", "b:1", "c:1"} {
		c.Expect("OK", "SET", key, "tok", "NX", "PX", "60000")
	}
	counted := func(line string) {
		t.Helper()
		line = "keyway_lock_acquisitions_total{pattern=" + line + "\n"
		redistest.Eventually(t, 10*time.Second, line, func() bool {
			return strings.Contains(get(t, "http://"+r.admin+"/metrics"), line)
		})
	}
	listed := func(want int) {
		t.Helper()
		redistest.Eventually(t, 10*time.Second, "locks in the list", func() bool {
			return len(c.MustDo("KEYWAY", "LOCKS").Elems) == want
		})
	}
	counted(`"a:*"} 1`)
	listed(2)
	r.reload("layout: ring\nthreads: 2\nlocks: {patterns: ['c:*', 'b:*']}\n")
	listed(3)
	c.Expect("OK", "SET", "c:2", "tok", "NX", "PX", "60000")
	counted(`"b:*"} 1`)
	counted(`"c:*"} 1`)
	r.reload("layout: ring\nthreads: 2\nlocks: {observe: false}\n")
	if reply := c.Do("KEYWAY", "LOCKS"); !strings.Contains(reply.Text, "locks are not observed") {
		t.Error(reply)
	}
	c.Expect("OK", "SET", "c:3", "tok", "NX", "PX", "60000")
	r.reload("layout: ring\nthreads: 2\nlocks: {patterns: ['c:*']}\n")
	c.Expect("OK", "SET", "c:4", "tok", "NX", "PX", "60000")
	listed(1)
	counted(`"c:*"} 1`)
}
