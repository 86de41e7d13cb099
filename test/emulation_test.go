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
	nodes := redistest.Three(t)
	layouts := redistest.Layouts(nodes)
	layouts["cluster"] = redistest.NewCluster(t, 3, 0).SeedsYAML()
	for name, yaml := range layouts {
		for _, count := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, count), func(t *testing.T) {
				keyways := redistest.Emulating(t, count, yaml)
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{keyways[0].Addr}})
				defer c.Close()
				shards, err := c.ClusterShards(ctx).Result()
				if err != nil || len(shards) != count || shards[0].Slots[0].Start != 0 || shards[count-1].Slots[0].End != 16383 {
					t.Fatalf("%v, %v", shards, err)
				}
				for i := range 300 {
					if err := c.Set(ctx, fmt.Sprintf("%s:%d:%d", name, count, i), i, time.Minute).Err(); err != nil {
						t.Fatal(err)
					}
				}
				cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
					for i := range 300 {
						p.Get(ctx, fmt.Sprintf("%s:%d:%d", name, count, i))
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
					p.Incr(ctx, "{tx}:"+name)
					p.Incr(ctx, "{tx}:"+name)
					return nil
				})
				if err != nil || cmds[1].(*redis.IntCmd).Val()%2 != 0 {
					t.Fatal(cmds, err)
				}
				if v, err := c.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{fmt.Sprintf("%s:%d:7", name, count)}).Text(); v != "7" || err != nil {
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
				c2 := keyways[count-1].Dial()
				c2.Expect("OK", "READONLY")
				c2.Expect("OK", "READWRITE")
				c2.Expect("OK", "ASKING")
				c2.Expect("12182", "CLUSTER", "KEYSLOT", "foo")
				id := c2.MustDo("CLUSTER", "MYID").Text
				c2.Expect("[]", "CLUSTER", "REPLICAS", id)
				c2.Expect("-ERR Unknown node x", "CLUSTER", "SLAVES", "x")
				c2.Expect("0", "CLUSTER", "COUNT-FAILURE-REPORTS", id)
				c2.Expect("[]", "CLUSTER", "LINKS")
				c2.Expect("-ERR keyway: 'CLUSTER FAILOVER' is refused: keyway emulates this cluster, whose nodes are keyways; "+
					"ask or change the Redis servers directly", "CLUSTER", "FAILOVER")
				if help := c2.MustDo("CLUSTER", "HELP").String(); !strings.Contains(help, "KEYSLOT <key>") {
					t.Errorf("CLUSTER HELP: %s", help)
				}
				if text := c2.MustDo("CLUSTER", "NODES").Text; strings.Count(text, "\n") != count || strings.Count(text, "myself,master") != 1 || !strings.Contains(text, c2.MustDo("CLUSTER", "MYID").Text+" "+keyways[count-1].Addr) {
					t.Errorf("CLUSTER NODES: %q", text)
				}
				if text := c2.MustDo("CLUSTER", "INFO").Text; !strings.HasPrefix(text, "cluster_state:ok\r\n") {
					t.Errorf("CLUSTER INFO: %q", text)
				}
				if slots := c2.MustDo("CLUSTER", "SLOTS").Elems; len(slots) != count || slots[0].Elems[0].Int != 0 || slots[count-1].Elems[1].Int != 16383 {
					t.Errorf("CLUSTER SLOTS: %v", slots)
				}
				if text := c2.MustDo("INFO").Text; !strings.Contains(text, "_mode:cluster\r\n") || !strings.Contains(text, "cluster_enabled:1\r\n") {
					t.Error("INFO is not that of a cluster's node")
				}
				if mode := c2.MustDo("HELLO").Elems[9].Text; mode != "cluster" {
					t.Errorf("HELLO says mode %s", mode)
				}
				for _, key := range c2.MustDo("CLUSTER", "GETKEYSINSLOT", "12182", "100").Elems {
					c2.MustDo("DEL", key.Text)
				}
				c2.MustDo("SET", "foo", "x")
				c2.Expect("1", "CLUSTER", "COUNTKEYSINSLOT", "12182")
				c2.Expect("[foo]", "CLUSTER", "GETKEYSINSLOT", "12182", "10")
				c2.Expect("[]", "CLUSTER", "GETKEYSINSLOT", "12182", "0")
				for i := range 30 {
					c2.MustDo("SET", fmt.Sprint("{foo}", i), "x")
				}
				c2.Expect("31", "CLUSTER", "COUNTKEYSINSLOT", "12182")
				if keys := c2.MustDo("CLUSTER", "GETKEYSINSLOT", "12182", "5").Elems; len(keys) != 5 || !strings.Contains(keys[4].Text, "foo") {
					t.Errorf("GETKEYSINSLOT: %v", keys)
				}
				for i := range 30 {
					c2.MustDo("DEL", fmt.Sprint("{foo}", i))
				}
				c2.Expect("-ERR Invalid slot", "CLUSTER", "COUNTKEYSINSLOT", "16384")
				c2.Expect("-ERR value is not an integer or out of range", "CLUSTER", "COUNTKEYSINSLOT", "x")
				c2.Expect("-ERR Invalid slot or number of keys", "CLUSTER", "GETKEYSINSLOT", "1", "-1")
				_, port, _ := strings.Cut(keyways[0].Addr, ":")
				if out, err := exec.Command("redis-cli", "-c", "-p", port, "GET", name+":"+fmt.Sprint(count)+":9").CombinedOutput(); err != nil || string(out) != "9\n" {
					t.Errorf("redis-cli -c: %q, %v", out, err)
				}
			})
		}
	}
	if r := redistest.Serve(t, layouts["ring"]).Ready().Dial().Do("CLUSTER", "SLOTS"); r.Text != "ERR This instance has cluster support disabled" {
		t.Errorf("without emulation: %s", r)
	}
}
