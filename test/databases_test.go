package test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestDatabases has two clients send random sequences around SELECT, to keyway
// and to a Redis of its own: every reply is the same.
func TestDatabases(t *testing.T) {
	t.Parallel()
	sequences := 300 // on each of four layouts
	if redistest.Race {
		sequences = 30
	}
	nodes := redistest.Three(t)
	for name, yaml := range redistest.Layouts(nodes) {
		t.Run(name, func(t *testing.T) {
			k, oracle := redistest.Serve(t, yaml).Ready(), redistest.Start(t)
			for _, n := range nodes {
				n.Do("FLUSHALL")
			}
			rng := rand.New(rand.NewPCG(8, 8))
			for n := range sequences {
				var ours, theirs [2]*redistest.Client
				for i := range ours {
					ours[i], theirs[i] = redistest.Dial(t, k.Addr), redistest.Dial(t, oracle.Addr)
				}
				var sent []string
				for range 4 + rng.IntN(20) {
					key, db := fmt.Sprintf("user:%d", 1+rng.IntN(2000)%7*300), fmt.Sprint(rng.IntN(4))
					args := [][]string{
						{"SELECT", db}, {"SELECT", db},
						{"SELECT", "16"}, {"SELECT", "-1"}, {"SELECT", "x"}, {"SELECT", "100000"},
						{"SET", key, fmt.Sprint(n)}, {"SET", key, fmt.Sprint(n)}, {"GET", key}, {"GET", key},
						{"INCR", key}, {"DEL", key, "user:1"}, {"MGET", key, "user:1", "user:601"},
						{"MOVE", key, db}, {"SWAPDB", "0", "1"}, {"DBSIZE"}, {"FLUSHDB"}, {"EXISTS", key},
						{"MULTI"}, {"EXEC"}, {"WATCH", key}, {"RESET"},
						{"EVAL", "return redis.call('GET', KEYS[1])", "1", key}, {"PING"},
					}[rng.IntN(24)]
					who := rng.IntN(2)
					sent = append(sent, fmt.Sprintf("%d: %q", who, args))
					if spans[args[0]] && ours[who].Do("ECHO", "x").Text == "QUEUED" {
						theirs[who].Do("ECHO", "x")
						continue // inside MULTI keyway refuses what concerns several nodes
					}
					if spans[args[0]] {
						theirs[who].Do("ECHO", "x")
					}
					got, want := ours[who].Do(args...), theirs[who].Do(args...)
					if args[0] == "MULTI" || args[0] == "WATCH" {
						// Its keys would have to live together: left to TestTransactionsLikeRedis.
						ours[who].Do("RESET")
						theirs[who].Do("RESET")
					}
					if got.String() != want.String() || got.Kind != want.Kind {
						t.Fatalf("after %v:\nkeyway says %s\nRedis says  %s", sent, got, want)
					}
				}
				for i := range ours {
					ours[i].Close()
					theirs[i].Close()
				}
			}
		})
	}
}

// spans are commands that concern all nodes.
var spans = map[string]bool{"SWAPDB": true, "DBSIZE": true, "FLUSHDB": true, "SELECT": true, "DEL": true, "MGET": true}

// TestDatabaseStays: transactions, blocking commands, and commands after a node's restart
// use the database that the client has selected.
func TestDatabaseStays(t *testing.T) {
	nodes := []*redistest.Node{redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")}
	k := redistest.Serve(t, "layout: ring\n"+redistest.NodesYAML(nodes)).Ready()
	c, other := k.Dial(), k.Dial()
	c.Expect("OK", "SELECT", "3")
	c.Expect("OK", "WATCH", "k")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "k", "3")
	c.Expect("[OK]", "EXEC")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "INCR", "k")
	c.Expect("[4]", "EXEC")
	other.Expect("(nil)", "GET", "k")
	reply := later(t, c, "BLPOP", "list", "5")
	blockedOn(t, nodes, 1)
	other.Expect("1", "RPUSH", "list", "of database 0")
	other.Expect("OK", "SELECT", "3")
	other.Expect("1", "RPUSH", "list", "v")
	if got := (<-reply).String(); got != "[list v]" {
		t.Error(got)
	}
	nodes[0].Kill()
	nodes[0].Run()
	redistest.Eventually(t, 10*time.Second, "the node is served again", func() bool {
		return c.Do("GET", "k").Kind == '$'
	})
	c.Expect("4", "GET", "k")
	c.Expect("[]", "KEYS", "l*")
}

// TestWatchedInAnotherDatabase: a transaction acts in the database that the client has selected since
// WATCH, and sees changes of the keys in the one where it has watched them, as in Redis.
func TestWatchedInAnotherDatabase(t *testing.T) {
	t.Parallel()
	k := redistest.Serve(t, redistest.Ring(redistest.Start(t).Addr)).Ready()
	var got [2]string
	for i, addr := range []string{k.Addr, redistest.Start(t).Addr} {
		c, other := redistest.Dial(t, addr), redistest.Dial(t, addr)
		both := func(who *redistest.Client, commands ...string) {
			for _, command := range commands {
				got[i] += command + ": " + who.Do(strings.Fields(command)...).String() + "\n"
			}
		}
		both(c, "WATCH a", "SELECT 3", "MULTI", "SET a 1", "GET a", "EXEC", "GET a")
		both(other, "GET a", "SET b 1")
		both(c, "WATCH b", "SELECT 0", "MULTI", "SET b 2", "EXEC") // nobody has changed b in database 3
		both(c, "WATCH b", "SELECT 3")
		both(other, "SET b 3")
		both(c, "MULTI", "SET b 4", "EXEC", "GET b")
		both(c, "WATCH a", "SELECT 0", "WATCH a", "SELECT 5")
		both(other, "SET a 5")
		both(c, "MULTI", "SET a 6", "EXEC", "GET a")
		both(c, "WATCH a", "SELECT 4", "MULTI", "SELECT 6", "SET a 7", "EXEC", "GET a", "SELECT 4", "GET a")
	}
	if got[0] != got[1] {
		t.Errorf("keyway:\n%s\nRedis:\n%s", got[0], got[1])
	}
}

// TestWatchedInAnotherProtocol: a client that changes its protocol while it watches keys gets the replies to
// its transaction in the new one, byte for byte as from Redis, and the keys stay watched.
func TestWatchedInAnotherProtocol(t *testing.T) {
	t.Parallel()
	k := redistest.Serve(t, redistest.Ring(redistest.Start(t).Addr)).Ready()
	var got [2]string
	for i, addr := range []string{k.Addr, redistest.Start(t).Addr} {
		c, other := redistest.Dial(t, addr), redistest.Dial(t, addr)
		c.MustDo("HSET", "h", "f", "v")
		for _, change := range []bool{false, true} {
			for _, protocol := range []string{"3", "3", "2"} {
				c.MustDo("WATCH", "h")
				c.MustDo("HELLO", protocol) // whose reply has the client's id
				if change {
					other.MustDo("HSET", "h", "f", "v")
				}
				for _, command := range []string{"MULTI", "HGETALL h", "GET none", "EXEC", "HGETALL h"} {
					c.Send(strings.Fields(command)...)
					c.Flush()
					reply, err := c.ReceiveRaw()
					if err != nil {
						t.Fatal(err)
					}
					got[i] += fmt.Sprintf("%s: %q\n", command, reply)
				}
			}
		}
	}
	if got[0] != got[1] {
		t.Errorf("keyway:\n%s\nRedis:\n%s", got[0], got[1])
	}
}

// TestHalfClosedClients: one that has sent its commands and closed its side, as
// printf | nc does, gets every answer.
func TestHalfClosedClients(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	for send, want := range map[string]string{
		"SELECT 3\r\nSET a 1\r\nSELECT 0\r\nGET a\r\nSELECT 3\r\nGET a\r\n": "" +
			"+OK\r\n+OK\r\n+OK\r\n$-1\r\n+OK\r\n$1\r\n1\r\n",
		"WATCH b\r\nMULTI\r\nSET b 1\r\nEXEC\r\nGET b\r\n": "" +
			"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\n1\r\n",
		"SUBSCRIBE x\r\nUNSUBSCRIBE x\r\nNOSUCH\r\n": "" +
			"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nx\r\n:0\r\n" +
			"-ERR unknown command 'NOSUCH', with args beginning with: \r\n",
		"SCRIPT KILL\r\nPING\r\n": "-NOTBUSY No scripts in execution right now.\r\n+PONG\r\n",
	} {
		conn, err := net.Dial("tcp", k.Addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, send)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		got, err := io.ReadAll(conn)
		if string(got) != want || err != nil {
			t.Errorf("%q:\n got %q, %v\nwant %q", send, got, err, want)
		}
		conn.Close()
	}
}

// TestDatabaseThatIsNotThere: a client that asks for one gets Redis's error, and
// the node does not look unreachable for it.
func TestDatabaseThatIsNotThere(t *testing.T) {
	t.Parallel()
	nodes := []*redistest.Node{redistest.Start(t)}
	var log bytes.Buffer
	o := server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	k := redistest.ServeWith(t, "layout: ring\n"+redistest.NodesYAML(nodes), o).Ready()
	c := k.Dial()
	for _, protocol := range []string{"2", "3"} {
		c.MustDo("HELLO", protocol)
		c.Expect("OK", "SELECT", "3")
		c.Expect("OK", "SET", "k", protocol)
		for range 3 {
			c.Expect("-ERR DB index is out of range", "SELECT", "16")
		}
		c.Expect(protocol, "GET", "k")
		c.Expect("OK", "SELECT", "15")
		c.Expect("(nil)", "GET", "k")
	}
	if n := k.Snapshot()[0].Nodes[0]; n.Failures > 0 || n.Losses > 0 || n.Exclusive > 0 {
		t.Errorf("%d failures, %d losses, %d connections in use", n.Failures, n.Losses, n.Exclusive)
	}
	k.Stop()
	if strings.Contains(log.String(), "unreachable") {
		t.Error(log.String())
	}
}

// TestDatabasesOfACluster: for a database that the cluster lacks, clients get the error of its
// nodes, in transactions too.
func TestDatabasesOfACluster(t *testing.T) {
	t.Parallel()
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			cluster := server.Cluster(t, 3, 0)
			const key = "a"
			ours := redistest.Serve(t, cluster.SeedsYAML()).Ready().Dial()
			theirs := redistest.Dial(t, cluster.Nodes[cluster.Owner(0, int(slots.Of([]byte(key))))].Addr)
			for _, words := range []string{
				"SELECT 0", "SELECT 1", "SELECT 16", "SELECT -1", "SELECT x",
				"SELECT 65536", "SELECT 2147483647", "SELECT 2147483648",
				"MOVE a 1", "SWAPDB 0 1", "SET a 1",
				"MULTI", "SET a 2", "SELECT 1", "SELECT -1", "SELECT x", "STRLEN a", "SELECT 0", "GET a",
				"EXEC", "GET a",
				"WATCH {a}w", "MULTI", "SELECT 1", "GET a", "EXEC", "GET a", "SELECT 1", "GET a",
			} {
				args := strings.Fields(words)
				got, want := ours.Do(args...), theirs.Do(args...)
				if got.String() != want.String() || got.Kind != want.Kind {
					t.Errorf("%s:\nkeyway says %s\n%s says %s", words, got, server.Name, want)
				}
			}
		})
	}
}

// TestNumberedDatabasesOfACluster: Valkey 9 can have several in a cluster. What a
// client does stays in its own, on every node, while slots move and masters change.
func TestNumberedDatabasesOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.Valkey.Cluster(t, 3, 1, "--cluster-databases", "4")
	k := redistest.Serve(t, cluster.SeedsYAML()).Ready()
	c, other := k.Dial(), k.Dial()
	c.Expect("-ERR DB index is out of range", "SELECT", "4")
	c.Expect("OK", "SELECT", "3")
	keys := []string{"a", "b", "c", "d", "e", "f"}
	for _, key := range keys {
		c.Expect("OK", "SET", key, "3")
	}
	c.Expect("[3 3 3 3 3 3]", append([]string{"MGET"}, keys...)...)
	c.Expect("6", "DBSIZE")
	other.Expect("0", "DBSIZE")
	other.Expect("(nil)", "GET", "a")
	c.Expect("1", "MOVE", "a", "2")
	c.Expect("(nil)", "GET", "a")
	other.Expect("OK", "SELECT", "2")
	other.Expect("3", "GET", "a")
	other.Expect("1", "COPY", "a", "a", "DB", "3")
	c.Expect("3", "GET", "a")
	c.Expect("-ERR SWAPDB is not allowed in cluster mode", "SWAPDB", "0", "1")

	selectInTransaction(c)
	reply := later(t, c, "BLPOP", "list", "20")
	blockedOn(t, cluster.Nodes[:3], 1)
	other.Expect("1", "RPUSH", "list", "of database 2")
	other.Expect("OK", "SELECT", "3")
	other.Expect("1", "RPUSH", "list", "v")
	if got := (<-reply).String(); got != "[list v]" {
		t.Error(got)
	}

	reader := redistest.Serve(t, cluster.SeedsYAML()+"reads: replica\n").Ready().Dial()
	reader.Expect("OK", "SELECT", "3")
	redistest.Eventually(t, 10*time.Second, "a replica is read", func() bool {
		return reader.Do("GET", "a").Text == "3"
	})

	moveAndFailOver(t, cluster, c)
	k.Dial().Expect("(nil)", "GET", "a")
}

// selectInTransaction changes the database within a transaction, from 3 to 1.
func selectInTransaction(c *redistest.Client) {
	c.Expect("OK", "WATCH", "b")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "INCR", "b")
	c.Expect("[4]", "EXEC")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "INCR", "b")
	c.Expect("QUEUED", "SELECT", "1")
	c.Expect("QUEUED", "SET", "b", "1")
	c.Expect("QUEUED", "SELECT", "4")
	c.Expect("[5 OK OK -ERR DB index is out of range]", "EXEC")
	c.Expect("1", "GET", "b") // in the database that was selected last
	c.Expect("OK", "SELECT", "3")
	c.Expect("5", "GET", "b")
}

// moveAndFailOver moves the slot of "a" to another master, whose replica then takes over.
func moveAndFailOver(t *testing.T, cluster *redistest.Cluster, c *redistest.Client) {
	t.Helper()
	const slot = 15495
	from := cluster.Owner(0, slot)
	cluster.Nodes[from].Do("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "15495", "15495", "NODE", cluster.IDs[0])
	redistest.Eventually(t, 20*time.Second, "the slot has moved", func() bool {
		return cluster.Owner(0, slot) == 0 && cluster.Owner(from, slot) == 0
	})
	c.Expect("3", "GET", "a")
	c.Expect("OK", "SET", "a", "moved")
	cluster.Failover(3) // the replica of the first
	redistest.Eventually(t, 10*time.Second, "the new master is served", func() bool {
		return c.Do("SET", "a", "there").Text == "OK"
	})
	c.Expect("there", "GET", "a")
}
