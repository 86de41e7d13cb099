package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	compareAndDelete = `if redis.call("get", KEYS[1]) == ARGV[1] then
	return redis.call("del", KEYS[1])
else
	return 0
end`
	compareAndExpire = `if redis.call("get", KEYS[1]) == ARGV[1] then
	return redis.call("pexpire", KEYS[1], ARGV[2])
else
	return 0
end`
)

// errTaken says that another holds the lock.
var errTaken = errors.New("another holds the lock")

// taken is the error of an attempt whose outcome is ok and err.
func taken(ok bool, err error) error {
	if err == nil && !ok {
		return errTaken
	}
	return err
}

// recipe is a way of locking that applications write themselves.
type recipe struct {
	name    string
	acquire func(ctx context.Context, key, token string) error // once
	renew   func(ctx context.Context, key, token string) error
	release func(ctx context.Context, key, token string) error
}

// byHand locks by the commands that applications send themselves.
func (t target) byHand(ctx context.Context) {
	c := t.client()
	defer c.Close()
	report := func(check string, err error) { t.report("by-hand", "github.com/redis/go-redis/v9", check, err) }
	var all sync.WaitGroup
	for _, r := range recipes(ctx, c) {
		all.Go(func() { r.check(ctx, report) })
	}
	all.Wait()
	report("SET, GET and DEL", t.plainCommands(ctx, c))
	report("redis-cli --eval", t.unlockWithRedisCLI(ctx, c))
}

// plainCommands marks a lock as taken by SET. Two clients that both GET nothing both get the
// lock, so this only checks what one client reads.
func (t target) plainCommands(ctx context.Context, c *redis.Client) error {
	name := key("plain")
	if err := c.Get(ctx, name).Err(); !errors.Is(err, redis.Nil) {
		return fmt.Errorf("before: %w", err)
	}
	if err := c.Set(ctx, name, "mine", 0).Err(); err != nil {
		return err
	}
	if got, err := c.Get(ctx, name).Result(); err != nil || got != "mine" {
		return fmt.Errorf("held by %q, %w", got, err)
	}
	if n, err := c.Del(ctx, name).Result(); err != nil || n != 1 {
		return fmt.Errorf("DEL: %d, %w", n, err)
	}
	return taken(c.SetNX(ctx, name, "another's", lease).Result())
}

func (r recipe) check(ctx context.Context, report func(string, error)) {
	name := key("hand")
	report(r.name+": eight holders", contended(ctx, func(ctx context.Context, inside func()) error {
		token := key("token")
		for err := r.acquire(ctx, name, token); err != nil; err = r.acquire(ctx, name, token) {
			if !errors.Is(err, errTaken) {
				return err
			}
			time.Sleep(5 * time.Millisecond) // the client's own pause
		}
		inside()
		return r.release(ctx, name, token)
	}))
	if r.renew == nil {
		return
	}
	report(r.name+": held by renewal", errors.Join(r.acquire(ctx, name, "mine"), staysHeld(
		func() error { return r.renew(ctx, name, "mine") },
		func() error { return r.acquire(ctx, name, "another's") },
	)))
	err := r.release(ctx, name, "another's")
	if !errors.Is(err, errTaken) {
		report(r.name+": another cannot release it", fmt.Errorf("got %v, want %w", err, errTaken))
		return
	}
	report(r.name+": another gets it after the release",
		errors.Join(r.release(ctx, name, "mine"), r.acquire(ctx, name, "another's")))
}

func recipes(ctx context.Context, c *redis.Client) []recipe {
	setNX := func(ctx context.Context, key, token string) error {
		return taken(c.SetNX(ctx, key, token, lease).Result())
	}
	script := func(text string, call func(string) func(context.Context, []string, ...any) *redis.Cmd,
	) func(context.Context, string, ...any) error {
		return func(ctx context.Context, key string, args ...any) error {
			return taken(call(text)(ctx, []string{key}, args...).Bool())
		}
	}
	eval := func(text string) func(context.Context, []string, ...any) *redis.Cmd {
		return func(ctx context.Context, keys []string, args ...any) *redis.Cmd {
			return c.Eval(ctx, text, keys, args...)
		}
	}
	evalSHA := func(text string) func(context.Context, []string, ...any) *redis.Cmd {
		s := redis.NewScript(text)
		return func(ctx context.Context, keys []string, args ...any) *redis.Cmd { return s.Run(ctx, c, keys, args...) }
	}
	del := func(ctx context.Context, key, _ string) error { return taken(c.Del(ctx, key).Val() == 1, nil) }
	byScript := func(name string, call func(string) func(context.Context, []string, ...any) *redis.Cmd) recipe {
		renew, release := script(compareAndExpire, call), script(compareAndDelete, call)
		return recipe{
			"SET NX PX and scripts by " + name, setNX,
			func(ctx context.Context, key, token string) error {
				return renew(ctx, key, token, lease.Milliseconds())
			},
			func(ctx context.Context, key, token string) error { return release(ctx, key, token) },
		}
	}
	all := []recipe{
		{"SETNX and DEL", func(ctx context.Context, key, token string) error {
			return taken(c.Do(ctx, "SETNX", key, token).Bool())
		}, nil, del},
		{"SET NX EX and DEL", func(ctx context.Context, key, token string) error {
			return taken(c.SetNX(ctx, key, token, 10*time.Second).Result())
		}, nil, del},
		{"SET NX PX and DEL", func(ctx context.Context, key, token string) error {
			return taken(c.SetNX(ctx, key, token, 10_500*time.Millisecond).Result())
		}, nil, del},
		byScript("EVAL", eval), byScript("EVALSHA", evalSHA),
	}
	if err := c.Do(ctx, "DELIFEQ", key("none"), "x").Err(); err == nil { // Valkey
		all = append(all, comparing(c, "SET IFEQ and DELIFEQ", setNX, func(key, token string) []any {
			return []any{"DELIFEQ", key, token}
		}))
	}
	if err := c.Do(ctx, "DELEX", key("none"), "IFEQ", "x").Err(); err == nil { // Redis 8.4
		all = append(all, comparing(c, "SET IFEQ and DELEX", setNX, func(key, token string) []any {
			return []any{"DELEX", key, "IFEQ", token}
		}))
	}
	return all
}

// comparing is a recipe of commands that compare the token themselves.
func comparing(
	c *redis.Client, name string, acquire func(ctx context.Context, key, token string) error,
	release func(key, token string) []any,
) recipe {
	return recipe{
		name, acquire,
		func(ctx context.Context, key, token string) error {
			err := c.Do(ctx, "SET", key, token, "IFEQ", token, "PX", lease.Milliseconds()).Err()
			return taken(!errors.Is(err, redis.Nil), ignoreNil(err))
		},
		func(ctx context.Context, key, token string) error {
			return taken(c.Do(ctx, release(key, token)...).Bool())
		},
	}
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// unlockWithRedisCLI releases a lock as runbooks do.
func (t target) unlockWithRedisCLI(ctx context.Context, c *redis.Client) error {
	dir, err := os.MkdirTemp("", "locks")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "unlock.lua")
	if err := os.WriteFile(file, []byte(compareAndDelete), 0o600); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(t.addr)
	name := key("cli")
	if err := c.SetNX(ctx, name, "token", time.Minute).Err(); err != nil {
		return err
	}
	for _, call := range []struct{ token, want string }{{"another's", "0"}, {"token", "1"}, {"token", "0"}} {
		out, err := exec.Command("redis-cli", "-h", host, "-p", port, "--eval", file, name, ",", call.token).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != call.want {
			return fmt.Errorf("release with %s: got %q, %v, want %s", call.token, got, err, call.want)
		}
	}
	return nil
}
