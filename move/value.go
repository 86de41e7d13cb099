package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/errtext"
)

// value is a key's value as the source has dumped it.
type value struct {
	key, dump string
	expiry    int64 // Unix time in milliseconds by the destination's clock; 0: never
	use       int64 // seconds without use, or the frequency of use; -1: unknown
	lfu       bool
}

func (v value) restore() []any {
	all := []any{"RESTORE", v.key, v.expiry, v.dump, "ABSTTL"}
	switch {
	case v.use < 0:
		return all
	case v.lfu:
		return append(all, "FREQ", v.use)
	}
	return append(all, "IDLETIME", v.use)
}

func names(values []value) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = v.key
	}
	return all
}

// read watches keys at the source and returns the values of those that are there.
func (l *Link) read(ctx context.Context, keys []string) ([]value, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if err := l.clock.refresh(ctx, l.from, l.to); err != nil {
		return nil, err
	}
	var watch *redis.Cmd
	all := make([]reading, len(keys))
	err := l.from.send(ctx, "reading keys", func(p redis.Pipeliner) {
		watch = p.Do(ctx, args("WATCH", keys)...)
		for i, k := range keys {
			all[i] = l.ask(ctx, p, k)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := watch.Err(); err != nil {
		return nil, l.from.node.failed("watching keys", err)
	}
	var values []value
	for i, k := range keys {
		v, ok, err := l.value(k, all[i])
		if noSuchCommand(err) && !l.noExpiry {
			l.noExpiry = true
			return l.read(ctx, keys)
		}
		if err != nil {
			return nil, l.from.node.failed(fmt.Sprintf("reading key %s", errtext.Key(k)), err)
		}
		if ok {
			values = append(values, v)
		}
	}
	return values, nil
}

// reading is what was asked about a key.
type reading struct {
	use          *redis.Cmd
	dump         *redis.StringCmd
	expiry, time *redis.Cmd
}

// ask asks for a key's value. OBJECT comes first, because DUMP counts as use of the key.
func (l *Link) ask(ctx context.Context, p redis.Pipeliner, key string) (r reading) {
	kind := "IDLETIME"
	if l.from.node.lfu {
		kind = "FREQ"
	}
	r.use = p.Do(ctx, "OBJECT", kind, key)
	r.dump = p.Dump(ctx, key)
	if !l.noExpiry {
		r.expiry = p.Do(ctx, "PEXPIRETIME", key)
		return r
	}
	r.expiry, r.time = p.Do(ctx, "PTTL", key), p.Do(ctx, "TIME")
	return r
}

// value returns a key's value, and false if the key is gone.
func (l *Link) value(key string, r reading) (v value, ok bool, err error) {
	v = value{key: key, use: -1, lfu: l.from.node.lfu}
	if v.dump, err = r.dump.Result(); errors.Is(err, redis.Nil) {
		return v, false, nil
	} else if err != nil {
		return v, false, err
	}
	expiry, err := r.expiry.Int64()
	if err != nil {
		return v, false, err
	}
	switch {
	case expiry == -2:
		return v, false, nil // it has expired since DUMP
	case expiry == -1: // v.expiry 0 means never
	default:
		if r.time != nil {
			now, err := unixMicro(r.time)
			if err != nil {
				return v, false, err
			}
			// PTTL rounds down, to 0 in the last millisecond. TIME was read after it.
			expiry = now.UnixMilli() + max(expiry, 1)
		}
		v.expiry = l.clock.atDestination(expiry)
	}
	if use, err := r.use.Int64(); err == nil {
		v.use = use
	}
	return v, true, nil
}

func noSuchCommand(err error) bool {
	return err != nil && control.IsReply(err) && strings.Contains(err.Error(), "unknown command")
}

// unixMicro returns the reply to TIME.
func unixMicro(c *redis.Cmd) (time.Time, error) {
	parts, err := c.StringSlice()
	if err != nil {
		return time.Time{}, err
	}
	if len(parts) != 2 {
		return time.Time{}, fmt.Errorf("TIME is answered with %q", parts)
	}
	var seconds, micros int64
	if _, err := fmt.Sscan(parts[0]+" "+parts[1], &seconds, &micros); err != nil {
		return time.Time{}, fmt.Errorf("reading the reply to TIME: %w", err)
	}
	return time.Unix(seconds, micros*1000), nil
}

const (
	clockSamples  = 5
	clockInterval = 10 * time.Second // clocks drift apart
)

// clock is how far the destination's clock is ahead of the source's. The zero value has
// to be measured.
type clock struct {
	offset   time.Duration // rounded up: a key may live longer by the round trip, never shorter
	measured time.Time
}

// measure reads both clocks several times and keeps the reading that took the shortest
// time. So a process that is frozen during a reading lengthens no key's life.
func (c *clock) measure(ctx context.Context, from, to *connection) error {
	shortest := time.Duration(1<<63 - 1)
	for range clockSamples {
		var at [3]time.Time
		for i, node := range []*connection{to, from, to} {
			var err error
			if at[i], err = unixMicro(node.Do(ctx, "TIME")); err != nil {
				return node.node.failed("reading the clock", err)
			}
		}
		if took := at[2].Sub(at[0]); took < shortest {
			shortest, c.offset = took, at[2].Sub(at[1])
		}
	}
	c.measured = time.Now()
	return nil
}

func (c *clock) refresh(ctx context.Context, from, to *connection) error {
	if time.Since(c.measured) < clockInterval {
		return nil
	}
	return c.measure(ctx, from, to)
}

// atDestination returns the time at the destination's clock when the source's shows
// expiry, a Unix time in milliseconds. It never returns 0, which would mean never.
func (c *clock) atDestination(expiry int64) int64 {
	return max(1, expiry+(c.offset+time.Millisecond-1).Milliseconds())
}
