package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/errtext"
)

const (
	// maxAttempts is how often a key is tried if other clients change it meanwhile.
	maxAttempts = 10
	// waitTimeout is how long a replica of the destination may take to confirm copies.
	waitTimeout = 5 * time.Second
	// settleTime is how long another process may take between its EXEC and its UNLINK.
	settleTime = 100 * time.Millisecond
)

// Link moves keys of one database from one node to another, over one connection to each.
// It serves one goroutine.
type Link struct {
	from, to *connection
	db       int
	clock    clock
	noExpiry bool // the source knows no PEXPIRETIME (before Redis 7.0)
}

// Result says what became of keys.
type Result struct {
	Moved  int     // copied and removed at the source
	Joined int     // were on both nodes with the same value; removed at the source
	Absent int     // no longer at the source: moved by another process, deleted or expired
	Aside  []Aside // were on both nodes with different values
}

// Aside is a value that was set aside: the key has another value at its destination.
type Aside struct {
	Node string `json:"node"` // where the value is, as it was before
	DB   int    `json:"db"`
	Key  string `json:"key"`
	Name string `json:"name"` // the value's new name
}

// Add adds another result to r.
func (r *Result) Add(o Result) {
	r.Moved += o.Moved
	r.Joined += o.Joined
	r.Absent += o.Absent
	r.Aside = append(r.Aside, o.Aside...)
}

// Connect returns a link for a database. Errors are *Error.
func Connect(ctx context.Context, from, to *Node, db int) (*Link, error) {
	l := &Link{db: db}
	var err error
	if l.from, err = from.connect(ctx, db); err != nil {
		return nil, err
	}
	if l.to, err = to.connect(ctx, db); err != nil {
		l.from.Close()
		return nil, err
	}
	if l.from.runID == l.to.runID { // such as an address that leads to another server now
		l.Close()
		return nil, fmt.Errorf("%s and %s are the same server: there is nothing to move", from.Addr, to.Addr)
	}
	if err := l.clock.measure(ctx, l.from, l.to); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close closes both connections.
func (l *Link) Close() {
	l.from.Close()
	l.to.Close()
}

// Move moves keys by the guarded copy. In a cluster all keys must be in one slot. They are
// copied in one transaction, so the destination executes nothing else meanwhile: pass about
// 100 keys or 256 KB. The result is valid even if there is an error. After an error the
// link must be closed, unless the error is a *Refused.
func (l *Link) Move(ctx context.Context, keys []string) (Result, error) {
	var r Result
	var refused error
	keys = distinct(keys)
	for range maxAttempts {
		again, err := l.attempt(ctx, keys, &r)
		var no *Refused
		if errors.As(err, &no) {
			refused = err
		} else if err != nil {
			return r, err
		}
		if keys = again; len(keys) == 0 {
			return r, refused
		}
	}
	return r, fmt.Errorf("moving key %s from node %s to node %s: others changed it %d times meanwhile; "+
		"stop the clients, and run the command again", errtext.Key(keys[0]),
		l.from.node.Name, l.to.node.Name, maxAttempts)
}

// Refused is the error of single values that the destination does not accept. The other
// keys of the same call have been moved.
type Refused struct{ Err error }

// Error implements error.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refused) Unwrap() error { return r.Err }

// attempt makes one guarded copy and returns the keys that have to be tried again.
func (l *Link) attempt(ctx context.Context, keys []string, r *Result) (again []string, err error) {
	missing, both, err := l.look(ctx, keys)
	if err != nil {
		return nil, err
	}
	values, err := l.read(ctx, missing)
	if err != nil {
		return nil, err
	}
	r.Absent += len(missing) - len(values)
	restored, overtaken, err := l.restore(ctx, values)
	var refused *Refused
	if err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	if overtaken {
		return append(both, names(values)...), l.unwatch(ctx, l.from)
	}
	removed, errRemove := l.remove(ctx, restored)
	if errRemove != nil {
		return nil, errRemove
	}
	if removed {
		r.Moved += len(restored)
		l.to.node.remember(l.db, values, restored)
		restored = nil
	}
	if errAwait := l.awaitOthers(ctx, both); errAwait != nil {
		return nil, errAwait
	}
	for _, k := range append(both, restored...) {
		settled, errSettle := l.settle(ctx, k, r)
		if errSettle != nil {
			return nil, errSettle
		}
		if !settled {
			again = append(again, k)
		}
	}
	return again, err
}

// look watches keys at the destination and returns which of them are not there, and which
// are.
func (l *Link) look(ctx context.Context, keys []string) (missing, both []string, err error) {
	var watch *redis.Cmd
	exist := make([]*redis.IntCmd, len(keys))
	err = l.to.send(ctx, "watching keys", func(p redis.Pipeliner) {
		watch = p.Do(ctx, args("WATCH", keys)...)
		for i, k := range keys {
			exist[i] = p.Exists(ctx, k)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if err := watch.Err(); err != nil {
		return nil, nil, l.to.node.failed("watching keys", err)
	}
	for i, k := range keys {
		n, err := exist[i].Result()
		switch {
		case err != nil:
			return nil, nil, l.to.node.failed(fmt.Sprintf("asking for key %s", errtext.Key(k)), err)
		case n == 0:
			missing = append(missing, k)
		default:
			both = append(both, k)
		}
	}
	return missing, both, nil
}

// restore creates the values at the destination in one transaction. It returns the keys
// that are there now. overtaken reports that nothing happened, because another client
// changed one of the keys at the destination.
func (l *Link) restore(ctx context.Context, values []value) (restored []string, overtaken bool, err error) {
	if len(values) == 0 {
		return nil, false, l.unwatch(ctx, l.to)
	}
	queued := make([]*redis.Cmd, len(values))
	var exec, wait *redis.Cmd
	err = l.to.send(ctx, "restoring keys", func(p redis.Pipeliner) {
		p.Do(ctx, "MULTI")
		for i, v := range values {
			queued[i] = p.Do(ctx, v.restore()...)
		}
		exec = p.Do(ctx, "EXEC")
		if l.to.node.hasReplicas {
			wait = p.Do(ctx, "WAIT", 1, waitTimeout.Milliseconds())
		}
	})
	if err != nil {
		return nil, false, err
	}
	for i, q := range queued {
		if err := q.Err(); err != nil {
			return nil, false, l.notRestored(values[i].key, err)
		}
	}
	replies, err := exec.Slice()
	if errors.Is(err, redis.Nil) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, l.to.node.failed("restoring keys", err)
	}
	if restored, err = l.accepted(values, replies); wait == nil {
		return restored, false, err
	}
	if n, errWait := wait.Int(); errWait != nil || n < 1 {
		return nil, false, &Error{
			Node: l.to.node.Name, Addr: l.to.node.Addr, Doing: "waiting for a replica", Err: errors.Join(errWait,
				fmt.Errorf("none has the moved keys after %s", waitTimeout)),
			Temporary: true,
			Remedy: "see its INFO replication, and run the command again; nothing was removed from node " +
				l.from.node.Name,
		}
	}
	return restored, false, err
}

// accepted returns the keys that the destination has accepted, and the first refusal.
func (l *Link) accepted(values []value, replies []any) (restored []string, err error) {
	if len(replies) != len(values) {
		err := fmt.Errorf("%d replies to %d commands", len(replies), len(values))
		return nil, l.to.node.failed("restoring keys", err)
	}
	for i, v := range values {
		if refusal, is := replies[i].(error); is {
			if err == nil {
				err = &Refused{Err: l.notRestored(v.key, refusal)}
			}
			continue
		}
		restored = append(restored, v.key)
	}
	return restored, err
}

// remove removes watched keys from the source, unless one of them has changed since WATCH.
// It reports whether it did.
func (l *Link) remove(ctx context.Context, keys []string) (bool, error) {
	if len(keys) == 0 {
		return true, l.unwatch(ctx, l.from)
	}
	var unlink, exec *redis.Cmd
	err := l.from.send(ctx, "removing moved keys", func(p redis.Pipeliner) {
		p.Do(ctx, "MULTI")
		unlink = p.Do(ctx, args("UNLINK", keys)...)
		exec = p.Do(ctx, "EXEC")
	})
	if err != nil {
		return false, err
	}
	if err := unlink.Err(); err != nil {
		return false, l.from.node.failed("removing moved keys", err)
	}
	if err := exec.Err(); errors.Is(err, redis.Nil) {
		return false, nil
	} else if err != nil {
		return false, l.from.node.failed("removing moved keys", err)
	}
	return true, nil
}

func (l *Link) unwatch(ctx context.Context, c *connection) error {
	if err := c.Do(ctx, "UNWATCH").Err(); err != nil {
		return c.node.failed("UNWATCH", err)
	}
	return nil
}

// distinct returns the keys without repetitions, which SCAN may return.
func distinct(keys []string) []string {
	seen := make(map[string]bool, len(keys))
	var all []string
	for _, k := range keys {
		if !seen[k] {
			seen[k], all = true, append(all, k)
		}
	}
	return all
}

func args(name string, keys []string) []any {
	all := make([]any, 0, len(keys)+1)
	all = append(all, name)
	for _, k := range keys {
		all = append(all, k)
	}
	return all
}
