package test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestClusterClients drives an unmodified cluster client, which takes one keyway,
// or three, for a whole cluster.
func TestClusterClients(t *testing.T) {
	t.Parallel()
	eachEmulation(t, func(t *testing.T, keyways []*redistest.Keyway, prefix string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{keyways[0].Addr}})
		defer c.Close()
		shards, err := c.ClusterShards(ctx).Result()
		if n := len(keyways); err != nil || len(shards) != n ||
			shards[0].Slots[0].Start != 0 || shards[n-1].Slots[0].End != 16383 {
			t.Fatalf("%v, %v", shards, err)
		}
		clusterClientPipelines(ctx, t, c, prefix)
		v, err := c.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{prefix + "7"}).Text()
		if v != "7" || err != nil {
			t.Fatal(v, err)
		}
		sub := c.SSubscribe(ctx, "sharded")
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		if n, err := c.SPublish(ctx, "sharded", "x").Result(); n < 1 || err != nil {
			t.Fatal(n, err)
		}
		if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "x" {
			t.Fatal(m, err)
		}
		_, port, _ := strings.Cut(keyways[0].Addr, ":")
		out, err := exec.Command("redis-cli", "-c", "-p", port, "GET", prefix+"9").CombinedOutput()
		if err != nil || string(out) != "9\n" {
			t.Errorf("redis-cli -c: %q, %v", out, err)
		}
	})
}

// eachEmulation runs a test with one and three keyways that emulate a cluster, on every
// layout and on a cluster. prefix is one for keys of its own.
func eachEmulation(t *testing.T, f func(t *testing.T, keyways []*redistest.Keyway, prefix string)) {
	layouts := redistest.Layouts(redistest.Three(t))
	layouts["cluster"] = redistest.NewCluster(t, 3, 0).SeedsYAML()
	for name, yaml := range layouts {
		for _, count := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, count), func(t *testing.T) {
				f(t, redistest.Emulating(t, count, yaml), fmt.Sprintf("%s:%d:", name, count))
			})
		}
	}
}

// clusterClientPipelines sets 300 keys to their numbers, and reads them.
func clusterClientPipelines(ctx context.Context, t *testing.T, c *redis.ClusterClient, prefix string) {
	t.Helper()
	for i := range 300 {
		if err := c.Set(ctx, prefix+fmt.Sprint(i), i, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 300 {
			p.Get(ctx, prefix+fmt.Sprint(i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, cmd := range cmds {
		if got := cmd.(*redis.StringCmd).Val(); got != fmt.Sprint(i) {
			t.Fatalf("value %d is %q", i, got)
		}
	}
	cmds, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "{tx}:"+prefix)
		p.Incr(ctx, "{tx}:"+prefix)
		return nil
	})
	if err != nil || cmds[1].(*redis.IntCmd).Val()%2 != 0 {
		t.Fatal(cmds, err)
	}
}

// TestEmulatedClusterCommands: CLUSTER, INFO and HELLO are answered as by a node of a cluster.
func TestEmulatedClusterCommands(t *testing.T) {
	t.Parallel()
	eachEmulation(t, func(t *testing.T, keyways []*redistest.Keyway, _ string) {
		last := keyways[len(keyways)-1]
		c := last.Dial()
		c.Expect("OK", "READONLY")
		c.Expect("OK", "READWRITE")
		c.Expect("OK", "ASKING")
		id := c.MustDo("CLUSTER", "MYID").Text
		c.Expect("[]", "CLUSTER", "REPLICAS", id)
		c.Expect("-ERR Unknown node x", "CLUSTER", "SLAVES", "x")
		c.Expect("0", "CLUSTER", "COUNT-FAILURE-REPORTS", id)
		c.Expect("[]", "CLUSTER", "LINKS")
		c.Expect("-ERR keyway: 'CLUSTER FAILOVER' is refused: keyway emulates this cluster, "+
			"whose nodes are keyways; ask or change the Redis servers directly", "CLUSTER", "FAILOVER")
		if help := c.MustDo("CLUSTER", "HELP").String(); !strings.Contains(help, "KEYSLOT <key>") {
			t.Errorf("CLUSTER HELP: %s", help)
		}
		text := c.MustDo("CLUSTER", "NODES").Text
		if strings.Count(text, "\n") != len(keyways) || strings.Count(text, "myself,master") != 1 ||
			!strings.Contains(text, id+" "+last.Addr) {
			t.Errorf("CLUSTER NODES: %q", text)
		}
		if text := c.MustDo("CLUSTER", "INFO").Text; !strings.HasPrefix(text, "cluster_state:ok\r\n") {
			t.Errorf("CLUSTER INFO: %q", text)
		}
		slots := c.MustDo("CLUSTER", "SLOTS").Elems
		if n := len(keyways); len(slots) != n ||
			slots[0].Elems[0].Int != 0 || slots[n-1].Elems[1].Int != 16383 {
			t.Errorf("CLUSTER SLOTS: %v", slots)
		}
		text = c.MustDo("INFO").Text
		if !strings.Contains(text, "_mode:cluster\r\n") || !strings.Contains(text, "cluster_enabled:1\r\n") {
			t.Error("INFO is not that of a cluster's node")
		}
		if mode := c.MustDo("HELLO").Elems[9].Text; mode != "cluster" {
			t.Errorf("HELLO says mode %s", mode)
		}
		keysOfASlot(t, c)
	})
	r := redistest.Serve(t, redistest.Layouts(redistest.Three(t))["ring"]).Ready().Dial().Do("CLUSTER", "SLOTS")
	if r.Text != "ERR This instance has cluster support disabled" {
		t.Errorf("without emulation: %s", r)
	}
}

// keysOfASlot asks for the number and the names of a slot's keys.
func keysOfASlot(t *testing.T, c *redistest.Client) {
	t.Helper()
	c.Expect("12182", "CLUSTER", "KEYSLOT", "foo")
	for _, key := range c.MustDo("CLUSTER", "GETKEYSINSLOT", "12182", "100").Elems {
		c.MustDo("DEL", key.Text)
	}
	c.MustDo("SET", "foo", "x")
	c.Expect("1", "CLUSTER", "COUNTKEYSINSLOT", "12182")
	c.Expect("[foo]", "CLUSTER", "GETKEYSINSLOT", "12182", "10")
	c.Expect("[]", "CLUSTER", "GETKEYSINSLOT", "12182", "0")
	for i := range 30 {
		c.MustDo("SET", fmt.Sprint("{foo}", i), "x")
	}
	c.Expect("31", "CLUSTER", "COUNTKEYSINSLOT", "12182")
	keys := c.MustDo("CLUSTER", "GETKEYSINSLOT", "12182", "5").Elems
	if len(keys) != 5 || !strings.Contains(keys[4].Text, "foo") {
		t.Errorf("GETKEYSINSLOT: %v", keys)
	}
	for i := range 30 {
		c.MustDo("DEL", fmt.Sprint("{foo}", i))
	}
	c.Expect("-ERR Invalid slot", "CLUSTER", "COUNTKEYSINSLOT", "16384")
	c.Expect("-ERR value is not an integer or out of range", "CLUSTER", "COUNTKEYSINSLOT", "x")
	c.Expect("-ERR Invalid slot or number of keys", "CLUSTER", "GETKEYSINSLOT", "1", "-1")
}
