package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	for _, r := range slices.Concat(recipes(c), t.single(ctx, c, report)) {
		all.Go(func() { r.check(ctx, report) })
	}
	all.Wait()
	if !t.onMajority() {
		report("SET, GET and DEL", t.plainCommands(ctx, c))
	}
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

// attempt acquires a lock for its lease.
func attempt(c *redis.Client, lease time.Duration) func(ctx context.Context, key, token string) error {
	return func(ctx context.Context, key, token string) error {
		return taken(c.SetNX(ctx, key, token, lease).Result())
	}
}

func del(c *redis.Client) func(ctx context.Context, key, token string) error {
	return func(ctx context.Context, key, _ string) error { return taken(c.Del(ctx, key).Val() == 1, nil) }
}

// recipes need SET with NX and scripts.
func recipes(c *redis.Client) []recipe {
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
	byScript := func(name string, call func(string) func(context.Context, []string, ...any) *redis.Cmd) recipe {
		renew, release := script(compareAndExpire, call), script(compareAndDelete, call)
		return recipe{
			"SET NX PX and scripts by " + name, attempt(c, lease),
			func(ctx context.Context, key, token string) error {
				return renew(ctx, key, token, lease.Milliseconds())
			},
			func(ctx context.Context, key, token string) error { return release(ctx, key, token) },
		}
	}
	return []recipe{
		{"SET NX EX and DEL", attempt(c, 10*time.Second), nil, del(c)},
		{"SET NX PX and DEL", attempt(c, 10_500*time.Millisecond), nil, del(c)},
		byScript("EVAL", eval), byScript("EVALSHA", evalSHA),
	}
}

// single are the recipes that need one node, as far as it has their commands. A majority of
// nodes refuses them.
func (t target) single(ctx context.Context, c *redis.Client, report func(string, error)) []recipe {
	setNX := func(ctx context.Context, key, token string) error {
		return taken(c.Do(ctx, "SETNX", key, token).Bool())
	}
	if t.onMajority() {
		err := setNX(ctx, key("hand"), "token")
		if err == nil || !strings.Contains(err.Error(), "is a lock on 5 nodes") {
			report("SETNX is refused", fmt.Errorf("got %v", err))
		}
		return nil
	}
	all := []recipe{{"SETNX and DEL", setNX, nil, del(c)}}
	for _, compare := range []struct {
		command string
		args    func(key, token string) []any
	}{
		{"DELIFEQ", func(key, token string) []any { return []any{"DELIFEQ", key, token} }},     // Valkey 9
		{"DELEX", func(key, token string) []any { return []any{"DELEX", key, "IFEQ", token} }}, // Redis 8.4
	} {
		if err := c.Do(ctx, compare.args(key("none"), "x")...).Err(); err == nil {
			all = append(all, comparing(c, "SET IFEQ and "+compare.command, compare.args))
		} else if !strings.HasPrefix(err.Error(), "ERR unknown command") {
			report(compare.command, err)
		}
	}
	return all
}

// comparing is a recipe of commands that compare the token themselves.
func comparing(c *redis.Client, name string, release func(key, token string) []any) recipe {
	return recipe{
		name, attempt(c, lease),
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
