package test

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// lockScript is a script as its library sends it, and what the library passes to it. The
// client's token is me, or begins with it.
type lockScript struct{ Name, SHA, Argv, Keys, Refusal, Text string }

//go:embed testdata/lockscripts.json
var lockScriptTexts []byte

// lockScripts are scripts that a majority of nodes can stand for, unfitScripts those that it
// cannot: they have a refusal.
var lockScripts, unfitScripts = func() (fit, unfit []lockScript) {
	var all []lockScript
	if err := json.Unmarshal(lockScriptTexts, &all); err != nil {
		panic(err)
	}
	for _, s := range all {
		if s.Refusal != "" {
			unfit = append(unfit, s)
		} else {
			fit = append(fit, s)
		}
	}
	return fit, unfit
}()

// lockWorlds are a plain Redis and a keyway, which must say the same.
type lockWorlds struct {
	t             *testing.T
	plain, keyway *redistest.Client
}

// both sends a command to both, and returns their replies as they are on the wire.
func (w *lockWorlds) both(toPlain, toKeyway []string) (plain, keyway string) {
	w.t.Helper()
	return w.raw(w.plain, toPlain), w.raw(w.keyway, toKeyway)
}

func (w *lockWorlds) raw(c *redistest.Client, command []string) string {
	w.t.Helper()
	c.Send(command...)
	if err := c.Flush(); err != nil {
		w.t.Fatal(err)
	}
	reply, err := c.ReceiveRaw()
	if err != nil {
		w.t.Fatalf("%.80q: %v", command, err)
	}
	return reply
}

// agree reports whether two servers reply the same, but for the time left of a lease: they do not
// have the same to the millisecond.
func agree(a, b string) bool {
	return a == b || leaseLeft(a) > 0 && leaseLeft(b) > 0 && abs(leaseLeft(a)-leaseLeft(b)) < 2000
}

// leaseLeft returns the milliseconds that a reply says, or 0 if it cannot be the time left of a
// lease.
func leaseLeft(reply string) int {
	number, isInt := strings.CutPrefix(reply, ":")
	ms, err := strconv.Atoi(strings.TrimSpace(number))
	if !isInt || err != nil || ms < 1000 {
		return 0
	}
	return ms
}

func abs(n int) int { return max(n, -n) }

// lockStates prepare a lock for a script.
var lockStates = []struct{ name, value, lease string }{
	{"free", "", ""},
	{"held by me", "me", "45000"},
	{"held by another", "other", "45000"},
	{"expired", "me", "150"},
}

// TestQuorumScriptsReplyAsOneRedis: each script of each library returns the same bytes as from
// a plain Redis, and leaves the same lock, whatever state the lock is in. keyway knows the
// libraries' scripts by their SHA-1 before anybody has sent the text.
func TestQuorumScriptsReplyAsOneRedis(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	k, plain := n.serve("timeout: 2s, max_lease: 60s, fencing: true"), redistest.Start(t)
	for _, proto := range []string{"2", "3"} {
		t.Run("RESP"+proto, func(t *testing.T) {
			w := &lockWorlds{t, redistest.Dial(t, plain.Addr), k.Dial()}
			w.plain.Do("HELLO", proto)
			w.keyway.Do("HELLO", proto)
			w.prepare(proto)
			for _, s := range lockScripts {
				w.compare(proto, s, "EVAL")
				if s.SHA != "" {
					w.compare(proto, s, "EVALSHA")
				}
			}
		})
	}
}

func lockKey(s lockScript, how, proto, state string) string {
	return strings.Join([]string{"lock:" + s.Name, s.Argv, how, proto, state}, "/")
}

// prepare sets the locks, and waits for the end of those that expire.
func (w *lockWorlds) prepare(proto string) {
	for _, s := range lockScripts {
		for _, how := range []string{"EVAL", "EVALSHA"} {
			for _, state := range lockStates {
				if state.value == "" {
					continue
				}
				set := []string{"SET", lockKey(s, how, proto, state.name), state.value, "NX", "PX", state.lease}
				if p, k := w.both(set, set); p != "+OK\r\n" || k != p {
					w.t.Fatalf("%q: %q, and keyway %q", set, p, k)
				}
			}
		}
	}
	last := []string{"EXISTS", lockKey(lockScripts[len(lockScripts)-1], "EVALSHA", proto, "expired")}
	redistest.Eventually(w.t, 5*time.Second, "the short leases end", func() bool {
		p, k := w.both(last, last)
		return p == ":0\r\n" && k == p
	})
}

func (w *lockWorlds) compare(proto string, s lockScript, how string) {
	w.t.Helper()
	sum := sha1.Sum([]byte(s.Text))
	sha := hex.EncodeToString(sum[:])
	if s.SHA != "" && s.SHA != sha {
		w.t.Errorf("%s: the text has the SHA-1 %s, want %s", s.Name, sha, s.SHA)
	}
	for _, state := range lockStates {
		key := lockKey(s, how, proto, state.name)
		args := append([]string{"1", key}, strings.Fields(s.Argv)...)
		toKeyway := append([]string{"EVAL", s.Text}, args...)
		if how == "EVALSHA" {
			toKeyway = append([]string{"EVALSHA", sha}, args...)
		}
		for _, c := range [][2][]string{
			{append([]string{"EVAL", s.Text}, args...), toKeyway},
			{{"GET", key}, {"GET", key}},
			{{"PTTL", key}, {"PTTL", key}},
		} {
			if p, k := w.both(c[0], c[1]); !agree(p, k) {
				w.t.Errorf("%s by %s, %s, %s: %q, and Redis says %q", s.Name, how, state.name, c[1][0], k, p)
			}
		}
	}
}

// TestQuorumRefusesUnfitScripts: a script that a majority cannot stand for is refused with the
// way out, and sets nothing.
func TestQuorumRefusesUnfitScripts(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	c := n.serve("timeout: 2s, max_lease: 60s").Dial()
	for _, s := range unfitScripts {
		keys := strings.Fields(s.Keys)
		for _, first := range [][]string{{"EVALSHA", s.SHA}, {"EVAL", s.Text}} {
			args := append(append(first, strconv.Itoa(len(keys))), keys...)
			got := c.Do(append(args, strings.Fields(s.Argv)...)...).String()
			want := `-ERR keyway: "lock:x" is a lock on 5 nodes (locks.quorum lock:*): ` + s.Refusal +
				"; nothing was executed"
			if got != want {
				t.Errorf("%s by %s:\n%s\nwant\n%s", s.Name, first[0], got, want)
			}
		}
	}
	for _, s := range lockScripts {
		if got := c.Do("EVAL_RO", s.Text, "1", "lock:x", "me", "1", "1").Text; !s.reads() &&
			!strings.Contains(got, "EVAL_RO cannot write, and this script does; use EVAL or EVALSHA") {
			t.Errorf("%s by EVAL_RO: %q", s.Name, got)
		}
	}
	c.Expect("-3", "EVALSHA_RO", "6484da7d58920897fdc22b7f9afd1a3d47524ea8", "1", "lock:x", "me")
	for _, node := range n.five {
		for _, key := range node.Keys() {
			if !strings.HasPrefix(key, "keyway:") {
				t.Errorf("%s has %q", node.Addr, key)
			}
		}
	}
}

func (s lockScript) reads() bool {
	return strings.HasSuffix(s.Name, "ttl") || s.Name == "pottery acquired"
}

// TestQuorumCompareCommands: SET with XX or IFEQ renews a lock, DELIFEQ and DELEX release it, on
// any nodes. SET with XX takes no lock from its holder, as it would with one Redis.
func TestQuorumCompareCommands(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	c := n.serve("timeout: 2s, max_lease: 60s").Dial()
	for _, renew := range [][]string{{"XX"}, {"IFEQ", "me"}} {
		set := append([]string{"SET", "lock:a", "me", "PX", "50000"}, renew...)
		c.Expect("(nil)", set...)
		c.Expect("OK", "SET", "lock:a", "me", "NX", "PX", "10000")
		c.Expect("OK", set...)
		if ms := c.MustDo("PTTL", "lock:a").Int; ms <= 40000 || ms > 50000 {
			t.Errorf("%s: the lease is %d ms", renew, ms)
		}
		c.Expect("1", "DEL", "lock:a")
		c.Expect("OK", "SET", "lock:a", "other", "NX", "PX", "10000")
		c.Expect("(nil)", set...)
		if ms := c.MustDo("PTTL", "lock:a").Int; ms > 10000 {
			t.Errorf("%s of another's lock: the lease is %d ms", renew, ms)
		}
		c.Expect("other", "GET", "lock:a")
		c.Expect("1", "DEL", "lock:a")
	}
	for _, free := range [][]string{
		{"DELIFEQ", "lock:a", "me"}, {"DELEX", "lock:a", "IFEQ", "me"}, {"DELEX", "lock:a"},
	} {
		c.Expect("0", free...)
		c.Expect("OK", "SET", "lock:a", "me", "NX", "PX", "10000")
		c.Expect("1", free...)
		c.Expect("0", "EXISTS", "lock:a")
		if len(free) > 2 {
			c.Expect("OK", "SET", "lock:a", "other", "NX", "PX", "10000")
			c.Expect("0", free...)
			c.Expect("1", "DEL", "lock:a")
		}
	}
}

// TestQuorumFailedReentryKeepsLock: a client that has a lock and fails to acquire it again,
// because too few nodes answer, still has it on those that did.
func TestQuorumFailedReentryKeepsLock(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	c := n.serve("timeout: 200ms, max_lease: 60s, fencing: true").Dial()
	obtain := []string{"EVALSHA", "175897a4e379e99e79a54937be09226f76cdcfe5", "1", "lock:a", "me", "30000"}
	c.Expect("1", obtain...)
	first := fence(t, c, "lock:a")
	c.Expect("1", obtain...)
	if second := fence(t, c, "lock:a"); second <= first {
		t.Errorf("acquired again, the number is %d, and was %d", second, first)
	}
	for _, node := range n.five[2:] {
		node.Kill()
	}
	if got := c.Do(obtain...).Text; !strings.HasPrefix(got, "CLUSTERDOWN") {
		t.Errorf("with two nodes: %q", got)
	}
	c.Do("GET", "lock:a") // behind what the failed attempt has sent
	if count := n.holding("lock:a", "me", n.five[:2]...); count != 2 {
		t.Errorf("%d of the two nodes that are left have the lock", count)
	}
}
