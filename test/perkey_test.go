package test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	operators "github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// renew extends leases: ARGV[1] is the time, ARGV[1+i] the holder of KEYS[i].
const renew = `local r = {}
for i, k in ipairs(KEYS) do
	r[i] = redis.call('get', k) == ARGV[1+i] and redis.call('pexpire', k, ARGV[1]) or 0
end
return r`

// TestPerKeyScripts renews fifty leases in one script, on every layout.
func TestPerKeyScripts(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	layouts := redistest.Layouts(nodes)
	layouts["cluster"] = redistest.NewCluster(t, 3, 0).SeedsYAML()
	for name, yaml := range layouts {
		t.Run(name, func(t *testing.T) {
			text := "\nscripts: {per_key: [{argv: [shared, each], text: " + fmt.Sprintf("%q",
				strings.ReplaceAll(renew, "\n", " ")) + "}]}\n"
			c := redistest.Serve(t, yaml+text).Ready().Dial()
			// As a client does that has its script's SHA-1 only: the text once, then the name.
			sha := nodes[0].Do("EVAL", "return redis.sha1hex(ARGV[1])", "0", renew).Text
			keys, argv, want := []string{}, []string{"60000"}, []string{}
			for i := range 50 {
				key := fmt.Sprintf("user:%d", 41*i)
				keys, argv = append(keys, key), append(argv, fmt.Sprint(i))
				c.MustDo("SET", key, fmt.Sprint(i), "PX", "5000")
				want = append(want, "1")
			}
			c.MustDo("SET", keys[7], "another's")
			want[7] = "0"
			call := func(name, script string) []string {
				return append(append([]string{name, script, "50"}, keys...), argv...)
			}
			c.Expect("-NOSCRIPT No matching script. Please use EVAL.", call("EVALSHA", sha)...)
			c.Expect("["+strings.Join(want, " ")+"]", call("EVAL", renew)...)
			c.Expect("["+strings.Join(want, " ")+"]", call("EVALSHA", sha)...)
			for i, key := range keys {
				if left := c.MustDo("PTTL", key).Int; i != 7 && (left <= 5000 || left > 60000) {
					t.Errorf("%s has %d ms left", key, left)
				}
			}
			// One key that the script cannot read: an error, and no element among the others.
			c.MustDo(append([]string{"DEL"}, keys...)...)
			c.MustDo("LPUSH", keys[3], "x")
			if r := c.Do(call("EVALSHA", sha)...); r.Kind != '-' || !strings.Contains(r.Text, "WRONGTYPE") {
				t.Errorf("one key of another type: %s", r)
			}
			c.MustDo(append([]string{"DEL"}, keys...)...)
		})
	}
}

// TestKeylessScripts: what scripts without KEYS write is in one place, for the clients of
// all threads and keyways, and found by name where the configuration says so.
func TestKeylessScripts(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	layouts := redistest.Layouts(nodes)
	layouts["cluster"] = redistest.NewCluster(t, 3, 0).SeedsYAML()
	for name, yaml := range layouts {
		t.Run(name, func(t *testing.T) {
			yaml += "\nthreads: 2\nscripts: {keyless: \"{jobs}\"}\n"
			keyways := []*redistest.Keyway{redistest.Serve(t, yaml).Ready(), redistest.Serve(t, yaml).Ready()}
			const push = "return redis.call('rpush', '{jobs}:' .. ARGV[1], 'x')"
			for i := range 10 {
				keyways[i%2].Dial().Expect(fmt.Sprint(i+1), "EVAL", push, "0", name)
			}
			keyways[0].Dial().Expect("10", "LLEN", "{jobs}:"+name)
			warned := uint64(0)
			for _, k := range keyways {
				for _, s := range k.Snapshot() {
					warned += s.Keyless
				}
			}
			if warned != 10 {
				t.Errorf("%d scripts were counted", warned)
			}
		})
	}
}

// TestKeylessWritesAreLogged: a script without KEYS that may write is logged once, whichever
// threads its calls are on, and each of its calls is counted; one that only reads is not.
func TestKeylessWritesAreLogged(t *testing.T) {
	t.Parallel()
	k, log := logged(t, "threads: 3\n"+redistest.Layouts(redistest.Three(t))["ring"], slog.LevelWarn)
	k.Ready()
	for i := range 12 { // on whichever threads
		c := k.Dial()
		c.Expect("OK", "EVAL", "return redis.call('set', ARGV[1], 'x')", "0", fmt.Sprint("k", i))
		c.Expect("0", "EVAL", "#!lua flags=no-writes\nreturn redis.call('exists', ARGV[1])", "0", "none")
		c.Expect("1", "EVAL_RO", "return 1", "0")
		k.Snapshot() // by its answer a thread knows what others have told it
	}
	log.has(t, "level=WARN", "has no KEYS and may write", "scripts.keyless")
	time.Sleep(1500 * time.Millisecond) // the log takes one such line a second, and counts the others
	k.Dial().Expect("OK", "EVAL", "return redis.call('set', 'another', 'x')", "0")
	log.has(t, lua.SHA1([]byte("return redis.call('set', 'another', 'x')"))+" has no KEYS", "others_like_it=0")
	metrics := httptest.NewRecorder()
	operators.Handler(k.Server, operators.Options{}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(metrics.Body.String(), "\nkeyway_keyless_scripts_total 13\n") {
		t.Errorf("the metrics count: %s", metrics.Body)
	}
}
