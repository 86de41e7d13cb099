package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// withGoRedis has a client of one server, or of a cluster, do all that it does.
func withGoRedis(ctx context.Context, library string, c goredis.UniversalClient) {
	check := func(name string, run func() error) { check(library, "github.com/redis/go-redis/v9", name, run) }
	defer c.Close()
	check("handshake", func() error {
		name, err := c.ClientGetName(ctx).Result()
		return want(name, err, "app")
	})
	check("pipeline", func() error {
		var keys []string
		cmds, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for i := range 200 {
				keys = append(keys, key("p"))
				p.Set(ctx, keys[i], i, 0)
			}
			for _, k := range keys {
				p.Get(ctx, k)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, cmd := range cmds[200:] {
			if got := cmd.(*goredis.StringCmd).Val(); got != strconv.Itoa(i) {
				return fmt.Errorf("value %d is %q", i, got)
			}
		}
		return nil
	})
	check("transaction", func() error {
		k := key("{t}")
		err := retries(20, func() (bool, error) {
			err := c.Watch(ctx, func(tx *goredis.Tx) error {
				n, err := tx.Get(ctx, k).Int()
				if err != nil && !errors.Is(err, goredis.Nil) {
					return err
				}
				_, err = tx.TxPipelined(ctx, func(p goredis.Pipeliner) error {
					p.Set(ctx, k, n+1, 0)
					return nil
				})
				return err
			}, k)
			if errors.Is(err, goredis.TxFailedErr) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
		n, err := c.Get(ctx, k).Int()
		return want(n, err, 60)
	})
	check("scripts", func() error {
		script, k := goredis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])"), key("s")
		if n, err := script.Run(ctx, c, []string{k}, 5).Int(); err != nil || n != 5 {
			return fmt.Errorf("%d, %v", n, err)
		}
		n, err := script.EvalSha(ctx, c, []string{k}, 5).Int()
		return want(n, err, 10)
	})
	check("blocking", func() error {
		k, got := key("b"), make(chan string, 2)
		for range 2 {
			go func() { got <- fmt.Sprint(c.BLPop(ctx, 10*time.Second, k).Result()) }()
		}
		time.Sleep(100 * time.Millisecond)
		if err := c.RPush(ctx, k, 1, 2).Err(); err != nil {
			return err
		}
		both := []string{<-got, <-got}
		slices.Sort(both)
		return want(fmt.Sprint(both), nil, fmt.Sprintf("[[%s 1] <nil> [%s 2] <nil>]", k, k))
	})
	check("pubsub", func() error {
		channel := key("c")
		p := c.PSubscribe(ctx, channel[:len(channel)-4]+"*")
		defer p.Close()
		if _, err := p.Receive(ctx); err != nil {
			return err
		}
		if err := c.Publish(ctx, channel, "hello").Err(); err != nil {
			return err
		}
		m, err := p.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		return want(m.Payload, nil, "hello")
	})
	check("streams", func() error {
		k := key("st")
		if err := c.XGroupCreateMkStream(ctx, k, "g", "0").Err(); err != nil {
			return err
		}
		id, err := c.XAdd(ctx, &goredis.XAddArgs{Stream: k, Values: []string{"n", "1"}}).Result()
		if err != nil {
			return err
		}
		read, err := c.XReadGroup(ctx, &goredis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{k, ">"}, Block: time.Second}).Result()
		if err != nil || len(read) != 1 || read[0].Messages[0].ID != id {
			return fmt.Errorf("%v, %v", read, err)
		}
		n, err := c.XAck(ctx, k, "g", id).Result()
		return want(n, err, 1)
	})
	check("scan", func() error {
		prefix, seen := key("scan"), map[string]bool{}
		for i := range 200 {
			if err := c.Set(ctx, fmt.Sprint(prefix, ":", i), "x", 0).Err(); err != nil {
				return err
			}
		}
		var mu sync.Mutex
		all := func(ctx context.Context, c *goredis.Client) error {
			scan := c.Scan(ctx, 0, prefix+"*", 50).Iterator()
			for scan.Next(ctx) {
				mu.Lock()
				seen[scan.Val()] = true
				mu.Unlock()
			}
			return scan.Err()
		}
		var err error
		switch c := c.(type) {
		case *goredis.Client:
			err = all(ctx, c)
		case *goredis.ClusterClient:
			err = c.ForEachMaster(ctx, all)
		}
		return want(len(seen), err, 200)
	})
}
