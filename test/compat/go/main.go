package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/hibiken/asynq"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

var (
	addr, layout string
	user         string // the owner of all keys; "" for anybody
	failed       bool
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ca := os.Getenv("COMPAT_CA")
	user = os.Getenv("COMPAT_USER")
	switch guarded := ca != "" || user != ""; {
	case guarded && len(os.Args) == 3:
		layout, addr = os.Args[1], os.Args[2]
		withGuard(ctx, ca)
	case len(os.Args) == 5:
		layout, addr = os.Args[1], os.Args[2]
		if os.Getenv("COMPAT_ONLY") == "" {
			withAll(ctx)
		}
		withAsynq(ctx)
		withCaches(ctx)
	default:
		fmt.Fprintln(os.Stderr, "usage: compat LAYOUT ADDR CLUSTER-OF-ONE CLUSTER-OF-SEVERAL")
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

// withAll runs all libraries that are not only a queue or a cache.
func withAll(ctx context.Context) {
	withRueidis(ctx, "rueidis/RESP2", rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, AlwaysRESP2: true, DisableCache: true})
	withRueidis(ctx, "rueidis/RESP3", rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true})
	withRueidis(ctx, "rueidis-cluster-1/RESP3", rueidis.ClientOption{InitAddress: os.Args[3:4]})
	withRueidis(ctx, "rueidis-cluster-3/RESP3", rueidis.ClientOption{InitAddress: os.Args[4:5]})
	withGoRedis(ctx, "go-redis/RESP2", goredis.NewClient(&goredis.Options{Addr: addr, Protocol: 2, ClientName: "app"}))
	withGoRedis(ctx, "go-redis/RESP3", goredis.NewClient(&goredis.Options{Addr: addr, Protocol: 3, ClientName: "app"}))
	withGoRedis(ctx, "go-redis-cluster-1/RESP3", goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: os.Args[3:4], ClientName: "app"}))
	withGoRedis(ctx, "go-redis-cluster-3/RESP3", goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: os.Args[4:5], ClientName: "app"}))
	withRedisCLI("redis-cli", addr)
	withRedisCLI("redis-cli-cluster-1", os.Args[3], "-c")
	withRedisCLI("redis-cli-cluster-3", os.Args[4], "-c")
	withRedigo()
}

// version is that of a module, as it was built in.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return "unknown"
}

func check(library, module, name string, run func() error) {
	report(library, version(module), name, run())
}

func report(library, version, name string, err error) {
	if err == nil {
		fmt.Println("ok", library, version, layout, name)
		return
	}
	failed = true
	fmt.Println("FAIL", library, version, layout, name, strings.ReplaceAll(err.Error(), "\n", " "))
}

func key(name string) string {
	k := fmt.Sprintf("%s:%016x", name, rand.Uint64())
	if user != "" {
		k = user + ":" + k
	}
	return k
}

func want[T comparable](got T, err error, want T) error {
	if err == nil && got != want {
		err = fmt.Errorf("got %v, want %v", got, want)
	}
	return err
}

func withRueidis(ctx context.Context, library string, o rueidis.ClientOption) {
	const module = "github.com/redis/rueidis"
	check := func(name string, run func() error) { check(library, module, name, run) }
	o.ClientName = "app"
	c, err := rueidis.NewClient(o)
	check("handshake", func() error {
		if err != nil {
			return err
		}
		name, err := c.Do(ctx, c.B().ClientGetname().Build()).ToString()
		return want(name, err, "app")
	})
	if err != nil {
		return
	}
	defer c.Close()
	check("pipeline", func() error {
		var cmds rueidis.Commands
		for i := range 200 {
			cmds = append(cmds, c.B().Set().Key(fmt.Sprint("rueidis:", i)).Value(fmt.Sprint(i)).Build(), c.B().Get().Key(fmt.Sprint("rueidis:", i)).Build())
		}
		for i, r := range c.DoMulti(ctx, cmds...) {
			if i%2 == 0 {
				continue
			}
			v, err := r.ToString()
			if err := want(v, err, fmt.Sprint(i/2)); err != nil {
				return err
			}
		}
		return nil
	})
	check("client-side-cache", func() error {
		if o.DisableCache {
			return nil
		}
		k := key("cached")
		for round := range 5 {
			v := fmt.Sprint(round)
			if err := c.Do(ctx, c.B().Set().Key(k).Value(v).Build()).Error(); err != nil {
				return err
			}
			deadline := time.Now().Add(5 * time.Second)
			for {
				got, err := c.DoCache(ctx, c.B().Get().Key(k).Cache(), time.Minute).ToString()
				if err != nil {
					return err
				}
				if got == v {
					break
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("the old value %s stays", got)
				}
				time.Sleep(time.Millisecond)
			}
			if r := c.DoCache(ctx, c.B().Get().Key(k).Cache(), time.Minute); !r.IsCacheHit() {
				return errors.New("it is not cached")
			}
		}
		return nil
	})
	check("transaction", func() error {
		k := key("{t}")
		err := retries(20, func() (bool, error) {
			var kept bool
			err := c.Dedicated(func(d rueidis.DedicatedClient) error {
				if err := d.Do(ctx, d.B().Watch().Key(k).Build()).Error(); err != nil {
					return err
				}
				n, err := d.Do(ctx, d.B().Get().Key(k).Build()).AsInt64()
				if err != nil && !rueidis.IsRedisNil(err) {
					return err
				}
				replies := d.DoMulti(ctx, d.B().Multi().Build(), d.B().Set().Key(k).Value(fmt.Sprint(n+1)).Build(), d.B().Exec().Build())
				err = replies[2].Error()
				if kept = err == nil; rueidis.IsRedisNil(err) {
					return nil
				}
				return err
			})
			return kept, err
		})
		if err != nil {
			return err
		}
		n, err := c.Do(ctx, c.B().Get().Key(k).Build()).AsInt64()
		return want(n, err, 60)
	})
	check("scripts", func() error {
		script := rueidis.NewLuaScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
		n, err := script.Exec(ctx, c, []string{key("s")}, []string{"5"}).AsInt64()
		return want(n, err, 5)
	})
	check("pubsub", func() error {
		channel, got := key("c"), make(chan string, 1)
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.Receive(ctx, c.B().Ssubscribe().Channel(channel).Build(), func(m rueidis.PubSubMessage) { got <- m.Message; cancel() })
		}()
		defer wg.Wait()
		for ctx.Err() == nil {
			c.Do(context.Background(), c.B().Spublish().Channel(channel).Message("hello").Build())
			select {
			case m := <-got:
				return want(m, nil, "hello")
			case <-time.After(20 * time.Millisecond):
			}
		}
		return errors.New("no message came")
	})
	check("pubsub by pattern", func() error {
		channel, got := key("c"), make(chan string, 1)
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			c.Receive(ctx, c.B().Psubscribe().Pattern(channel[:8]+"*").Build(), func(m rueidis.PubSubMessage) {
				select {
				case got <- m.Message:
				default:
				}
			})
		})
		defer wg.Wait()
		defer cancel()
		for ctx.Err() == nil {
			c.Do(context.Background(), c.B().Publish().Channel(channel).Message("hello").Build())
			select {
			case m := <-got:
				return want(m, nil, "hello")
			case <-time.After(20 * time.Millisecond):
			}
		}
		return errors.New("no message came")
	})
	check("blocking", func() error {
		k, got := key("b"), make(chan string, 2)
		for range 2 {
			go func() {
				popped, err := c.Do(ctx, c.B().Blpop().Key(k).Timeout(10).Build()).AsStrSlice()
				got <- fmt.Sprint(popped, err)
			}()
		}
		time.Sleep(100 * time.Millisecond)
		if err := c.Do(ctx, c.B().Rpush().Key(k).Element("1", "2").Build()).Error(); err != nil {
			return err
		}
		both := []string{<-got, <-got}
		slices.Sort(both)
		return want(fmt.Sprint(both), nil, fmt.Sprintf("[[%s 1] <nil> [%s 2] <nil>]", k, k))
	})
	check("streams", func() error {
		k := key("st")
		if err := c.Do(ctx, c.B().XgroupCreate().Key(k).Group("g").Id("0").Mkstream().Build()).Error(); err != nil {
			return err
		}
		id, err := c.Do(ctx, c.B().Xadd().Key(k).Id("*").FieldValue().FieldValue("n", "1").Build()).ToString()
		if err != nil {
			return err
		}
		entries, err := c.Do(ctx, c.B().Xreadgroup().Group("g", "c").Block(1000).Streams().Key(k).Id(">").Build()).AsXRead()
		if err != nil || len(entries[k]) != 1 || entries[k][0].ID != id {
			return fmt.Errorf("%v, %v", entries, err)
		}
		n, err := c.Do(ctx, c.B().Xack().Key(k).Group("g").Id(id).Build()).AsInt64()
		return want(n, err, 1)
	})
	check("scan", func() error {
		prefix, seen := key("scan"), map[string]bool{}
		for i := range 200 {
			if err := c.Do(ctx, c.B().Set().Key(fmt.Sprint(prefix, ":", i)).Value("x").Build()).Error(); err != nil {
				return err
			}
		}
		for _, node := range c.Nodes() { // one of several that are the same
			for cursor := uint64(0); ; {
				page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(prefix+"*").Count(50).Build()).AsScanEntry()
				if err != nil {
					return err
				}
				for _, k := range page.Elements {
					seen[k] = true
				}
				if cursor = page.Cursor; cursor == 0 {
					break
				}
			}
		}
		return want(len(seen), nil, 200)
	})
}

// retries has three goroutines repeat an attempt until each has succeeded so many
// times.
func retries(times int, attempt func() (bool, error)) error {
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			for done := 0; done < times; {
				kept, err := attempt()
				if err != nil {
					errs <- err
					return
				}
				if kept {
					done++
				}
			}
			errs <- nil
		}()
	}
	return errors.Join(<-errs, <-errs, <-errs)
}

func withRedigo() {
	const module = "github.com/gomodule/redigo"
	check := func(name string, run func() error) { check("redigo", module, name, run) }
	pool := &redis.Pool{Dial: func() (redis.Conn, error) { return redis.Dial("tcp", addr, redis.DialReadTimeout(10*time.Second)) }}
	defer pool.Close()
	c := pool.Get()
	defer c.Close()
	check("pipeline", func() error {
		for i := range 200 {
			c.Send("SET", fmt.Sprint("redigo:", i), i)
			c.Send("GET", fmt.Sprint("redigo:", i))
		}
		if err := c.Flush(); err != nil {
			return err
		}
		for i := range 200 {
			c.Receive()
			n, err := redis.Int(c.Receive())
			if err := want(n, err, i); err != nil {
				return err
			}
		}
		return nil
	})
	check("transaction", func() error {
		k := key("t")
		err := retries(20, func() (bool, error) {
			c := pool.Get()
			defer c.Close()
			c.Do("WATCH", k)
			n, err := redis.Int(c.Do("GET", k))
			if err != nil && err != redis.ErrNil {
				return false, err
			}
			c.Send("MULTI")
			c.Send("SET", k, n+1)
			reply, err := c.Do("EXEC")
			return reply != nil, err
		})
		if err != nil {
			return err
		}
		n, err := redis.Int(c.Do("GET", k))
		return want(n, err, 60)
	})
	check("blocking", func() error {
		k, got := key("b"), make(chan string, 2)
		for range 2 {
			go func() {
				c := pool.Get()
				defer c.Close()
				popped, err := redis.Strings(c.Do("BLPOP", k, 10))
				got <- fmt.Sprint(popped, err)
			}()
		}
		time.Sleep(100 * time.Millisecond)
		c.Do("RPUSH", k, "1", "2")
		both := []string{<-got, <-got}
		slices.Sort(both)
		return want(fmt.Sprint(both), nil, fmt.Sprintf("[[%s 1] <nil> [%s 2] <nil>]", k, k))
	})
	check("streams", func() error {
		k := key("st")
		c.Do("XGROUP", "CREATE", k, "g", "0", "MKSTREAM")
		id, err := redis.String(c.Do("XADD", k, "*", "n", "1"))
		if err != nil {
			return err
		}
		reply, err := redis.Values(c.Do("XREADGROUP", "GROUP", "g", "c", "BLOCK", 1000, "STREAMS", k, ">"))
		if err != nil || !strings.Contains(fmt.Sprintf("%s", reply), id) {
			return fmt.Errorf("%s, %v", reply, err)
		}
		n, err := redis.Int(c.Do("XACK", k, "g", id))
		return want(n, err, 1)
	})
	check("scan", func() error {
		prefix, seen := key("scan"), map[string]bool{}
		for i := range 200 {
			c.Send("SET", fmt.Sprint(prefix, ":", i), "x")
		}
		c.Do("")
		for cursor := "0"; ; {
			page, err := redis.Values(c.Do("SCAN", cursor, "MATCH", prefix+"*", "COUNT", 50))
			if err != nil {
				return err
			}
			cursor, _ = redis.String(page[0], nil)
			keys, _ := redis.Strings(page[1], nil)
			for _, k := range keys {
				seen[k] = true
			}
			if cursor == "0" {
				return want(len(seen), nil, 200)
			}
		}
	})
	check("scripts", func() error {
		n, err := redis.Int(redis.NewScript(1, "return redis.call('INCRBY', KEYS[1], ARGV[1])").Do(c, key("s"), 5))
		return want(n, err, 5)
	})
	check("pubsub", func() error {
		p, channel := redis.PubSubConn{Conn: pool.Get()}, key("c")
		defer p.Close()
		if err := p.PSubscribe(channel[:8] + "*"); err != nil {
			return err
		}
		p.Receive()
		c.Do("PUBLISH", channel, "hello")
		m, ok := p.ReceiveWithTimeout(5 * time.Second).(redis.Message)
		if !ok {
			return errors.New("no message came")
		}
		return want(string(m.Data), nil, "hello")
	})
}

func withAsynq(ctx context.Context) {
	check("asynq", "github.com/hibiken/asynq", "1,000 jobs, none lost or doubled", func() error {
		opt, queue := asynq.RedisClientOpt{Addr: addr}, key("queue")
		client := asynq.NewClient(opt)
		defer client.Close()
		const jobs = 1000
		for i := range jobs {
			if _, err := client.Enqueue(asynq.NewTask("job", fmt.Append(nil, i)), asynq.Queue(queue)); err != nil {
				return err
			}
		}
		var mu sync.Mutex
		done, all := map[string]int{}, make(chan struct{})
		srv := asynq.NewServer(opt, asynq.Config{Concurrency: 20, Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel})
		err := srv.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
			mu.Lock()
			defer mu.Unlock()
			if done[string(task.Payload())]++; len(done) == jobs && done[string(task.Payload())] == 1 {
				close(all)
			}
			return nil
		}))
		if err != nil {
			return err
		}
		defer srv.Shutdown()
		select {
		case <-all:
		case <-ctx.Done():
			mu.Lock()
			defer mu.Unlock()
			return fmt.Errorf("%d of %d jobs were done", len(done), jobs)
		}
		time.Sleep(200 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		for job, n := range done {
			if n != 1 {
				return fmt.Errorf("job %s was done %d times", job, n)
			}
		}
		return nil
	})
}
