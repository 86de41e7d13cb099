package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/errtext"
)

const (
	settlePause = 10 * time.Millisecond
	// sameExpiry is how far the times of expiry of one value's two copies may be apart. The
	// clocks of both nodes are compared to the length of a round trip.
	sameExpiry = time.Second
)

// awaitOthers waits until another process that moves these keys has removed them from the
// source, for at most settleTime.
func (l *Link) awaitOthers(ctx context.Context, keys []string) error {
	for waited := time.Duration(0); len(keys) > 0 && waited < settleTime; waited += settlePause {
		exist := make([]*redis.IntCmd, len(keys))
		err := l.from.send(ctx, "asking for keys", func(p redis.Pipeliner) {
			for i, k := range keys {
				exist[i] = p.Exists(ctx, k)
			}
		})
		if err != nil {
			return err
		}
		var still []string
		for i, k := range keys {
			if n, err := exist[i].Result(); err != nil || n > 0 {
				still = append(still, k)
			}
		}
		if keys = still; len(keys) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePause):
		}
	}
	return nil
}

// settle removes a key from the source if the destination has an equal value, and renames
// it there if not. It returns false if the key has to be moved again.
func (l *Link) settle(ctx context.Context, key string, r *Result) (bool, error) {
	values, err := l.read(ctx, []string{key})
	if err != nil {
		return false, err
	}
	if len(values) == 0 {
		r.Absent++
		return true, l.unwatch(ctx, l.from)
	}
	equal, there, err := l.compare(ctx, values[0])
	if err != nil {
		return false, err
	}
	if !there {
		return false, l.unwatch(ctx, l.from)
	}
	if !equal {
		if err := l.unwatch(ctx, l.from); err != nil {
			return false, err
		}
		return true, l.setAside(ctx, key, r)
	}
	removed, err := l.remove(ctx, []string{key})
	if removed {
		r.Joined++
	}
	return removed, err
}

// compare reports whether the destination has the key (there), and whether its value and
// expiry there are the same (equal).
func (l *Link) compare(ctx context.Context, v value) (equal, there bool, err error) {
	dump, err := l.to.Dump(ctx, v.key).Result()
	if errors.Is(err, redis.Nil) {
		return false, false, nil
	}
	if err != nil {
		return false, false, l.to.node.failed(fmt.Sprintf("reading key %s", errtext.Key(v.key)), err)
	}
	expiry, err := l.to.PTTL(ctx, v.key).Result()
	if err != nil {
		return false, false, l.to.node.failed(fmt.Sprintf("reading the expiry of key %s", errtext.Key(v.key)), err)
	}
	now, err := unixMicro(l.to.Do(ctx, "TIME"))
	if err != nil {
		return false, false, l.to.node.failed("reading the clock", err)
	}
	switch {
	case expiry == -2:
		return false, false, nil
	case (expiry == -1) != (v.expiry == 0):
		return false, true, nil
	case v.expiry != 0 && now.Add(expiry).Sub(time.UnixMilli(v.expiry)).Abs() > sameExpiry:
		return false, true, nil
	case dump == v.dump:
		return true, true, nil
	}
	here, err := contents(ctx, l.from, v.key)
	if err != nil {
		return false, true, err
	}
	other, err := contents(ctx, l.to, v.key)
	return err == nil && here != nil && slices.Equal(here, other), true, err
}

// contents returns a key's value in a form that, unlike DUMP, does not depend on the
// server's version or on the order of its hash tables. It returns nil for unknown types.
func contents(ctx context.Context, c *connection, key string) ([]string, error) {
	kind, err := c.Type(ctx, key).Result()
	if err != nil {
		return nil, c.node.failed(fmt.Sprintf("asking for the type of key %s", errtext.Key(key)), err)
	}
	questions := map[string][][]any{
		"string": {{"GET", key}},
		"list":   {{"LRANGE", key, 0, -1}},
		"set":    {{"SMEMBERS", key}},
		"hash":   {{"HGETALL", key}},
		"zset":   {{"ZRANGE", key, 0, -1, "WITHSCORES"}},
		"stream": {{"XRANGE", key, "-", "+"}, {"XINFO", "STREAM", key, "FULL", "COUNT", 0}},
	}[kind]
	if questions == nil {
		return nil, nil
	}
	all := []string{kind}
	var fields []string
	for _, q := range questions {
		reply, err := c.Do(ctx, q...).Result()
		if err != nil {
			return nil, c.node.failed(fmt.Sprintf("reading key %s", errtext.Key(key)), err)
		}
		list, isList := reply.([]any)
		switch {
		case !isList:
			all = append(all, text(reply))
		case kind == "hash":
			for i := 0; i+1 < len(list); i += 2 {
				fields = append(fields, fmt.Sprint(list[i]))
				all = append(all, text(list[i])+"="+text(list[i+1]))
			}
		default:
			if q[0] == "XINFO" {
				list = stable(list)
			}
			for _, e := range list {
				all = append(all, text(e))
			}
		}
	}
	if kind == "hash" {
		expiries, err := fieldExpiries(ctx, c, key, fields)
		if err != nil {
			return nil, err
		}
		all = append(all, expiries...)
	}
	if kind == "hash" || kind == "set" {
		slices.Sort(all)
	}
	return all, nil
}

// fieldExpiries returns when the fields of a hash expire. It returns nothing for a server
// that does not know such expiry (before Redis 7.4 and Valkey 9).
func fieldExpiries(ctx context.Context, c *connection, key string, fields []string) (all []string, err error) {
	const batch = 1000
	for some := range slices.Chunk(fields, batch) {
		command := []any{"HPEXPIRETIME", key, "FIELDS", len(some)}
		for _, f := range some {
			command = append(command, f)
		}
		times, err := c.Do(ctx, command...).Int64Slice()
		if noSuchCommand(err) {
			return nil, nil
		}
		if err != nil {
			return nil, c.node.failed(fmt.Sprintf("reading the fields of key %s", errtext.Key(key)), err)
		}
		for i, at := range times {
			if at > 0 {
				all = append(all, fmt.Sprint(some[i], " expires ", at))
			}
		}
	}
	return all, nil
}

// volatile are the fields of XINFO STREAM that do not belong to the stream's value: the
// server's memory, and when consumers were last active.
var volatile = []string{"radix-tree-keys", "radix-tree-nodes", "seen-time", "active-time"}

// stable returns a reply of XINFO STREAM without the volatile fields.
func stable(list []any) (all []any) {
	for i := 0; i < len(list); i++ {
		if name, is := list[i].(string); is && slices.Contains(volatile, name) {
			i++ // the value follows the name
			continue
		}
		if nested, is := list[i].([]any); is {
			all = append(all, stable(nested))
			continue
		}
		all = append(all, list[i])
	}
	return all
}

// text returns a reply as text, in which different replies differ.
func text(reply any) string {
	list, ok := reply.([]any)
	if !ok {
		return fmt.Sprintf("%q", fmt.Sprint(reply))
	}
	var b strings.Builder
	b.WriteByte('[')
	for _, e := range list {
		b.WriteString(text(e))
		b.WriteByte(' ')
	}
	return b.String() + "]"
}
