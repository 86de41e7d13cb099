package test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLockMetrics: clients acquire, refuse, renew, lose and delete locks of real nodes, and each
// metric of locks counts what it says.
func TestLockMetrics(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	const (
		release = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`
		extend  = `if redis.call("get",KEYS[1]) == ARGV[1] ` +
			`then return redis.call("pexpire",KEYS[1],ARGV[2]) else return 0 end`
	)
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)),
		"layout: ring\nthreads: 2\nlocks: {patterns: ['lock:*']}\n")
	a, b := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	a.Expect("OK", "CLIENT", "SETNAME", "a")
	b.Expect("OK", "CLIENT", "SETNAME", "b")
	// lock:1 is held and refused for a time, then released to the other.
	a.Expect("OK", "SET", "lock:1", "tok-a", "NX", "PX", "60000")
	refusals, held, begin := 0.0, time.Duration(0), time.Now()
	for ; held < 300*time.Millisecond; refusals++ {
		if reply := b.MustDo("SET", "lock:1", "tok-b", "NX", "PX", "60000"); !reply.Null {
			t.Fatal(reply)
		}
		time.Sleep(30 * time.Millisecond)
		held = time.Since(begin)
	}
	if n := a.MustDo("EVAL", release, "1", "lock:1", "tok-a").Int; n != 1 {
		t.Fatal(n)
	}
	b.Expect("OK", "SET", "lock:1", "tok-b", "NX", "PX", "60000")
	b.MustDo("MULTI")
	b.MustDo("DEL", "lock:1")
	b.MustDo("EXEC")
	// lock:2 is deleted by the other client; its holder then releases it in vain.
	a.Expect("OK", "SET", "lock:2", "tok-a", "NX", "PX", "60000")
	b.MustDo("DEL", "lock:2")
	// lock:3 goes to the other when its lease ends, and its first holder learns that.
	a.Expect("OK", "SET", "lock:3", "tok-a", "NX", "PX", "100")
	redistest.Eventually(t, 10*time.Second, "the lease ends", func() bool {
		return b.MustDo("SET", "lock:3", "tok-b", "NX", "PX", "60000").Text == "OK"
	})
	if n := a.MustDo("EVAL", release, "1", "lock:3", "tok-a").Int; n != 0 {
		t.Fatal(n)
	}
	// lock:4 is renewed once and then not any more.
	a.Expect("OK", "SET", "lock:4", "tok-a", "NX", "PX", "4000")
	if n := a.MustDo("EVAL", extend, "1", "lock:4", "tok-a", "4000").Int; n != 1 {
		t.Fatal(n)
	}
	checkLockMetrics(t, "http://"+r.admin+"/metrics", refusals, held)
}

// checkLockMetrics waits until the metrics at url count the locks of TestLockMetrics.
func checkLockMetrics(t *testing.T, url string, refusals float64, held time.Duration) {
	t.Helper()
	text := ""
	for metric, want := range map[string]string{
		"acquisitions_total": "6", "foreign_releases_total": "1", "lost_total": "1", "missed_renewals_total": "1",
		"leases_expired_total": "1", "hold_seconds_count": "4", "wait_seconds_count": "6",
	} {
		line := "keyway_lock_" + metric + `{pattern="lock:*"} ` + want + "\n"
		redistest.Eventually(t, 20*time.Second, line, func() bool {
			text = get(t, url)
			return strings.Contains(text, line)
		})
	}
	for metric, least := range map[string]float64{
		"refusals_total": refusals, "hold_seconds_sum": held.Seconds(), "wait_seconds_sum": held.Seconds(),
	} {
		_, rest, _ := strings.Cut(text, "keyway_lock_"+metric+`{pattern="lock:*"} `)
		line, _, _ := strings.Cut(rest, "\n")
		// Both times are measured in this process too, over a little more or less.
		if n, err := strconv.ParseFloat(line, 64); err != nil || n < least*0.8 {
			t.Errorf("%s is %q, want %v at least", metric, line, least)
		}
	}
}
