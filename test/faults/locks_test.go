package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// lockLease goes together with the other timeouts as docs/locks.md says: it is longer than two
// request timeouts and a failover, and a third of it passes between two renewals.
const lockLease = 10 * time.Second

const (
	releaseLock = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end`
	renewLock   = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("pexpire", KEYS[1], ARGV[2]) ` +
		`else return 0 end`
)

// contested is a lock that clients want. It knows, without asking Redis, who holds it.
type contested struct {
	name     string
	affected bool // its node is the one with the fault

	mu       sync.Mutex
	holder   *tenure   // who has entered and has not left
	free     time.Time // when the last one left
	acquired int
	longest  time.Duration // nobody had entered
	overlaps int           // times that one entered during the lease of another
	lost     int           // times that a node no longer knew a holder, or none renewed in time
}

// tenure is one client's time in the critical section. until is when its lease may end at the
// earliest, by the client's clock: the client leaves before. The lock's mu guards it.
type tenure struct{ until time.Time }

func (l *contested) enter(until time.Time) *tenure {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.holder != nil && now.Before(l.holder.until) {
		l.overlaps++
	}
	l.acquired++
	l.longest = max(l.longest, now.Sub(l.free))
	l.holder = &tenure{until}
	return l.holder
}

// leave ends a tenure. The node is to be told afterwards.
func (l *contested) leave(t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == t {
		l.holder, l.free = nil, time.Now()
	}
}

// renewed prolongs a tenure, or records that the node no longer knows it.
func (l *contested) renewed(t *tenure, began time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok {
		t.until = began.Add(lockLease)
	} else if time.Now().Before(t.until) {
		l.lost++
	}
}

// hasEnded reports whether a lease that was to be renewed has ended, and counts that.
func (l *contested) hasEnded(t *tenure) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := time.Now().After(t.until)
	if ended {
		l.lost++
	}
	return ended
}

func (l *contested) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acquired
}

// lockers are the clients, and what they saw.
type lockers struct {
	client *redis.Client
	stop   chan struct{}
	all    sync.WaitGroup
	short  []*contested // held for some milliseconds, again and again
	kept   []*contested // held all the time by renewal, while another client tries to get them

	mu     sync.Mutex
	errors map[string]int // by what they say about the command
}

// newLockers has clients want locks, by keyways at these addresses in turn. A key beside each lock shows
// which node has it.
func newLockers(t *testing.T, addrs ...string) *lockers {
	var dialed atomic.Int64
	c := redis.NewClient(&redis.Options{MaxRetries: -1, DialTimeout: time.Second, DialerRetries: 1,
		ReadTimeout: 20 * time.Second, PoolSize: 100,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			addr := addrs[int(dialed.Add(1))%len(addrs)]
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
		}})
	l := &lockers{client: c, stop: make(chan struct{}), errors: map[string]int{}}
	for i := range 12 {
		lock := &contested{name: fmt.Sprintf("{lock:%d}", i), free: time.Now()}
		if err := c.Set(t.Context(), lock.name+":home", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			l.short = append(l.short, lock)
		} else {
			l.kept = append(l.kept, lock)
		}
	}
	return l
}

// run starts the clients, and returns when each lock was acquired.
func (l *lockers) run(t *testing.T) {
	for i, lock := range l.short {
		for client := range 4 {
			l.all.Go(func() { l.takeTurns(lock, i%2 == 0, fmt.Sprint(client, ":")) })
		}
	}
	for _, lock := range l.kept {
		l.all.Go(func() { l.keep(lock) })
	}
	redistest.Eventually(t, 20*time.Second, "every kept lock is held", func() bool {
		for _, lock := range l.kept {
			if lock.times() == 0 {
				return false
			}
		}
		return true
	})
	for _, lock := range l.kept {
		l.all.Go(func() { l.steal(lock) })
	}
	l.more(t)
}

// more waits until every short lock was acquired some more times.
func (l *lockers) more(t *testing.T) {
	t.Helper()
	for _, lock := range l.short {
		want := lock.times() + 20
		again := func() bool { return lock.times() >= want }
		redistest.Eventually(t, time.Minute, lock.name+" is acquired again", again)
	}
}

func (l *lockers) halt() {
	close(l.stop)
	l.all.Wait()
	l.client.Close()
}

// judge requires that locks were acquired and exclusive, that none was lost, and that no client has seen an
// error.
func (l *lockers) judge(t *testing.T) {
	t.Helper()
	acquired := 0
	for _, lock := range slices.Concat(l.short, l.kept) {
		acquired += lock.acquired
		if lock.overlaps > 0 || lock.lost > 0 {
			t.Errorf("%s: %d overlaps, lost %d times", lock.name, lock.overlaps, lock.lost)
		}
	}
	t.Logf("locks were acquired %d times; errors %v", acquired, l.errors)
	if acquired == 0 || len(l.errors) > 0 {
		t.Errorf("locks were acquired %d times, and clients saw %v", acquired, l.errors)
	}
}

// pause returns false if the test is over.
func (l *lockers) pause(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// acquire tries once, by SET or by EVALSHA. It counts errors. A reply that comes when the lease may have ended
// acquires nothing, as in the libraries of locks.
func (l *lockers) acquire(name, token string, byScript bool) bool {
	var err error
	began := time.Now()
	if ok := false; byScript {
		script := redis.NewScript("return redis.call('set', KEYS[1], ARGV[1], 'nx', 'px', ARGV[2])")
		err = script.Run(context.Background(), l.client, []string{name}, token, lockLease.Milliseconds()).Err()
	} else if ok, err = l.client.SetNX(context.Background(), name, token, lockLease).Result(); err == nil && !ok {
		return false
	}
	if errors.Is(err, redis.Nil) {
		return false
	}
	if err != nil {
		l.failed(err)
	}
	if err != nil || time.Since(began) >= lockLease {
		l.release(name, token) // it may have been executed
		return false
	}
	return true
}

// release repeats the release of a lock until a node has compared the token.
func (l *lockers) release(name, token string) {
	for err := l.call(releaseLock, name, token); err != nil && !errors.Is(err, redis.Nil); {
		if !l.pause(100 * time.Millisecond) {
			return
		}
		err = l.call(releaseLock, name, token)
	}
}

// call runs a script that compares the token.
func (l *lockers) call(text, name string, args ...any) error {
	n, err := redis.NewScript(text).Run(context.Background(), l.client, []string{name}, args...).Int()
	if err != nil {
		l.failed(err)
		return err
	}
	if n == 0 {
		return redis.Nil
	}
	return nil
}

// failed counts an error by what it says about the command.
func (l *lockers) failed(err error) {
	class := "other: " + err.Error()
	switch text := err.Error(); {
	case strings.Contains(text, "may have been executed"):
		class = "unknown"
	case strings.Contains(text, "not executed"):
		class = "not executed"
	case strings.Contains(text, "EOF"), strings.Contains(text, "connection re"), strings.Contains(text, "broken pipe"):
		class = "connection"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors[class]++
}

// takeTurns is a client that wants the lock for some milliseconds, again and again.
func (l *lockers) takeTurns(lock *contested, byScript bool, token string) {
	for n := 0; l.pause(5 * time.Millisecond); n++ {
		token, began := fmt.Sprint(token, n), time.Now()
		if !l.acquire(lock.name, token, byScript) {
			continue
		}
		t := lock.enter(began.Add(lockLease))
		l.pause(time.Duration(3+n%20) * time.Millisecond) // the critical section
		lock.leave(t)
		l.releaseTenure(lock, t, token)
	}
}

// releaseTenure releases a lock. If the node does not know it, it was lost, unless an earlier
// attempt to release it has failed and was executed all the same.
func (l *lockers) releaseTenure(lock *contested, t *tenure, token string) {
	switch err := l.call(releaseLock, lock.name, token); {
	case errors.Is(err, redis.Nil):
		lock.renewed(t, time.Time{}, false)
	case err != nil:
		l.release(lock.name, token)
	}
}

// keep is a client that holds the lock all the time.
func (l *lockers) keep(lock *contested) {
	for n := 0; l.pause(5 * time.Millisecond); n++ {
		token, began := fmt.Sprint("keeper:", n), time.Now()
		if !l.acquire(lock.name, token, false) {
			continue
		}
		t := lock.enter(began.Add(lockLease))
		l.renew(lock, t, token)
		lock.leave(t)
		l.release(lock.name, token)
	}
}

// renew returns when the test is over, or when the lock is lost.
func (l *lockers) renew(lock *contested, t *tenure, token string) {
	for wait := lockLease / 3; l.pause(wait); {
		if lock.hasEnded(t) {
			return
		}
		began := time.Now()
		err := l.call(renewLock, lock.name, token, lockLease.Milliseconds())
		if err == nil || errors.Is(err, redis.Nil) {
			lock.renewed(t, began, err == nil)
		}
		if errors.Is(err, redis.Nil) {
			return
		}
		if wait = lockLease / 3; err != nil {
			wait = lockLease / 20
		}
	}
}

// steal is a client that tries to get a kept lock.
func (l *lockers) steal(lock *contested) {
	for n := 0; l.pause(50 * time.Millisecond); n++ {
		token, began := fmt.Sprint("thief:", n), time.Now()
		if l.acquire(lock.name, token, false) {
			lock.leave(lock.enter(began.Add(lockLease)))
			l.release(lock.name, token)
		}
	}
}
