package test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestEveryServerIsServed: keyway serves clusters of every kind of server.
func TestEveryServerIsServed(t *testing.T) {
	t.Parallel()
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			cluster := server.Cluster(t, 3, 0)
			k := redistest.Serve(t, cluster.SeedsYAML()).Ready()
			c := k.Dial()
			keys := []string{"a", "b", "c", "d", "e", "f"}
			for _, key := range keys {
				c.Expect("OK", "SET", key, "1")
			}
			ones := strings.TrimSuffix(strings.Repeat("1 ", len(keys)), " ")
			c.Expect("["+ones+"]", append([]string{"MGET"}, keys...)...)
			c.Expect("6", "DBSIZE")
		})
	}
}

// TestCommandsOfValkey: those that only Valkey has are answered as by one Valkey; a
// Redis says that it does not know them.
func TestCommandsOfValkey(t *testing.T) {
	t.Parallel()
	cluster := redistest.Valkey.Cluster(t, 3, 0)
	k := redistest.Serve(t, cluster.SeedsYAML()).Ready()
	c := k.Dial()
	redistest.Eventually(t, 20*time.Second, "HELLO says valkey", func() bool {
		return c.Do("HELLO").Elems[1].Text == "valkey"
	})
	c.Expect("OK", "CLIENT", "CAPA", "redirect")
	c.Expect("0", "COMMANDLOG", "LEN", "slow")
	c.Expect("[]", "COMMANDLOG", "GET", "-1", "SLOW")
	c.Expect("-ERR count should be greater than or equal to -1", "COMMANDLOG", "GET", "x", "slow")
	c.Expect("-ERR type should be one of the following: slow, large-request, large-reply", "COMMANDLOG", "LEN", "quick")
	c.Expect("OK", "COMMANDLOG", "RESET", "slow")
	sha := c.MustDo("SCRIPT", "LOAD", "return 1").Text
	c.Expect("return 1", "SCRIPT", "SHOW", strings.ToUpper(sha))
	c.Expect("-NOSCRIPT No matching script.", "SCRIPT", "SHOW", strings.Repeat("0", 40))
	c.Expect("OK", "SET", "k", "v")
	c.Expect("0", "DELIFEQ", "k", "w")
	c.Expect("1", "DELIFEQ", "k", "v")

	want := map[string]bool{}
	for i := range 500 {
		key := fmt.Sprintf("key:%d", i)
		c.MustDo("SET", key, "v")
		want[key] = true
	}
	for cursor, steps := "0", 0; steps == 0 || cursor != "0"; steps++ {
		r := c.MustDo("CLUSTERSCAN", cursor, "COUNT", "100")
		for _, e := range r.Elems[1].Elems {
			delete(want, e.Text)
		}
		if cursor = r.Elems[0].Text; steps > 20_000 {
			t.Fatalf("CLUSTERSCAN does not end: its cursor is %s", cursor)
		}
	}
	if len(want) > 0 {
		t.Errorf("CLUSTERSCAN missed %d keys", len(want))
	}

	node := redistest.Redis.Start(t)
	plain := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	for _, command := range []string{"COMMANDLOG LEN slow", "SCRIPT SHOW " + sha, "CLUSTERSCAN 0", "DELIFEQ k v"} {
		text := "PING\r\n" + command + "\r\n"
		sameAnswers(t, plain.Addr, node.Addr, []string{command}, text)
	}
}

// TestCommandsThatTheServerLacks: keyway knows the commands of the newest servers, and
// words its errors as the server does that its clients believe to speak to.
func TestCommandsThatTheServerLacks(t *testing.T) {
	t.Parallel()
	commands := []string{
		"CLIENT NO-TOUCH", "CLIENT NO-TOUCH OFF", "CLIENT no-touch x", "CLIENT NO-TOUCH ON x", "CLIENT NO-EVICT x",
		"CLIENT IMPORT-SOURCE OFF", "CLIENT CAPA x", "COMMANDLOG LEN slow", "SCRIPT SHOW x", "WAITAOF 1", "SPUBLISH",
		"HEXPIRE", "HEXPIRE k", "HGETEX k", "HGETDEL", "GETEX", "MSETEX", "NOSUCH", "FUNCTION NOSUCH",
		"CLUSTER", "CLUSTER HELP", "CLUSTER NOSUCH", "CLUSTER SHARDS", "CLUSTER MYSHARDID",
		"CLUSTER SLOT-STATS ORDERBY key-count", "CLUSTER GETSLOTMIGRATIONS",
	}
	ofRedis := []string{
		"CLIENT UNblock 5 timeout x", "VREM k", "VGETATTR", "XNACK", "XDELEX k", "DIGEST", "DELEX",
		"BLMOVEM", "HIMPORT x",
	}
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			node := server.Start(t)
			k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
			c := k.Dial()
			version := node.Do("HELLO").Elems[3].Text
			redistest.Eventually(t, 20*time.Second, "HELLO says "+version, func() bool {
				return c.Do("HELLO").Elems[3].Text == version
			})
			commands := commands
			if server.Name != redistest.Valkey.Name {
				commands = append(commands[:len(commands):len(commands)], ofRedis...)
			}
			sameAnswers(t, k.Addr, node.Addr, commands, strings.Join(commands, "\r\n")+"\r\n")
		})
	}
}

// TestWaitOverEachServer: WAIT counts the replicas that have this client's writes. A
// connection's replication offset is since Redis 7.2 that of its last write.
func TestWaitOverEachServer(t *testing.T) {
	t.Parallel()
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			cluster := server.Cluster(t, 1, 1)
			c := redistest.Serve(t, cluster.SeedsYAML()).Ready().Dial()
			c.Expect("OK", "SET", "k", "1")
			c.Expect("1", "WAIT", "1", "5000")
			replica := cluster.Nodes[1]
			replica.Freeze()
			c.Expect("OK", "SET", "k", "2")
			c.Expect("0", "WAIT", "1", "300")
			if server.Name != redistest.Redis.Name {
				cluster.Nodes[0].Do("CONFIG", "SET", "appendonly", "yes")
				c.Expect("[1 0]", "WAITAOF", "1", "1", "1500")
			}
			replica.Thaw()
			c.Expect("1", "WAIT", "1", "5000")
			if list := cluster.Nodes[0].Do("FUNCTION", "LIST"); len(list.Elems) > 0 {
				t.Errorf("WAIT left functions behind: %s", list)
			}
		})
	}
}

// TestServersThatReadmeNames: the README says over which servers the tests run.
func TestServersThatReadmeNames(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "The tests run over ")
	line, _, _ = strings.Cut(line, ". ")
	for server, name := range map[*redistest.Server]string{
		&redistest.Redis8: "Redis ", &redistest.Stack: "Redis Stack ", &redistest.Valkey: "Valkey ",
	} {
		version := strings.Split(server.Start(t).Do("HELLO").Elems[3].Text, ".")
		if name += version[0] + "." + version[1]; !slices.Contains(strings.Split(line, ", "), name) {
			t.Errorf("README.md says that the tests run over %s, not over %s", line, name)
		}
	}
}
