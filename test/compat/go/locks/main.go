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
	"sync/atomic"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

const (
	holders = 8 // clients that want the same lock
	rounds  = 5 // times that each of them gets it
	lease   = time.Second
	kept    = 2500 * time.Millisecond // how long a lock outlives its lease

	wait       = 3 * time.Second // for a lock, by rueidislock
	mostMissed = 4               // attempts that take longer
)

var failed atomic.Bool

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: locks LAYOUT,ADDR...")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for _, arg := range os.Args[1:] {
		layout, addr, _ := strings.Cut(arg, ",")
		t := target{layout, addr}
		libraries := []func(context.Context){t.byHand, t.redsync, t.redislock, t.rueidislock}
		if t.onMajority() { // which sends no messages of client tracking
			libraries = libraries[:3]
		}
		for _, library := range libraries {
			all.Go(func() { library(ctx) })
		}
	}
	all.Wait()
	if failed.Load() {
		os.Exit(1)
	}
}

// target is where locks are held.
type target struct{ layout, addr string }

// onMajority reports whether the target's locks are on a majority of nodes.
func (t target) onMajority() bool { return t.layout == "quorum" }

// report prints the outcome of a check. module is the library's, for its version.
func (t target) report(library, module, check string, err error) {
	version := "unknown"
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == module {
			version = m.Version
		}
	}
	if err != nil {
		failed.Store(true)
		fmt.Println("FAIL", library, version, t.layout, check, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Println("ok", library, version, t.layout, check)
}

func (t target) client() *redis.Client { return redis.NewClient(&redis.Options{Addr: t.addr}) }

func key(name string) string { return fmt.Sprintf("%s:%x", name, rand.Uint64()) }

// hold acquires a lock, waiting for it, calls inside, and releases the lock.
type hold func(ctx context.Context, inside func()) error

// contended requires that many clients get one lock in turn, and that no two have it at a
// time. Whether two have it is counted in this process, not in Redis.
func contended(ctx context.Context, each hold) error {
	var inside, overlaps, acquired atomic.Int64
	errs := make([]error, holders)
	var all sync.WaitGroup
	for i := range holders {
		all.Go(func() {
			for range rounds {
				errs[i] = errors.Join(errs[i], each(ctx, func() {
					if inside.Add(1) != 1 {
						overlaps.Add(1)
					}
					acquired.Add(1)
					time.Sleep(time.Millisecond) // the critical section
					inside.Add(-1)
				}))
			}
		})
	}
	all.Wait()
	if overlaps.Load() != 0 {
		errs = append(errs, fmt.Errorf("two held the lock at a time, %d times", overlaps.Load()))
	}
	if acquired.Load() != holders*rounds {
		errs = append(errs, fmt.Errorf("it was acquired %d times, not %d", acquired.Load(), holders*rounds))
	}
	return errors.Join(errs...)
}

// staysHeld requires that nobody else gets a lock that its holder renews, for longer than
// its lease.
func staysHeld(renew, steal func() error) error {
	for end := time.Now().Add(kept); time.Now().Before(end); time.Sleep(lease / 5) {
		if err := renew(); err != nil {
			return fmt.Errorf("renew: %w", err)
		}
		if steal() == nil {
			return errors.New("another acquired the lock while it was held")
		}
	}
	return nil
}

func (t target) redsync(ctx context.Context) {
	c := t.client()
	defer c.Close()
	locks := redsync.New(redsyncpool.NewPool(c))
	report := func(check string, err error) { t.report("redsync", "github.com/go-redsync/redsync/v4", check, err) }
	name := key("redsync")
	report("eight holders", contended(ctx, func(ctx context.Context, inside func()) error {
		m := locks.NewMutex(name, redsync.WithTries(10_000), redsync.WithRetryDelay(5*time.Millisecond))
		if err := m.LockContext(ctx); err != nil {
			return err
		}
		inside()
		_, err := m.UnlockContext(ctx)
		return err
	}))
	held := locks.NewMutex(name, redsync.WithExpiry(lease))
	report("held by renewal", errors.Join(held.LockContext(ctx), staysHeld(
		func() error { _, err := held.ExtendContext(ctx); return err },
		func() error { return locks.NewMutex(name).TryLockContext(ctx) },
	)))
	_, err := held.UnlockContext(ctx)
	report("another gets it after the release", errors.Join(err, locks.NewMutex(name).TryLockContext(ctx)))
}

func (t target) redislock(ctx context.Context) {
	c := t.client()
	defer c.Close()
	report := func(check string, err error) { t.report("redislock", "github.com/bsm/redislock", check, err) }
	name := key("redislock")
	waits := &redislock.Options{RetryStrategy: redislock.LinearBackoff(5 * time.Millisecond)}
	report("eight holders", contended(ctx, func(ctx context.Context, inside func()) error {
		l, err := redislock.Obtain(ctx, c, name, 10*time.Second, waits)
		if err != nil {
			return err
		}
		inside()
		return l.Release(ctx)
	}))
	held, err := redislock.Obtain(ctx, c, name, lease, nil)
	if err != nil {
		report("held by renewal", err)
		return
	}
	steal := func() error { _, err := redislock.Obtain(ctx, c, name, lease, nil); return err }
	report("held by renewal", staysHeld(func() error {
		if left, err := held.TTL(ctx); err != nil || left <= 0 {
			return fmt.Errorf("%s are left, %w", left, err)
		}
		return held.Refresh(ctx, lease, nil)
	}, steal))
	report("another gets it after the release", errors.Join(held.Release(ctx), steal()))
}

// rueidislock learns of releases by client tracking. A lock has one key, or three of which its
// holder has two.
func (t target) rueidislock(ctx context.Context) {
	var both sync.WaitGroup
	for majority, library := range map[int32]string{1: "rueidislock", 2: "rueidislock-2-of-3-keys"} {
		report := func(check string, err error) { t.report(library, "github.com/redis/rueidis", check, err) }
		both.Go(func() {
			if err := t.withLockers(ctx, majority, report); err != nil {
				report("connect", err)
			}
		})
	}
	both.Wait()
}

// patient waits for a lock. A locker can miss that the lock is free, with one Redis too, and would wait without
// end. So each attempt ends after a while; missed counts those.
func patient(
	ctx context.Context, l rueidislock.Locker, name string, missed *atomic.Int64,
) (held context.Context, release func(), err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, wait)
		held, release, err := l.WithContext(attempt, name)
		if err == nil {
			return held, func() { release(); cancel() }, nil
		}
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || missed.Add(1) > mostMissed {
			return nil, nil, err
		}
	}
}

func (t target) withLockers(ctx context.Context, majority int32, report func(string, error)) error {
	var lockers []rueidislock.Locker
	for range 3 {
		l, err := rueidislock.NewLocker(rueidislock.LockerOption{
			ClientOption: rueidis.ClientOption{InitAddress: []string{t.addr}, ForceSingleClient: true},
			KeyMajority:  majority, KeyValidity: lease, NoLoopTracking: true,
			// Within the default of 20 ms a busy machine may not reply. The locker then waits for a
			// release that nobody will announce, with one Redis too.
			TryNextAfter: 5 * time.Second,
		})
		if err != nil {
			return err
		}
		defer l.Close()
		lockers = append(lockers, l)
	}
	name := key("rueidislock")
	var missed atomic.Int64
	report("eight holders", contended(ctx, func(ctx context.Context, inside func()) error {
		held, release, err := patient(ctx, lockers[rand.N(len(lockers))], name, &missed)
		if err != nil {
			return err
		}
		inside()
		err = held.Err() // it is cancelled when the lock is lost
		release()
		return err
	}))
	held, release, err := lockers[0].WithContext(ctx, name)
	if err != nil {
		return err
	}
	steal := func() error {
		_, release, err := lockers[1].TryWithContext(ctx, name)
		if err == nil {
			release()
		}
		return err
	}
	report("held by renewal", staysHeld(held.Err, steal))
	waited := make(chan error, 1)
	go func() {
		_, release, err := patient(ctx, lockers[1], name, &missed)
		if err == nil {
			release()
		}
		waited <- err
	}()
	release()
	report("another gets it after the release", <-waited)
	return nil
}
