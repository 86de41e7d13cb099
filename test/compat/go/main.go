package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/hibiken/asynq"
	"github.com/redis/rueidis"
)

var (
	addr, layout string
	failed       bool
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: compat HOST PORT LAYOUT")
		os.Exit(2)
	}
	addr, layout = os.Args[1]+":"+os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	withRueidis(ctx)
	withRedigo()
	withAsynq(ctx)
	if failed {
		os.Exit(1)
	}
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
	err := run()
	if err == nil {
		fmt.Println("ok", library, version(module), layout, name)
		return
	}
	failed = true
	fmt.Println("FAIL", library, version(module), layout, name, strings.ReplaceAll(err.Error(), "\n", " "))
}

func key(name string) string { return fmt.Sprintf("%s:%x", name, rand.Uint64()) }

func want[T comparable](got T, err error, want T) error {
	if err == nil && got != want {
		err = fmt.Errorf("got %v, want %v", got, want)
	}
	return err
}

func withRueidis(ctx context.Context) {
	const module = "github.com/redis/rueidis"
	check := func(name string, run func() error) { check("rueidis", module, name, run) }
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ClientName: "app"})
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
		return c.Dedicated(func(d rueidis.DedicatedClient) error {
			k := key("{t}")
			if err := d.Do(ctx, d.B().Watch().Key(k).Build()).Error(); err != nil {
				return err
			}
			replies := d.DoMulti(ctx, d.B().Multi().Build(), d.B().Incr().Key(k).Build(), d.B().Incr().Key(k).Build(), d.B().Exec().Build())
			values, err := replies[3].AsIntSlice()
			if err != nil {
				return err
			}
			return want(fmt.Sprint(values), nil, "[1 2]")
		})
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
	check("blocking", func() error {
		k := key("b")
		go func() {
			time.Sleep(100 * time.Millisecond)
			c.Do(ctx, c.B().Rpush().Key(k).Element("x").Build())
		}()
		got, err := c.Do(ctx, c.B().Blpop().Key(k).Timeout(10).Build()).AsStrSlice()
		return want(fmt.Sprint(got), err, fmt.Sprintf("[%s x]", k))
	})
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
		c.Do("WATCH", k)
		c.Send("MULTI")
		c.Send("INCR", k)
		c.Send("INCR", k)
		values, err := redis.Ints(c.Do("EXEC"))
		return want(fmt.Sprint(values), err, "[1 2]")
	})
	check("scripts", func() error {
		n, err := redis.Int(redis.NewScript(1, "return redis.call('INCRBY', KEYS[1], ARGV[1])").Do(c, key("s"), 5))
		return want(n, err, 5)
	})
	check("pubsub", func() error {
		p, channel := redis.PubSubConn{Conn: pool.Get()}, key("c")
		defer p.Close()
		if err := p.Subscribe(channel); err != nil {
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
