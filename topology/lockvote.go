package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/quorum"
)

// letVote makes a node that holds locks vote at once. KEYS: quorum.RunKey, quorum.WaitKey.
const letVote = `local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('SET', KEYS[1], run)
return redis.call('DEL', KEYS[2])`

// LetVote ends the wait of a node that holds locks. rules are the other nodes of each of its rules. It
// returns an error if they have locks that the node lacks, or cannot prove that they have none, unless
// force says that nobody holds these. It returns false if the node votes already. timeout is for one
// answer.
func LetVote(
	ctx context.Context, n LockNode, rules [][]LockNode, timeout time.Duration, force bool,
) (ended bool, err error) {
	timeout = max(timeout, askTimeout)
	r := LockReport{LockNode: n}
	if r.Err = r.ask(ctx, timeout); r.Err == nil && r.Votes() {
		return false, nil
	}
	if problem, remedy := r.Unfit(); problem != "" {
		return false, fmt.Errorf("lock node %s %s; %s", n.Addr, problem, remedy)
	}
	c := NewClient(n.Addr, n.As, timeout)
	defer c.Close()
	for _, others := range rules {
		if force {
			break
		}
		if err := r.proveComplete(ctx, c, others, timeout); err != nil {
			return false, err
		}
	}
	if err := c.Eval(ctx, letVote, []string{quorum.RunKey, quorum.WaitKey}).Err(); err != nil {
		return false, fmt.Errorf("ending the wait of lock node %s: %w", n.Addr, err)
	}
	return true, nil
}

// proveComplete returns an error unless the other nodes of a rule prove that the node lacks no lock, and
// has none as it was before: an old snapshot, or a file that lacks the last second, has leases that end
// too early. What it has granted before, a majority has. So one of the nodes that vote has it, if those that do
// not are less than a majority. The node itself is one of them.
func (r *LockReport) proveComplete(
	ctx context.Context, c *redis.Client, others []LockNode, timeout time.Duration,
) error {
	unsure, most := 1, (1+len(others))/2+1
	for _, other := range InspectLocks(ctx, others, timeout) {
		if !other.Votes() {
			unsure++
			continue
		}
		lost, stale, err := forgotten(ctx, c, other.LockNode, timeout)
		if err != nil {
			return fmt.Errorf("comparing its locks with those of lock node %s: %w", other.Addr, err)
		}
		if lost != "" {
			return &Forgotten{Addr: r.Addr, Key: lost, Other: other.Addr, Waits: r.Waits, Stale: stale}
		}
	}
	if unsure >= most {
		return fmt.Errorf("%d of %d nodes of the rule with lock node %s are new, have restarted or do not answer, so "+
			"nobody knows which locks they had granted; if no client holds locks, as on the first day, give --force",
			unsure, 1+len(others), r.Addr)
	}
	return nil
}

// Forgotten is the error of a node that may have forgotten a lock which a client holds.
type Forgotten struct {
	Addr  string
	Key   string // a lock that it lacks, or has with another token or a shorter lease
	Other string // a node that has it
	Waits time.Duration
	Stale bool // it has the lock as it was before
}

func (f *Forgotten) Error() string {
	when := "once a keyway has reached it, it votes after max_lease"
	if f.Waits > 0 {
		when = fmt.Sprintf("it votes in %s", (f.Waits + time.Second - 1).Truncate(time.Second))
	}
	what := fmt.Sprintf("lacks a lock that %s has, %.100q: it may have forgotten it", f.Other, f.Key)
	if f.Stale {
		what = fmt.Sprintf("has the lock %.100q with another token than %s, or a shorter lease: it may have forgotten "+
			"the last change", f.Key, f.Other)
	}
	return fmt.Sprintf("lock node %s %s, and another client could acquire it; %s, or stop the clients that use the "+
		"locks and give --force", f.Addr, what, when)
}

const (
	scanned = 1000 // how many keys a node is asked for at once
	looks   = 3    // a lock may change while the nodes are asked, so doubts are checked again
)

// forgotten returns a lock that c lacks, or has as it was before, although the node from has it. The
// key is empty if there is none.
func forgotten(
	ctx context.Context, c *redis.Client, from LockNode, timeout time.Duration,
) (key string, stale bool, err error) {
	other := NewClient(from.Addr, from.As, timeout)
	defer other.Close()
	r := LockReport{LockNode: from}
	for cursor := uint64(0); ; {
		var keys []string
		if keys, cursor, err = other.Scan(ctx, cursor, "", scanned).Result(); err != nil {
			return "", false, err
		}
		keys = slices.DeleteFunc(keys, func(key string) bool { return quorum.IsOwn(key) || r.isStranger(key) })
		for look := 1; len(keys) > 0; look++ {
			// c is asked first, so that what passes meanwhile does not make its leases look shorter.
			mine, err := held(ctx, c, keys)
			if err != nil {
				return "", false, err
			}
			theirs, err := held(ctx, other, keys)
			if err != nil {
				return "", false, err
			}
			keys = slices.DeleteFunc(keys, func(key string) bool { return mine[key].outlasts(theirs[key]) })
			if len(keys) > 0 && look == looks {
				return keys[0], mine[keys[0]].lease != 0, nil
			}
		}
		if cursor == 0 {
			return "", false, nil
		}
	}
}

// heldLock is a lock as a node has it. Its lease is 0 if the node lacks it, and negative if it has no end.
type heldLock struct {
	token string
	lease time.Duration
}

// outlasts reports whether the lock is that of another node, and does not end before. It is true if
// the other node lacks the lock.
func (l heldLock) outlasts(other heldLock) bool {
	return other.lease == 0 || l.token == other.token && l.lease != 0 &&
		(l.lease < 0 || other.lease > 0 && l.lease >= other.lease)
}

// held returns how a node has the locks.
func held(ctx context.Context, c *redis.Client, keys []string) (map[string]heldLock, error) {
	p := c.Pipeline()
	tokens, leases := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		tokens[i], leases[i] = p.Get(ctx, key), p.PTTL(ctx, key)
	}
	_, _ = p.Exec(ctx) // each command has its error
	locks := map[string]heldLock{}
	for i, key := range keys {
		token, err := tokens[i].Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err = cmp.Or(err, leases[i].Err()); err != nil {
			return nil, err
		}
		switch lease := leases[i].Val(); {
		case lease > 0 || lease == -1:
			locks[key] = heldLock{token, lease}
		case lease == 0:
			locks[key] = heldLock{token, 1} // less than a millisecond is left
		}
	}
	return locks, nil
}
