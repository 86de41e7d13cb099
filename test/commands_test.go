package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// eachLayout runs f on every layout over the same three standalone nodes, and
// on a real cluster.
func eachLayout(t *testing.T, f func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node)) {
	nodes := redistest.Three(t)
	for name, yaml := range redistest.Layouts(nodes) {
		t.Run(name, func(t *testing.T) {
			k := redistest.Serve(t, yaml).Ready()
			for _, n := range nodes {
				n.Do("FLUSHALL")
				n.Do("SCRIPT", "FLUSH")
			}
			f(t, k, nodes)
		})
	}
	t.Run("cluster", func(t *testing.T) {
		// Nodes that are slow for half of the timeout drop their links, and the messages on them.
		c := redistest.NewCluster(t, 3, 0, "--cluster-node-timeout", "15000")
		f(t, redistest.Serve(t, c.SeedsYAML()).Ready(), c.Nodes)
	})
}

func TestSplitCommands(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		keys := apart(t, k, nodes)
		a, b, d := keys[0], keys[1], keys[2]
		c.Expect("OK", "MSET", a, "1", b, "2", d, "3")
		c.Expect("[1 2 3 (nil) 1]", "MGET", a, b, d, "nothing", a)
		c.Expect("4", "EXISTS", a, b, d, a)
		c.Expect("3", "TOUCH", a, b, d)
		c.Expect("2", "DEL", a, b, "nothing")
		c.Expect("1", "UNLINK", a, d)
		c.Expect("0", "EXISTS", a, b, d)
		c.Expect("-ERR wrong number of arguments for 'mset' command", "MSET", a, "1", b)
		c.Expect("-ERR wrong number of arguments for 'mget' command", "MGET")
		c.Expect("-ERR wrong number of arguments for 'del' command", "DEL")

		// One key of the wrong type is that key's own affair: null in MGET.
		c.MustDo("LPUSH", b, "x")
		c.MustDo("SET", a, "1")
		c.Expect("[1 (nil)]", "MGET", a, b)

		// A thousand keys, with duplicates, keep their order.
		args, want := []string{"MSET"}, []string{}
		for i := range 1000 {
			args = append(args, fmt.Sprintf("k%d", i%900), strconv.Itoa(i%900))
		}
		c.MustDo(args...)
		args = []string{"MGET"}
		for i := range 1000 {
			args = append(args, fmt.Sprintf("k%d", i%900))
			want = append(want, strconv.Itoa(i%900))
		}
		c.Expect("["+strings.Join(want, " ")+"]", args...)
	})
}

func TestKeysThatLiveApart(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		keys := apart(t, k, nodes)
		for _, cmd := range [][]string{
			{"MSETNX", keys[0], "1", keys[1], "2"},
			{"RENAME", keys[0], keys[1]},
			{"SUNION", keys[0], keys[1], keys[2]},
			{"EVAL", "return 1", "2", keys[0], keys[1]},
			{"ZUNIONSTORE", keys[0], "2", keys[1], keys[2]},
			{"SORT", keys[0], "LIMIT", "0", "1", "STORE", keys[1]},
		} {
			r := c.Do(cmd...)
			if r.Kind != '-' || !strings.HasPrefix(r.Text, "CROSSSLOT Keys in request don't hash to the same slot") {
				t.Errorf("%v: got %s", cmd, r)
			}
		}
		if text := c.Do("MSETNX", keys[0], "1", keys[1], "2").Text; !k.Slotted() && !strings.Contains(text, keys[0]) {
			t.Errorf("the error does not name the keys: %s", text)
		}
		// With one hash tag, all of them work, except in the range layout, where no rule
		// matches "{tag}".
		c.Expect("1", "MSETNX", "{t}a", "1", "{t}b", "2")
		c.Expect("OK", "RENAME", "{t}a", "{t}c")
		c.Expect("1", "EVAL", "return redis.call('get', KEYS[1])", "2", "{t}c", "{t}b")
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		keys := apart(t, k, nodes)
		c.Expect("7", "EVAL", "return 7", "0")
		c.Expect("-ERR value is not an integer or out of range", "EVAL", "return 7", "x")
		c.Expect("-ERR Number of keys can't be negative", "EVAL", "return 7", "-1")
		c.Expect("-ERR Number of keys can't be greater than number of args", "EVAL", "return 7", "3", "a")

		const script = "return redis.call('incr', KEYS[1])"
		sha := c.MustDo("SCRIPT", "LOAD", script).Text
		c.Expect("[1 0]", "SCRIPT", "EXISTS", sha, strings.Repeat("f", 40))
		for i, key := range keys {
			c.Expect("1", "EVALSHA", sha, "1", key)
			nodes[i].Do("SCRIPT", "FLUSH") // as a restart would
			c.Expect("2", "EVALSHA", sha, "1", key)
			c.Expect("3", "EVALSHA", strings.ToUpper(sha), "1", key)
		}

		// EVAL makes its script known too, to every node in effect.
		const other = "return {KEYS[1], ARGV[1]}"
		c.MustDo("EVAL", other, "1", keys[0], "x")
		otherSHA := nodes[0].Do("EVAL", "return redis.sha1hex(ARGV[1])", "0", other).Text
		c.Expect("[1 0 1]", "SCRIPT", "EXISTS", otherSHA, strings.Repeat("f", 40), strings.ToUpper(sha))
		for _, key := range keys {
			c.Expect("["+key+" y]", "EVALSHA", otherSHA, "1", key, "y")
			c.Expect("["+key+" z]", "EVALSHA_RO", otherSHA, "1", key, "z")
		}
		if r := c.Do("EVALSHA", strings.Repeat("0", 40), "1", keys[0]); !strings.HasPrefix(r.Text, "NOSCRIPT") {
			t.Errorf("a script nobody loaded: %s", r)
		}
		c.MustDo("SCRIPT", "FLUSH")
		if r := c.Do("EVALSHA", sha, "1", keys[0]); !strings.HasPrefix(r.Text, "NOSCRIPT") {
			t.Errorf("after SCRIPT FLUSH: %s", r)
		}
		c.Expect("[0 0]", "SCRIPT", "EXISTS", sha, otherSHA)
	})
}

// TestRefusalsSayWhatToDo: a refusal advises what works, and a name that only COMMAND INFO
// knows is unknown, as Redis words it.
func TestRefusalsSayWhatToDo(t *testing.T) {
	nodes := redistest.Three(t)
	c := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready().Dial()
	for _, words := range []string{"DEBUG OBJECT k", "SYNC", "REPLCONF x", "SCRIPT DEBUG YES", "SHUTDOWN",
		"CONFIG SET maxmemory 1"} {
		args := strings.Fields(words)
		r := c.Do(args...)
		allow := args[0]
		if len(args) > 1 && args[0] != "DEBUG" && args[0] != "REPLCONF" {
			allow += " " + args[1]
		}
		_, err := command.Allow([]string{allow})
		if advised := strings.Contains(r.Text, "commands.allow"); r.Kind != '-' || advised != (err == nil) {
			t.Errorf("%s: %s; the configuration says %v", words, r, err)
		}
	}
	for _, args := range [][]string{{"CONFIG|GET", "maxmemory"}, {"client|id"}, {"OBJECT|ENCODING", "k"}} {
		want := redistest.Dial(t, nodes[0].Addr).Do(args...)
		for range 2 {
			if r := c.Do(args...); r.Kind != '-' || r.Text != want.Text {
				t.Errorf("%q: %s, Redis says %s", args, r, want)
			}
		}
	}
}

// A script may answer in any words, after having written: nothing may run twice
// and the words are the client's.
func TestScriptsMayAnswerAnything(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		c.MustDo("SET", "n", "0")
		words := []string{"MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "TRYAGAIN x", "CLUSTERDOWN x", "LOADING x",
			"READONLY x", "MASTERDOWN x", "NOSCRIPT spoof"}
		for _, n := range nodes {
			words = append(words, "MOVED 8000 "+n.Addr, "ASK 8000 "+n.Addr)
		}
		calls := 0
		for _, w := range words {
			r := c.Do("EVAL", "redis.call('incr', KEYS[1]); return redis.error_reply(ARGV[1])", "1", "n", w)
			calls++
			if r.Text != w {
				t.Errorf("a script said %q, the client got %q", w, r.Text)
			}
		}
		// One that has been honest before: keyway takes it to be on the node.
		sha := c.MustDo("SCRIPT", "LOAD",
			"redis.call('incr', KEYS[1]) if ARGV[1] == '' then return 1 end return redis.error_reply(ARGV[1])").Text
		c.Expect("1", "EVALSHA", sha, "1", "n", "")
		for _, lie := range []string{"NOSCRIPT spoof", "NOSCRIPT No matching script. Please use EVAL."} {
			c.Expect("-"+lie, "EVALSHA", sha, "1", "n", lie)
			c.Expect("-"+lie, "EVALSHA", sha, "1", "n", lie)
		}
		c.Expect(strconv.Itoa(calls+5), "GET", "n")
	})
}

func TestScanMissesNoKey(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		want := map[string]bool{}
		for i := range 3000 {
			key := fmt.Sprintf("user:%d", i)
			if i%3 == 0 {
				key = fmt.Sprintf("b%d", i)
			}
			want[key] = true
			c.Send("SET", key, "v")
		}
		c.Send("LPUSH", "list", "x")
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for range len(want) + 1 {
			if r, err := c.Receive(); err != nil || r.Kind == '-' {
				t.Fatal(r, err)
			}
		}
		all := scan(t, c, "COUNT", "100")
		for key := range want {
			if !all[key] {
				t.Errorf("SCAN missed %s", key)
			}
		}
		if n := len(all); n != len(want)+1 {
			t.Errorf("SCAN found %d keys, want %d", n, len(want)+1)
		}
		if got := scan(t, c, "TYPE", "list"); len(got) != 1 || !got["list"] {
			t.Errorf("SCAN TYPE list: %v", got)
		}
		if got := scan(t, c, "MATCH", "b*", "COUNT", "50"); len(got) != 1000 {
			t.Errorf("SCAN MATCH b*: %d keys, want 1000", len(got))
		}
		c.Expect("-ERR invalid cursor", "SCAN", "x")
		if n := len(c.MustDo("KEYS", "*").Elems); n != len(want)+1 {
			t.Errorf("KEYS found %d", n)
		}
		c.Expect(strconv.Itoa(len(want)+1), "DBSIZE")
		if key := c.MustDo("RANDOMKEY").Text; !all[key] {
			t.Errorf("RANDOMKEY gave %q", key)
		}
		if info := c.MustDo("INFO").Text; !strings.Contains(info, "db0:keys="+strconv.Itoa(len(want)+1)+",") ||
			!strings.Contains(info, "# Keyway\r\n") {
			t.Errorf("INFO lacks the sum of keys or keyway's section:\n%s", info[max(0, len(info)-900):])
		}
		c.Expect("OK", "FLUSHALL")
		c.Expect("0", "DBSIZE")
		c.Expect("(nil)", "RANDOMKEY")
	})
}

// scan returns the keys that a whole SCAN finds.
func scan(t *testing.T, c *redistest.Client, args ...string) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	cursor := "0"
	for rounds := 0; ; rounds++ {
		r := c.MustDo(append([]string{"SCAN", cursor}, args...)...)
		for _, e := range r.Elems[1].Elems {
			got[e.Text] = true
		}
		if cursor = r.Elems[0].Text; cursor == "0" {
			return got
		}
		if n, err := strconv.ParseInt(cursor, 10, 64); err != nil || n < 0 {
			t.Fatalf("the cursor %s does not fit 63 bits", cursor)
		}
		if rounds > 10000 {
			t.Fatal("SCAN does not end")
		}
	}
}

func TestAnsweredByTheProxy(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	c := k.Dial()
	c.Expect("PONG", "PING")
	c.Expect("x", "PING", "x")
	c.Expect("hello", "ECHO", "hello")
	c.Expect("OK", "SELECT", "0")
	c.Expect("-ERR value is not an integer or out of range", "SELECT", "x")
	c.Expect("(nil)", "CLIENT", "GETNAME")
	c.Expect("OK", "CLIENT", "SETNAME", "me")
	c.Expect("me", "CLIENT", "GETNAME")
	c.Expect("-ERR Client names cannot contain spaces, newlines or special characters.", "CLIENT", "SETNAME", "a b")
	c.Expect("OK", "CLIENT", "SETINFO", "LIB-NAME", "mine")
	id := c.MustDo("CLIENT", "ID").String()
	for _, cmd := range []string{"INFO", "LIST"} {
		if text := c.MustDo("CLIENT", cmd).Text; !strings.Contains(text, "id="+id+" ") ||
			!strings.Contains(text, "name=me") || !strings.Contains(text, "lib-name=mine") {
			t.Errorf("CLIENT %s: %q", cmd, text)
		}
	}
	c.Expect("-ERR unknown subcommand 'foo'. Try CLIENT HELP.", "CLIENT", "foo")
	c.Expect("-NOPROTO unsupported protocol version", "HELLO", "4")
	version := nodes[0].Do("HELLO").Elems[3].Text
	redistest.Eventually(t, 20*time.Second, "HELLO tells the nodes' version, "+version, func() bool {
		r := c.MustDo("HELLO", "2", "SETNAME", "you")
		return len(r.Elems) == 14 && r.Elems[3].Text == version
	})
	c.Expect("you", "CLIENT", "GETNAME")
	c.Expect("[master 0 []]", "ROLE")
	if r := c.MustDo("TIME"); len(r.Elems) != 2 {
		t.Errorf("TIME: %s", r)
	} else if sec, _ := strconv.ParseInt(r.Elems[0].Text, 10, 64); time.Since(time.Unix(sec, 0)).Abs() > time.Minute {
		t.Errorf("TIME is off: %s", r)
	}
	if n := c.MustDo("COMMAND", "COUNT").Int; n < 200 {
		t.Errorf("COMMAND COUNT: %d", n)
	}
	c.Expect("[a b]", "COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2")
	if n := c.MustDo("LASTSAVE").Int; n == 0 {
		t.Error("LASTSAVE is 0")
	}
	c.Expect("RESET", "RESET")
	c.Expect("(nil)", "CLIENT", "GETNAME")
	c.Expect("OK", "QUIT")
	if _, err := c.Receive(); err == nil {
		t.Error("QUIT leaves the connection open")
	}
}

// TestRefusedByTheProxy: commands that make no sense, or are not for clients, get Redis's own
// errors, or one that says whose error it is.
func TestRefusedByTheProxy(t *testing.T) {
	nodes := redistest.Three(t)
	c := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready().Dial()
	for cmd, want := range map[string]string{
		"READONLY":           "-ERR This instance has cluster support disabled",
		"CLUSTER SLOTS":      "-ERR This instance has cluster support disabled",
		"CLUSTER RESET":      "-ERR This instance has cluster support disabled",
		"FOO bar":            "-ERR unknown command 'FOO', with args beginning with: 'bar' ",
		"GET":                "-ERR wrong number of arguments for 'get' command",
		"XGROUP CREATE":      "-ERR wrong number of arguments for 'xgroup|create' command",
		"ACL WHOAMI":         "default",
		"CLIENT NO-EVICT on": "OK",
		"CLIENT GETREDIR":    "-1",
	} {
		c.Expect(want, strings.Fields(cmd)...)
	}
	direct := redistest.Dial(t, nodes[0].Addr)
	c.Expect(direct.Do("WAITAOF", "1", "1", "1").String(), "WAITAOF", "1", "1", "1") // Redis before 7.2 lacks it
	for _, cmd := range []string{
		"SHUTDOWN", "REPLICAOF no one", "DEBUG SLEEP 1", "BGSAVE", "MODULE LIST",
		"CONFIG SET save x", "SCRIPT DEBUG no",
	} {
		if r := c.Do(strings.Fields(cmd)...); !strings.HasPrefix(r.Text, "ERR keyway: ") {
			t.Errorf("%s: %s", cmd, r)
		}
	}
}

func TestAllowedCommandsPass(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]+`commands: {allow: [config, "memory doctor"]}`).Ready()
	c := k.Dial()
	c.Expect("OK", "CONFIG", "SET", "maxmemory", "123mb")
	for _, n := range nodes {
		if got := n.Do("CONFIG", "GET", "maxmemory").Elems[1].Text; got != "128974848" {
			t.Errorf("a node has maxmemory %s", got)
		}
	}
	c.Expect("OK", "CONFIG", "RESETSTAT")
	if r := c.Do("BGSAVE"); r.Kind != '-' {
		t.Errorf("BGSAVE passed: %s", r)
	}
}
