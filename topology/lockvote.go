package topology

import (
	"context"
	"fmt"
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

// proveComplete returns an error unless the other nodes of a rule prove that the node lacks no lock.
// What it has granted before, a majority has. So one of the nodes that vote has it, if those that do
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
		lacks, err := lacking(ctx, c, other.LockNode, timeout)
		if err != nil {
			return fmt.Errorf("asking lock node %s which locks it has: %w", other.Addr, err)
		}
		if lacks != "" {
			return &Forgotten{Addr: r.Addr, Key: lacks, Other: other.Addr, Waits: r.Waits}
		}
	}
	if unsure >= most {
		return fmt.Errorf("%d of %d nodes of a rule of lock node %s are new, have restarted or do not answer, so "+
			"nobody knows which locks they had granted; if no client holds locks, as on the first day, give --force",
			unsure, 1+len(others), r.Addr)
	}
	return nil
}

// Forgotten is the error of a node that may have forgotten a lock which a client holds.
type Forgotten struct {
	Addr  string
	Key   string // a lock that it lacks
	Other string // a node that has it
	Waits time.Duration
}

func (f *Forgotten) Error() string {
	when := "once a keyway has reached it, it votes after max_lease"
	if f.Waits > 0 {
		when = fmt.Sprintf("it votes in %s", (f.Waits + time.Second - 1).Truncate(time.Second))
	}
	return fmt.Sprintf("lock node %s lacks a lock that %s has, %.100q: it may have forgotten it, and another client "+
		"could acquire it; %s, or stop the clients that use the locks and give --force", f.Addr, f.Other, f.Key, when)
}

// scanned is how many keys a node is asked for at once.
const scanned = 1000

// lacking returns a lock that the node from has and c lacks, or "".
func lacking(ctx context.Context, c *redis.Client, from LockNode, timeout time.Duration) (key string, err error) {
	other := NewClient(from.Addr, from.As, timeout)
	defer other.Close()
	r := LockReport{LockNode: from}
	for cursor := uint64(0); ; {
		var keys []string
		if keys, cursor, err = other.Scan(ctx, cursor, "", scanned).Result(); err != nil {
			return "", err
		}
		asked := map[string]*redis.IntCmd{}
		p := c.Pipeline()
		for _, key := range keys {
			if !quorum.IsOwn(key) && !r.isStranger(key) {
				asked[key] = p.Exists(ctx, key)
			}
		}
		if _, err := p.Exec(ctx); len(asked) > 0 && err != nil {
			return "", err
		}
		for key, exists := range asked {
			if exists.Val() == 0 && other.Exists(ctx, key).Val() == 1 { // it has not ended meanwhile
				return key, nil
			}
		}
		if cursor == 0 {
			return "", nil
		}
	}
}
