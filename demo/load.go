package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	hotKey = "product:42"
	bigKey = "report:today"
	// commandsASecond bounds the load of all callers together.
	commandsASecond = 400
	pause           = 20 * time.Millisecond // between two pipelines of a caller
)

// callers are the clients of the load, by the names that they give themselves.
var callers = []string{"shop", "search", "checkout", "reports"}

// putLoad sends commands through the keyway on addr until ctx ends.
func putLoad(ctx context.Context, addr string) {
	var all sync.WaitGroup
	for i, name := range callers {
		all.Go(func() {
			c := redis.NewClient(&redis.Options{Addr: addr, ClientName: name, PoolSize: 1})
			defer c.Close()
			l := caller{c: c, index: i, random: rand.New(rand.NewPCG(uint64(i), 1))}
			l.run(ctx)
		})
	}
	all.Wait()
}

// caller is one client of the load.
type caller struct {
	c      *redis.Client
	index  int
	random *rand.Rand
	turn   int
}

// run sends a pipeline after each pause. Errors are what there is to see: they need no handling.
func (l *caller) run(ctx context.Context) {
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	perPipeline := commandsASecond * int(pause/time.Millisecond) / 1000 / len(callers)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		pipe := l.c.Pipeline()
		for range perPipeline {
			l.add(ctx, pipe)
		}
		_, _ = pipe.Exec(ctx)
	}
}

// add adds one command.
func (l *caller) add(ctx context.Context, pipe redis.Pipeliner) {
	l.turn++
	user := fmt.Sprintf("user:%d", 1+l.random.IntN(2000))
	switch {
	case l.turn%5 == 0:
		if l.index == 0 && l.turn%50 == 0 {
			pipe.Set(ctx, hotKey, l.turn, 0)
		} else {
			pipe.Get(ctx, hotKey)
		}
	case l.index == 3 && l.turn%100 == 1: // once in 1 s
		if l.turn%1000 == 1 {
			pipe.Set(ctx, bigKey, strings.Repeat("line of a report\n", 8<<10), 0)
		}
		pipe.Get(ctx, bigKey)
	case l.turn%7 == 0:
		pipe.HIncrBy(ctx, "{"+user+"}:cart", "items", 1)
	case l.turn%3 == 0:
		pipe.Set(ctx, user, l.turn, 0)
	default:
		pipe.Get(ctx, user)
	}
}
