package test

import (
	"crypto/sha1"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// threeThreads is a keyway of three threads in front of three nodes.
func threeThreads(t *testing.T, more string) (*redistest.Keyway, []*redistest.Node) {
	nodes := redistest.Three(t)
	return redistest.Serve(t, "threads: 3\n"+more+redistest.Layouts(nodes)["ring"]).Ready(), nodes
}

// gone reports whether the connection was closed.
func gone(c *redistest.Client) bool {
	c.Conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Receive()
	return err != nil
}

func TestClientKill(t *testing.T) {
	k, _ := threeThreads(t, "")
	admin := k.Dial()
	dial := func() (c *redistest.Client, id, addr string) {
		c = k.Dial()
		return c, c.MustDo("CLIENT", "ID").String(), c.Conn.LocalAddr().String()
	}
	var all []*redistest.Client
	for i := range 9 { // on whichever threads
		c, id, addr := dial()
		switch i % 3 {
		case 0:
			admin.Expect("1", "CLIENT", "KILL", "ID", id)
		case 1:
			admin.Expect("OK", "CLIENT", "KILL", addr)
		case 2:
			admin.Expect("0", "CLIENT", "KILL", "ADDR", addr, "TYPE", "pubsub")
			admin.Expect("0", "CLIENT", "KILL", "ID", id, "MAXAGE", "1000")
			admin.Expect("1", "CLIENT", "KILL", "ADDR", addr, "TYPE", "normal", "USER", "default")
		}
		if !gone(c) {
			t.Errorf("client %d is still there", i)
		}
	}
	sub, id, _ := dial()
	sub.MustDo("SUBSCRIBE", "x")
	for range 4 {
		c, _, _ := dial()
		all = append(all, c)
	}
	list := admin.MustDo("CLIENT", "LIST", "TYPE", "pubsub").Text
	if strings.Count(list, "\n") != 1 || !strings.Contains(list, "id="+id+" ") {
		t.Errorf("CLIENT LIST TYPE pubsub: %q", list)
	}
	if list := admin.MustDo("CLIENT", "LIST", "ID", id, "999999").Text; strings.Count(list, "\n") != 1 {
		t.Errorf("CLIENT LIST ID: %q", list)
	}
	admin.Expect("1", "CLIENT", "KILL", "TYPE", "pubsub")
	if !gone(sub) {
		t.Error("the subscriber is still there")
	}
	admin.Expect("4", "CLIENT", "KILL", "TYPE", "normal")
	for _, c := range all {
		if !gone(c) {
			t.Error("a client is still there")
		}
	}
	admin.Expect("-ERR No such client", "CLIENT", "KILL", "127.0.0.1:1")
	admin.Expect("-ERR Unknown client type 'x'", "CLIENT", "KILL", "TYPE", "x")
	admin.Expect("-ERR No such user 'x'", "CLIENT", "KILL", "USER", "x")
	admin.Expect("-ERR client-id should be greater than 0", "CLIENT", "KILL", "ID", "0")
	admin.Expect("-ERR syntax error", "CLIENT", "KILL", "ID", "1", "SKIPME")
	admin.Expect("PONG", "PING")
	admin.Expect("1", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
	if !gone(admin) {
		t.Error("the one who asked is still there")
	}
}

// pauseLibrary has a function that only reads, and one that may write.
const pauseLibrary = `#!lua name=lib
redis.register_function{
	function_name = 'Reads',
	callback = function(keys) return redis.call('EXISTS', keys[1]) end,
	flags = {'allow-oom', 'no-writes'},
}
redis.register_function('writes', function() return 1 end)`

// TestClientPauseWrite: writes of all threads' clients wait, and commands, scripts and
// functions that only read do not.
func TestClientPauseWrite(t *testing.T) {
	k, _ := threeThreads(t, "")
	admin := k.Dial()
	var clients []*redistest.Client
	for range 6 {
		clients = append(clients, k.Dial())
	}
	admin.Expect("lib", "FUNCTION", "LOAD", pauseLibrary)
	early, writer := k.Dial(), k.Dial()
	early.Expect("OK", "MULTI")
	early.Expect("QUEUED", "FCALL", "reads", "1", "k")
	early.Expect("QUEUED", "GET", "k")
	admin.Expect("OK", "CLIENT", "PAUSE", "60000", "WRITE")
	written := later(t, writer, "FCALL", "writes", "1", "k")
	early.Expect("[0 (nil)]", "EXEC")
	for _, c := range append(clients, admin) { // of all threads
		c.Expect("0", "FCALL", "READS", "1", "k")
	}
	for i, c := range clients {
		c.Expect("(nil)", "GET", "nothing")
		c.Expect("OK", "MULTI")
		c.Send("SET", fmt.Sprint(i), "x")
		c.Flush()
	}
	admin.Expect("0", "DBSIZE")
	const reads = "#!lua flags=no-writes,allow-stale\nreturn redis.call('EXISTS', KEYS[1])"
	admin.Expect("0", "EVAL", reads, "1", "k")
	admin.Expect("0", "EVALSHA", fmt.Sprintf("%x", sha1.Sum([]byte(reads))), "1", "k")
	admin.Expect("0", "EVAL_RO", "return redis.call('EXISTS', KEYS[1])", "1", "k")
	admin.Expect("OK", "MULTI")
	admin.Expect("QUEUED", "EVAL", reads, "1", "k")
	admin.Expect("QUEUED", "FCALL", "reads", "1", "k")
	admin.Expect("[0 0]", "EXEC")
	select {
	case r := <-written:
		t.Errorf("a function that may write is not held up: %s", r)
	default:
	}
	admin.Expect("OK", "CLIENT", "UNPAUSE")
	if r := <-written; r.Int != 1 {
		t.Errorf("a function that may write: %s", r)
	}
	for _, c := range clients {
		if r, err := c.Receive(); err != nil || r.Text != "QUEUED" {
			t.Errorf("%s, %v", r, err)
		}
		c.Expect("[OK]", "EXEC")
	}
	admin.Expect("6", "DBSIZE")
}

// TestClientPause: all commands of all threads' clients wait.
func TestClientPause(t *testing.T) {
	k, _ := threeThreads(t, "")
	admin := k.Dial()
	var clients []*redistest.Client
	for range 6 {
		clients = append(clients, k.Dial())
	}
	began := time.Now()
	admin.Expect("OK", "CLIENT", "PAUSE", "300")
	for _, c := range clients {
		c.Expect("PONG", "PING")
	}
	if d := time.Since(began); d < 250*time.Millisecond {
		t.Errorf("they were paused for %s", d)
	}
	admin.Expect("-ERR timeout is negative", "CLIENT", "PAUSE", "-1")
	admin.Expect("-ERR timeout is not an integer or out of range", "CLIENT", "PAUSE", "x")
	admin.Expect("-ERR CLIENT PAUSE mode must be WRITE or ALL", "CLIENT", "PAUSE", "1", "x")
}

// TestInfoCountsOwnClients: INFO's clients are keyway's, of all threads, and not the
// connections that keyway has to its nodes.
func TestInfoCountsOwnClients(t *testing.T) {
	k, _ := threeThreads(t, "clients: {max: 100}\n")
	admin := k.Dial()
	var clients []*redistest.Client
	for range 9 {
		clients = append(clients, k.Dial())
	}
	clients[0].Send("BLPOP", "nothing", "0")
	clients[0].Flush()
	clients[1].Expect("[subscribe x 1]", "SUBSCRIBE", "x")
	clients[2].Expect("OK", "WATCH", "x")
	for _, c := range clients[3:5] {
		c.MustDo("HELLO", "3")
		c.Expect("OK", "CLIENT", "TRACKING", "ON")
	}
	for _, c := range clients[5:] {
		c.Expect("PONG", "PING")
	}
	info := func(section, field string) int { return infoField(t, admin, section, field) }
	redistest.Eventually(t, 20*time.Second, "one is blocked", func() bool {
		return info("clients", "blocked_clients") == 1
	})
	for field, want := range map[string]int{
		"connected_clients": 10, "maxclients": 100, "tracking_clients": 2, "cluster_connections": 0,
	} {
		if got := info("clients", field); got != want {
			t.Errorf("%s:%d, want %d", field, got, want)
		}
	}
	before := info("stats", "total_commands_processed")
	for range 10 {
		clients[6].Expect("[(nil) (nil) (nil) (nil)]", "MGET", "a", "b", "c", "d")
	}
	if n := info("stats", "total_commands_processed") - before; n != 11 {
		t.Errorf("%d commands of ten clients' and the INFO before", n)
	}
	if n := info("stats", "total_connections_received"); n != 10 {
		t.Errorf("total_connections_received:%d", n)
	}
	if n := info("keyway", "clients"); n != 10 {
		t.Errorf("clients:%d", n)
	}
	total := 0
	for i := range 3 {
		_, line, _ := strings.Cut(admin.MustDo("INFO", "keyway").Text, fmt.Sprintf("thread%d:clients=", i))
		n, err := strconv.Atoi(strings.Split(line, ",")[0])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 10 {
		t.Errorf("%d clients of all threads", total)
	}
}

// infoField returns a number in INFO.
func infoField(t *testing.T, c *redistest.Client, section, field string) int {
	t.Helper()
	text := c.MustDo("INFO", section).Text
	_, value, _ := strings.Cut(text, "\r\n"+field+":")
	value, _, _ = strings.Cut(value, "\r\n")
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s in %q", field, text)
	}
	return n
}

// TestClientListCountsMemoryAndBytes: CLIENT LIST shows the memory, commands and bytes that a
// client has used.
func TestClientListCountsMemoryAndBytes(t *testing.T) {
	k, _ := threeThreads(t, "")
	admin, c := k.Dial(), k.Dial()
	id := c.MustDo("CLIENT", "ID").String()
	figure := func(name string) int {
		t.Helper()
		line := admin.MustDo("CLIENT", "LIST", "ID", id).Text
		_, value, _ := strings.Cut(line, " "+name+"=")
		value, _, _ = strings.Cut(value, " ")
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			t.Fatalf("%s in %q", name, line)
		}
		return n
	}
	check := func(when string, want map[string]int) {
		t.Helper()
		for name, n := range want {
			if got := figure(name); got != n {
				t.Errorf("%s: %s=%d, want %d", when, name, got, n)
			}
		}
	}
	sent := len("*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")
	received := len(":" + id + "\r\n")
	check("after one command", map[string]int{
		"tot-cmds": 1, "tot-net-in": sent, "tot-net-out": received, "watch": 0, "multi-mem": 0, "qbuf": 0,
	})
	if n := figure("tot-mem"); n < 200 || n > 4096 {
		t.Errorf("tot-mem=%d", n)
	}
	c.Expect("OK", "WATCH", "{k}1", "{k}2")
	c.Expect("OK", "WATCH", "{k}1", "{k}3")
	check("watching", map[string]int{"watch": 3, "tot-cmds": 3, "multi": -1})
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "{k}1", strings.Repeat("x", 10_000))
	if n := figure("multi-mem"); n < 10_000 || n > 20_000 {
		t.Errorf("multi-mem=%d", n)
	}
	if n := figure("tot-mem"); n < 10_000 || n > 60_000 {
		t.Errorf("tot-mem=%d in MULTI", n)
	}
	c.MustDo("EXEC")
	check("after EXEC", map[string]int{"watch": 0, "multi-mem": 0, "tot-cmds": 6})
	c.Raw("*2\r\n$4\r\nECHO\r\n$9\r\npart")
	c.Flush()
	redistest.Eventually(t, 20*time.Second, "a part of a command is there", func() bool { return figure("qbuf") == 22 })
	line := admin.MustDo("CLIENT", "INFO").Text
	if !strings.Contains(line, " qbuf=26 ") || !strings.Contains(line, " argv-mem=26 ") {
		t.Errorf("of the client itself: %q", line)
	}
}

// TestNoTouch: a client's reads after CLIENT NO-TOUCH ON do not count as uses of the keys.
// The reads of other clients, over other connections, do.
func TestNoTouch(t *testing.T) {
	for _, server := range []redistest.Server{redistest.Redis8, redistest.Valkey} {
		t.Run(server.Name, func(t *testing.T) {
			node := server.Start(t, "--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0")
			k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
			c, other := k.Dial(), k.Dial()
			c.Expect("OK", "SET", "k", "v")
			counted := func(by *redistest.Client, args ...string) bool {
				before := node.Do("OBJECT", "FREQ", "k").Int
				by.MustDo(args...)
				return node.Do("OBJECT", "FREQ", "k").Int > before
			}
			for _, protocol := range []string{"2", "3"} {
				c.MustDo("HELLO", protocol)
				if !counted(c, "GET", "k") {
					t.Error("a read does not count")
				}
				c.Expect("OK", "CLIENT", "NO-TOUCH", "ON")
				if counted(c, "GET", "k") || counted(c, "EVAL", "return redis.call('GET', KEYS[1])", "1", "k") {
					t.Error("a read counts")
				}
				c.Expect("OK", "WATCH", "k")
				c.Expect("OK", "MULTI")
				c.Expect("QUEUED", "GET", "k")
				if counted(c, "EXEC") {
					t.Error("a transaction's read counts")
				}
				if !counted(other, "GET", "k") {
					t.Error("another client's read does not count")
				}
				c.Expect("OK", "CLIENT", "NO-TOUCH", "OFF")
				if !counted(c, "GET", "k") {
					t.Error("a read does not count after NO-TOUCH OFF")
				}
			}
			c.Expect("OK", "CLIENT", "NO-TOUCH", "ON")
			c.Expect("RESET", "RESET")
			if !counted(c, "GET", "k") {
				t.Error("a read does not count after RESET")
			}
		})
	}
	node := redistest.Redis.Start(t) // 7.0 does not know it
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	if info := k.Dial().MustDo("INFO", "server").Text; !strings.Contains(info, "redis_version:7.0") {
		return
	}
	for _, args := range [][]string{{"CLIENT", "NO-TOUCH", "ON"}, {"CLIENT", "NO-TOUCH", "x"}} {
		if r := k.Dial().Do(args...); r.Kind != '-' {
			t.Errorf("%q: %s", args, r)
		}
	}
	k.Dial().Expect("-ERR unknown subcommand 'no-touch'. Try CLIENT HELP.", "CLIENT", "no-touch", "on")
}

func TestMonitor(t *testing.T) {
	k, _ := threeThreads(t, "clients: {password: secret}\n")
	watcher := k.Dial()
	watcher.MustDo("AUTH", "secret")
	watcher.Expect("OK", "MONITOR")
	var want []string
	for i := range 6 {
		c := k.Dial()
		c.MustDo("HELLO", "3", "AUTH", "default", "secret")
		c.MustDo("SET", fmt.Sprint(i), "a\r\n\"\x00\xff\\")
		c.MustDo("AUTH", "secret")
		c.MustDo("MGET", "a", "b", "c")
		want = append(want, `"HELLO" "3" "AUTH" "(redacted)" "(redacted)"`, `"AUTH" "(redacted)"`,
			fmt.Sprintf(`"SET" "%d" "a\r\n\"\x00\xff\\"`, i), `"MGET" "a" "b" "c"`)
	}
	line := regexp.MustCompile(`^\d{10}\.\d{6} \[0 127\.0\.0\.1:\d+\] (.*)$`)
	got := map[string]int{}
	for _, m := range messages(t, watcher, len(want)) {
		if strings.Contains(m, "secret") {
			t.Errorf("the password is shown: %s", m)
		}
		f := line.FindStringSubmatch(m)
		if f == nil {
			t.Fatalf("%q", m)
		}
		got[f[1]]++
	}
	for _, w := range want {
		if got[w] == 0 {
			t.Errorf("not shown: %s; only %v", w, got)
		}
	}
	watcher.Expect("RESET", "RESET")
	k.Dial().Expect("-NOAUTH Authentication required.", "GET", "x")
	watcher.MustDo("AUTH", "secret")
	watcher.Expect("PONG", "PING")
}

// monitored are commands that MONITOR shows, changes or leaves out.
const monitored = `SET a 1
AUTH secret
AUTH default secret
MULTI
SET a 2
INCRBY a 3
EXEC
EXEC
MULTI
DISCARD
MULTI
NOSUCH x
SET a 3
EXEC
MULTI
UNWATCH
PING
EXEC
WATCH a
MULTI
GET a
EXEC
WATCH a
SET a 5
MULTI
GET a
EXEC
MULTI
EXEC
CLIENT SETNAME me
CONFIG GET port
CLIENT LIST
SLOWLOG LEN
HELLO 3 AUTH default secret SETNAME you
HELLO 2
NOSUCH x
GET
SELECT 3
GET a
SUBSCRIBE x
GET a
PING
UNSUBSCRIBE
BLPOP l 0.01
PUBLISH x y
RESET
PING last`

// TestMonitorLikeRedis compares what MONITOR shows with what Redis shows.
func TestMonitorLikeRedis(t *testing.T) {
	t.Parallel()
	node, oracle := redistest.Start(t), redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	commands := strings.Split(monitored, "\n")
	shown := func(addr string) (all []string) {
		watcher, c := redistest.Dial(t, addr), redistest.Dial(t, addr)
		watcher.Expect("OK", "MONITOR")
		for _, command := range commands {
			c.Do(strings.Fields(command)...)
		}
		line := regexp.MustCompile(`^\d{10}\.\d{6} (\[\d+) 127\.0\.0\.1:\d+(\] .*)$`)
		for len(all) == 0 || !strings.HasSuffix(all[len(all)-1], `"last"`) {
			m := messages(t, watcher, 1)[0]
			f := line.FindStringSubmatch(m)
			if f == nil {
				t.Fatalf("%q", m)
			}
			if strings.Contains(m, "SELECT") {
				f[1] = "[?" // Redis shows the database that it has selected
			}
			all = append(all, f[1]+f[2])
		}
		return all
	}
	if got, want := shown(k.Addr), shown(oracle.Addr); !slices.Equal(got, want) {
		t.Errorf("shown\n%s\nRedis shows\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSortByPattern: patterns whose keys are sure to live with the list may be
// used where Redis itself lets them be.
func TestSortByPattern(t *testing.T) {
	nodes := redistest.Three(t)
	for _, layout := range []string{"ring", "modulo", "slots", "range"} {
		c := redistest.Serve(t, redistest.Layouts(nodes)[layout]).Ready().Dial()
		for _, n := range nodes {
			n.Do("FLUSHALL")
		}
		for i, weight := range []string{"3", "1", "2"} {
			c.MustDo("RPUSH", "list:{u1}", fmt.Sprint(i))
			c.MustDo("SET", fmt.Sprintf("{u1}:weight:%d", i), weight)
			c.MustDo("HSET", fmt.Sprintf("{u1}:hash:%d", i), "name", "n"+weight)
		}
		c.Expect("[1 2 0]", "SORT", "list:{u1}", "BY", "{u1}:weight:*")
		c.Expect("[n1 1 n2 2 n3 0]", "SORT", "list:{u1}", "BY", "{u1}:weight:*", "GET", "{u1}:hash:*->name", "GET", "#")
		c.Expect("-ERR BY option of SORT denied in cluster mode.", "SORT", "list:{u1}", "BY", "weight:*")
		c.Expect("-ERR GET option of SORT denied in cluster mode.", "SORT", "list:{u1}", "GET", "*:{u1}")
		c.Expect("[0 1 2]", "SORT", "list:{u1}", "BY", "nosort")
	}
}
