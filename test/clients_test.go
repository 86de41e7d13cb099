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

// TestClientsGoRedis drives an unmodified go-redis, as an application would use
// it with one Redis, on every layout and on a cluster.
func TestClientsGoRedis(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, _ []*redistest.Node) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c := redis.NewClient(&redis.Options{Addr: k.Addr, ClientName: "app"})
		defer c.Close()
		goRedisPipelines(ctx, t, c)
		goRedisLocks(ctx, t, c)
		goRedisStreams(ctx, t, c)
		err := c.ZAdd(ctx, "board", redis.Z{Score: 2, Member: "b"}, redis.Z{Score: 1, Member: "a"}).Err()
		if err != nil {
			t.Fatal(err)
		}
		if r, err := c.ZRange(ctx, "board", 0, -1).Result(); err != nil || strings.Join(r, "") != "ab" {
			t.Fatal(r, err)
		}
	})
}

// goRedisPipelines sets, counts, scans and deletes keys.
func goRedisPipelines(ctx context.Context, t *testing.T, c *redis.Client) {
	t.Helper()
	if err := c.Set(ctx, "greeting", "hello", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, "greeting").Result(); err != nil || v != "hello" {
		t.Fatal(v, err)
	}
	if _, err := c.Get(ctx, "nothing").Result(); err != redis.Nil {
		t.Fatal(err)
	}
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 200 {
			p.Incr(ctx, fmt.Sprintf("counter:%d", i%20))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, cmd := range cmds {
		if got, want := cmd.(*redis.IntCmd).Val(), int64(i/20+1); got != want {
			t.Fatalf("reply %d of the pipeline is %d, want %d", i, got, want)
		}
	}
	if n, err := c.Del(ctx, "greeting", "counter:1", "nothing").Result(); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	seen := map[string]bool{}
	for it := c.Scan(ctx, 0, "counter:*", 7).Iterator(); it.Next(ctx); {
		seen[it.Val()] = true
	}
	if len(seen) != 19 {
		t.Fatalf("SCAN found %d counters, want 19", len(seen))
	}
}

// goRedisLocks takes and releases locks by SETNX and a script.
func goRedisLocks(ctx context.Context, t *testing.T, c *redis.Client) {
	t.Helper()
	unlock := redis.NewScript("if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) " +
		"else return 0 end")
	for i := range 10 {
		lock := fmt.Sprintf("lock:%d", i)
		if ok, err := c.SetNX(ctx, lock, "token", time.Minute).Result(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if n, err := unlock.Run(ctx, c, []string{lock}, "other").Int(); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := unlock.Run(ctx, c, []string{lock}, "token").Int(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
}

// goRedisStreams reads a stream as a member of a group.
func goRedisStreams(ctx context.Context, t *testing.T, c *redis.Client) {
	t.Helper()
	if err := c.XAdd(ctx, &redis.XAddArgs{Stream: "log", Values: []string{"a", "1"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.XGroupCreate(ctx, "log", "group", "0").Err(); err != nil {
		t.Fatal(err)
	}
	r, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: "group", Consumer: "me", Streams: []string{"log", ">"}, Block: -1,
	}).Result()
	if err != nil || len(r[0].Messages) != 1 {
		t.Fatal(r, err)
	}
}

// TestClientsRedisCLI drives redis-cli as people at a terminal do.
func TestClientsRedisCLI(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Fatal("redis-cli is not installed; install it with: apt-get install -y redis-tools")
	}
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, _ []*redistest.Node) {
		_, port, _ := strings.Cut(k.Addr, ":")
		run := func(stdin string, args ...string) string {
			cmd := exec.Command(path, append([]string{"-p", port}, args...)...)
			cmd.Stdin = strings.NewReader(stdin)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("redis-cli %v: %v\n%s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		if got := run("", "SET", "a", "1"); got != "OK" {
			t.Errorf("SET: %s", got)
		}
		if got := run("SET b 2\nMGET a b\nINCR b\n"); got != "OK\n1\n2\n3" {
			t.Errorf("commands from a file: %q", got)
		}
		got := run("*3\r\n$3\r\nSET\r\n$1\r\nc\r\n$1\r\n9\r\n", "--pipe")
		if !strings.Contains(got, "errors: 0, replies: 1") {
			t.Errorf("--pipe: %s", got)
		}
		if got := run("", "--scan", "--pattern", "[abc]"); len(strings.Fields(got)) != 3 {
			t.Errorf("--scan: %q", got)
		}
		if got := run("", "EVAL", "return KEYS[1]", "1", "x"); got != "x" {
			t.Errorf("EVAL: %s", got)
		}
	})
}
