package test

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// lockNodes are five nodes that hold locks, and one that holds everything else.
type lockNodes struct {
	t     testing.TB
	five  []*redistest.Node
	other *redistest.Node
}

func startLockNodes(t testing.TB) *lockNodes {
	n := &lockNodes{t: t, other: redistest.Start(t)}
	for range 5 {
		n.five = append(n.five, redistest.Start(t))
	}
	return n
}

// vote lets new nodes vote at once, as an operator does who knows that they have held no locks.
func (n *lockNodes) vote() {
	n.t.Helper()
	for _, node := range n.five {
		id := regexp.MustCompile(`run_id:(\w+)`).FindStringSubmatch(node.Do("INFO", "server").Text)[1]
		node.Do("SET", "keyway:run", id)
		node.Do("DEL", "keyway:wait")
	}
}

// serve starts a keyway over the nodes. rule has more keys of the rule.
func (n *lockNodes) serve(rule string) *redistest.Keyway {
	var addrs []string
	for _, node := range n.five {
		addrs = append(addrs, node.Addr)
	}
	return n.serveAt(addrs, rule)
}

func (n *lockNodes) serveAt(addrs []string, rule string) *redistest.Keyway {
	n.t.Helper()
	return redistest.Serve(n.t, fmt.Sprintf("%slocks:\n  quorum:\n    - {match: \"lock:*\", nodes: [%s], %s}\n",
		redistest.Ring(n.other.Addr), strings.Join(addrs, ", "), rule)).Ready()
}

// holding returns how many of the nodes have the value for a key. It does not ask frozen nodes.
func (n *lockNodes) holding(key, value string, nodes ...*redistest.Node) (count int) {
	if nodes == nil {
		nodes = n.five
	}
	for _, node := range nodes {
		if node.Do("GET", key).Text == value {
			count++
		}
	}
	return count
}

const (
	compareAndDelete = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`
	compareAndExpire = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("pexpire",KEYS[1],ARGV[2]) ` +
		`else return 0 end`
)

// TestQuorumLockReplies: the replies are those of one Redis, and the locks are on the lock
// nodes alone.
func TestQuorumLockReplies(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	k := n.serve("timeout: 2s, max_lease: 60s, fencing: true")
	c := k.Dial()
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "30000")
	c.Expect("(nil)", "SET", "lock:a", "t1", "NX", "PX", "30000")
	c.Expect("(nil)", "SET", "lock:a", "t2", "EX", "30", "NX")
	redistest.Eventually(t, 5*time.Second, "all five nodes have the lock", func() bool {
		return n.holding("lock:a", "t1") == 5
	})
	if keys := n.other.Keys(); len(keys) > 0 {
		t.Errorf("the node of the layout has %q", keys)
	}
	c.Expect("t1", "GET", "lock:a")
	c.Expect("1", "EXISTS", "lock:a")
	if ttl, _ := strconv.Atoi(c.MustDo("TTL", "lock:a").String()); ttl < 1 || ttl > 30 {
		t.Errorf("TTL: %d", ttl)
	}
	first := fence(t, c, "lock:a")
	c.Expect("0", "EVAL", compareAndExpire, "1", "lock:a", "t2", "50000")
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "50000")
	if ms, _ := strconv.Atoi(c.MustDo("PTTL", "lock:a").String()); ms <= 30000 || ms > 50000 {
		t.Errorf("PTTL after the renewal: %d", ms)
	}
	c.Expect("0", "EVAL", compareAndDelete, "1", "lock:a", "t2")
	sha := c.MustDo("SCRIPT", "LOAD", compareAndDelete).Text
	c.Expect("1", "EVALSHA", sha, "1", "lock:a", "t1")
	c.Expect("0", "EVALSHA", sha, "1", "lock:a", "t1")
	c.Expect("(nil)", "GET", "lock:a")
	c.Expect("-2", "PTTL", "lock:a")
	c.Expect("0", "EXISTS", "lock:a")
	c.Expect("0", "DEL", "lock:a")
	c.Expect("OK", "SET", "lock:a", "t2", "NX", "EX", "20")
	if second := fence(t, c, "lock:a"); second <= first {
		t.Errorf("the second holder's number is %d, the first one's %d", second, first)
	}
	c.Expect("1", "DEL", "lock:a")
	c.Expect("OK", "SET", "other", "x", "NX", "PX", "30000")
	c.Expect("(nil)", "GET", "lock:b:fence")
}

// TestQuorumPipelinesOfOneLock: a client that sends all commands on a lock at once gets the replies of one Redis.
// So it does if the nodes have higher numbers than keyway proposes, so that acquiring takes two steps.
func TestQuorumPipelinesOfOneLock(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, n.yaml("timeout: 5s, max_lease: 60s, fencing: true")).Ready()
	votes(t, k.Dial())
	conn, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := range 200 {
		key := fmt.Sprint("lock:", i)
		if i%2 == 0 {
			for _, node := range n.five {
				node.Do("HSET", "keyway:lock:"+key, "n", "8000000000000000")
			}
		}
		var b []byte
		for _, token := range []string{"t", "t", "u"} {
			b = resp.AppendCommand(b, "SET", key, token, "NX", "PX", "30000")
			b = resp.AppendCommand(b, "SET", key, token, "XX", "PX", "30000")
			b = resp.AppendCommand(b, "EVAL", compareAndDelete, "1", key, token)
			b = resp.AppendCommand(b, "SET", key, token, "NX", "PX", "30000")
			b = resp.AppendCommand(b, "DEL", key)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		for j := range 15 {
			want := []string{"+OK\r\n", "+OK\r\n", ":1\r\n", "+OK\r\n", ":1\r\n"}[j%5]
			if got := string(readReply(t, r)); got != want {
				t.Fatalf("round %d: reply %d is %q, want %q", i, j, got, want)
			}
		}
	}
}

// TestQuorumPipelinesOfSeveralLocks: so does a client that uses several locks at once. The numbers that it reads
// are those of its own acquisitions.
func TestQuorumPipelinesOfSeveralLocks(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, n.yaml("timeout: 5s, max_lease: 60s, fencing: true")).Ready()
	c := k.Dial()
	votes(t, c)
	for i := range 200 {
		a, b := fmt.Sprint("lock:a", i), fmt.Sprint("lock:b", i)
		for _, node := range n.five {
			node.Do("HSET", "keyway:lock:"+a, "n", "8000000000000000")
			node.Do("HSET", "keyway:lock:"+b, "n", "8000000000000000")
		}
		c.Send("SET", a, "t", "NX", "PX", "30000")
		c.Send("SET", b, "t", "NX", "PX", "30000")
		c.Send("GET", a+":fence")
		c.Send("EVAL", compareAndDelete, "1", a, "t")
		c.Send("SET", a, "u", "NX", "PX", "30000")
		c.Send("GET", a+":fence")
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"OK", "OK", "8000000000000001", "1", "OK", "8000000000000002"} {
			if got, err := c.Receive(); err != nil || got.String() != want {
				t.Fatalf("round %d: got %s, %v, want %s", i, got, err, want)
			}
		}
	}
}

func fence(t *testing.T, c *redistest.Client, key string) int64 {
	t.Helper()
	number, err := strconv.ParseInt(c.MustDo("GET", key+":fence").Text, 10, 64)
	if err != nil {
		t.Errorf("the number of %s: %v", key, err)
	}
	return number
}

// TestQuorumLocksRefuse: what a majority cannot answer as one Redis would is refused, and
// nothing is executed. The refusals say why, and what to do.
func TestQuorumLocksRefuse(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	k := n.serve("timeout: 2s, max_lease: 60s, fencing: true")
	c := k.Dial()
	const head = `ERR keyway: "lock:a" is a lock on 5 nodes (locks.quorum lock:*): `
	const howToSet = "SET key token NX PX milliseconds acquires a lock, and XX or IFEQ token in place of NX renews it"
	const badSet = "SET needs a lease and one of NX, XX and IFEQ, and no other option; " + howToSet
	for _, x := range []struct{ command, want string }{
		{"SET lock:a t", head + badSet},
		{"SET lock:a t NX", head + badSet},
		{"SET lock:a t PX 1000", head + badSet},
		{"SET lock:a t NX PX 1000 GET", head + badSet},
		{"SET lock:a t NX XX PX 1000", head + badSet},
		{"SET lock:a t NX PX 1000 EX 1", head + badSet},
		{"SET lock:a t NX PX 0", head + badSet},
		{"SET lock:a t IFEQ t", head + badSet},
		{"SET lock:a t PX 1000 IFEQ", head + badSet},
		{"SET lock:a t NX PXAT 1000", head + "the lease would end at a time by the client's clock, and the nodes' " +
			"clocks may differ; " + howToSet},
		{"SET lock:a t IFEQ u PX 1000", head + "SET with IFEQ can only renew a lock, and would change its token; " +
			howToSet},
		{"DELEX lock:a IFNE t", head + "DELEX can only compare a lock's token: DELEX key IFEQ token"},
		{"DELEX lock:a t", head + "DELEX can only compare a lock's token: DELEX key IFEQ token"},
		{"SET lock:a t NX PX 60001", head + "the lease is longer than max_lease, 1m0s"},
		{"SETNX lock:a t", head + "SETNX sets no lease, so nothing would end the lock of a client that has died; " +
			"use SET key token NX PX milliseconds"},
		{"HSET lock:a f v", head + "HSET cannot be done on a majority of nodes; locks can be used with " +
			"SET key token NX PX, with scripts that compare the token and then delete the key or change its lease, " +
			"and with GET, EXISTS, TTL, PTTL, DEL and DELIFEQ"},
		{"WATCH lock:a", head + "WATCH sees only one node; release the lock with a script that compares the token " +
			"and then deletes the key"},
		{"DEL lock:a other", head + "a command on a lock can have no other key; send one command for each"},
		{"EVAL return(1) 1 lock:a t", head + "keyway does not know what this script does with the lock; it knows " +
			"the scripts of many libraries, others that compare the token and then delete the key or change its " +
			"lease, and those that locks.scripts declares"},
		{"DEL lock:a:fence", `ERR keyway: "lock:a:fence" is a lock on 5 nodes (locks.quorum lock:*): ` +
			"the key shows the lock's number; only GET can read it"},
	} {
		if got := c.Do(strings.Fields(x.command)...).Text; got != x.want+"; nothing was executed" {
			t.Errorf("%s:\n%s\nwant\n%s", x.command, got, x.want)
		}
	}
	c.Expect("-NOSCRIPT No matching script. Please use EVAL.", "EVALSHA", strings.Repeat("0", 40), "1", "lock:a", "t")
	c.Expect("OK", "MULTI")
	want := "-" + head + "a transaction runs on one node; send the command without MULTI; nothing was executed"
	c.Expect(want, "SET", "lock:a", "t", "NX", "PX", "1000")
	c.Expect("-EXECABORT Transaction discarded because of previous errors.", "EXEC")
	c.Expect("OK", "SELECT", "1")
	c.Expect("-"+head+"the locks are in database 0; SELECT 0 first; nothing was executed", "GET", "lock:a")
	for _, node := range append(n.five, n.other) {
		for _, key := range node.Keys() {
			if !strings.HasPrefix(key, "keyway:") {
				t.Errorf("%s has %q", node.Addr, key)
			}
		}
	}
}

// TestQuorumRefusesLeasesThatAreTooShort: nobody could get them.
func TestQuorumRefusesLeasesThatAreTooShort(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	c := redistest.Serve(t, n.yaml("timeout: 2s")).Ready().Dial()
	const head = `-ERR keyway: "lock:a" is a lock on 3 nodes (locks.quorum lock:*): `
	const tail = " ms ends before it is sure that a majority has granted it; ask for at least 3 ms; " +
		"nothing was executed"
	c.Expect(head+"a lease of 1"+tail, "SET", "lock:a", "t", "NX", "PX", "1")
	c.Expect(head+"a lease of 2"+tail, "SET", "lock:a", "t", "XX", "PX", "2")
	c.Expect(head+"a lease of 2"+tail, "EVAL", compareAndExpire, "1", "lock:a", "t", "2")
	c.Expect("0", "EVAL", compareAndExpire, "1", "lock:a", "t", "3")
}

// The libraries' scripts.
const (
	pyHead = "\n local token = redis.call('get', KEYS[1])\n if not token or token ~= ARGV[1] then\n" +
		" return 0\n end\n"
	pyRelease   = pyHead + " redis.call('del', KEYS[1])\n return 1\n"
	pyReacquire = pyHead + " redis.call('pexpire', KEYS[1], ARGV[2])\n return 1\n"
	pyExtend    = pyHead + ` local expiration = redis.call('pttl', KEYS[1])
		if not expiration then
			expiration = 0
		end
		if expiration < 0 then
			return 0
		end

		local newttl = ARGV[2]
		if ARGV[3] == "0" then
			newttl = ARGV[2] + expiration
		end
		redis.call('pexpire', KEYS[1], newttl)
		return 1`
	syncDelete = "\n\tlocal val = redis.call(\"GET\", KEYS[1])\n\tif val == ARGV[1] then\n\t\t" +
		"return redis.call(\"DEL\", KEYS[1])\n\telseif val == false then\n\t\treturn -1\n\telse\n\t\treturn 0\n\tend\n"
	semaphoreRefresh = "local key = KEYS[1]\nlocal identifier = ARGV[1]\nlocal lockTimeout = ARGV[2]\n" +
		"local value = redis.call('get', key)\nif value == identifier then\n" +
		"redis.call('pexpire', key, lockTimeout)\nreturn 1\nend\n\nreturn 0"
)

// TestQuorumScriptsOfLibraries: redis-py's, redsync's and redis-semaphore's scripts work as
// they send them, by EVALSHA and then EVAL.
func TestQuorumScriptsOfLibraries(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	k := n.serve("timeout: 2s, max_lease: 60s")
	ctx, c := t.Context(), redis.NewClient(&redis.Options{Addr: k.Addr})
	defer c.Close()
	run := func(text string, want int64, args ...any) {
		t.Helper()
		got, err := redis.NewScript(text).Run(ctx, c, []string{"lock:a"}, args...).Int64()
		if err != nil || got != want {
			t.Errorf("%.60q: %d, %v, want %d", text, got, err, want)
		}
	}
	lease := func(from, to time.Duration) {
		t.Helper()
		if left := c.PTTL(ctx, "lock:a").Val(); left <= from || left > to {
			t.Errorf("the lease is %s, not from %s to %s", left, from, to)
		}
	}
	run(syncDelete, -1, "t1")
	if ok, err := c.SetNX(ctx, "lock:a", "t1", 20*time.Second).Result(); !ok || err != nil {
		t.Fatalf("acquiring: %v, %v", ok, err)
	}
	run(pyExtend, 1, "t1", 25000, "0")
	lease(25*time.Second, 45*time.Second)
	run(pyExtend, 1, "t1", 5000, "1")
	lease(0, 5*time.Second)
	run(pyExtend, 0, "t2", 5000, "1")
	run(pyReacquire, 1, "t1", 30000)
	lease(5*time.Second, 30*time.Second)
	run(semaphoreRefresh, 1, "t1", 50000)
	lease(30*time.Second, 50*time.Second)
	run(pyRelease, 0, "t2")
	run(syncDelete, 0, "t2")
	if err := redis.NewScript(pyExtend).Run(ctx, c, []string{"lock:a"}, "t1", 30000, "0").Err(); err == nil ||
		!strings.Contains(err.Error(), "the lease would be longer than max_lease, 1m0s") {
		t.Errorf("a lease beyond max_lease: %v", err)
	}
	run(pyRelease, 1, "t1")
	run(pyRelease, 0, "t1")
}
