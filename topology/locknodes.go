package topology

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/quorum"
)

// LockNode is a node that holds locks.
type LockNode struct {
	Addr  string
	As    control.Account
	Rules quorum.Rules // which keys are locks
}

// LockReport is what a node that holds locks reports about itself.
type LockReport struct {
	LockNode
	Err error // not nil: the node could not be asked, and the other fields are empty

	Version, Role, Mode, Policy, RunID string
	Evicts                             bool // it evicts keys when its memory is full
	Replicas                           int
	Asked                              bool          // keyway has asked it about a lock since it started
	Waits                              time.Duration // it does not vote for so long
	Ahead                              time.Duration // its clock is ahead of ours by about so much
	Stranger                           string        // a key on it that is no lock; empty: none was found
}

// InspectLocks asks nodes that hold locks about themselves, all at once. timeout is as for
// Inspect. It changes nothing on the nodes, so new nodes do not begin to wait.
func InspectLocks(ctx context.Context, nodes []LockNode, timeout time.Duration) []LockReport {
	timeout = max(timeout, askTimeout)
	ctx, cancel := context.WithTimeout(ctx, questions*timeout)
	defer cancel()
	reports := make([]LockReport, len(nodes))
	var asked sync.WaitGroup
	for i, n := range nodes {
		asked.Go(func() {
			reports[i].LockNode = n
			if err := reports[i].ask(ctx, timeout); err != nil {
				reports[i] = LockReport{LockNode: n, Err: err}
			}
		})
	}
	asked.Wait()
	return reports
}

func (r *LockReport) ask(ctx context.Context, timeout time.Duration) error {
	c := NewClient(r.Addr, r.As, timeout)
	defer c.Close()
	if secret := r.As.Secret(); secret != "" && r.As.Username == "" {
		if err := c.Do(ctx, "AUTH", secret).Err(); err != nil { // see inspectNode
			return err
		}
	}
	info, err := c.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("INFO: %w", err)
	}
	has := map[string]string{}
	for line := range strings.SplitSeq(info, "\r\n") {
		field, value, _ := strings.Cut(line, ":")
		has[field] = value
	}
	r.Version, r.Role, r.Policy, r.RunID = has["redis_version"], has["role"], has["maxmemory_policy"], has["run_id"]
	if r.Mode = has["redis_mode"]; r.Mode == "" {
		r.Mode = has["server_mode"] // Valkey's name
	}
	r.Evicts = has["maxmemory"] != "0" && r.Policy != "noeviction" && r.Policy != ""
	r.Replicas, _ = strconv.Atoi(has["connected_slaves"])
	if r.Mode == "cluster" {
		return nil // the keys that follow may belong to other nodes
	}
	before := time.Now()
	at, err := c.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("TIME: %w", err)
	}
	r.Ahead = at.Sub(before.Add(time.Since(before) / 2))
	// The locks need a user who may run scripts.
	states, err := c.Eval(ctx, "return {redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[2])}",
		[]string{quorum.RunKey, quorum.WaitKey}).Slice()
	if err != nil {
		return fmt.Errorf("EVAL: %w", err)
	}
	// A script that no node knows is not executed.
	err = c.EvalSha(ctx, strings.Repeat("0", 40), nil).Err()
	if err != nil && !strings.HasPrefix(err.Error(), "NOSCRIPT") {
		return fmt.Errorf("EVALSHA: %w", err)
	}
	r.Asked = len(states) == 2 && states[0] == r.RunID
	if ms, ok := states[len(states)-1].(int64); ok && ms > 0 {
		r.Waits = time.Duration(ms) * time.Millisecond
	}
	keys, _, _ := c.Scan(ctx, 0, "", sampledKeys).Result() // the user may not be permitted to
	if i := slices.IndexFunc(keys, r.isStranger); i >= 0 {
		r.Stranger = keys[i]
	}
	return nil
}

// sampledKeys is how many keys of a node are looked at.
const sampledKeys = 200

// isStranger reports whether a key is neither a lock nor what keyway keeps beside locks.
func (r *LockReport) isStranger(key string) bool {
	if quorum.IsOwn(key) {
		return false
	}
	rule, _ := r.Rules.Find([]byte(key))
	return rule < 0
}

// Votes reports whether the node votes now.
func (r *LockReport) Votes() bool { return r.Err == nil && r.Asked && r.Waits == 0 }

// Unfit returns why the node cannot hold locks, and what to do about it. Both are empty if it
// can.
func (r *LockReport) Unfit() (problem, remedy string) {
	major, _, _ := strings.Cut(r.Version, ".")
	version, err := strconv.Atoi(major)
	switch {
	case r.Err != nil:
		return Explain(r.Err, r.As)
	case r.Mode != "standalone":
		return "runs in " + r.Mode + " mode", "use a standalone Redis server"
	case r.Role != "master":
		return "is a replica, and cannot be written to", "use a master without replicas"
	case err == nil && version < 5:
		return "has version " + r.Version, "use Redis 5.0 or later"
	case r.Evicts:
		return "evicts keys when its memory is full (" + r.Policy + "), so others get locks that clients hold",
			"set its maxmemory-policy to noeviction"
	}
	return "", ""
}

// maxAhead is by how much a node's clock may differ from ours without a warning.
const maxAhead = time.Second

// Doubts returns warnings about a node that can hold locks.
func (r *LockReport) Doubts() (all []string) {
	if r.Replicas > 0 {
		all = append(all, fmt.Sprintf("has %d replicas; if one takes its place, locks are lost: remove them",
			r.Replicas))
	}
	if r.Stranger != "" {
		all = append(all, fmt.Sprintf("has keys that are no locks, such as %.100q; what other applications do there, "+
			"such as FLUSHALL or slow commands, concerns the locks: use servers that hold only locks", r.Stranger))
	}
	if r.Ahead.Abs() > maxAhead {
		all = append(all, fmt.Sprintf("has a clock that differs from this machine's by %s; when it is set forward, "+
			"its leases end early: set it now, and let it run with NTP", r.Ahead.Abs().Round(100*time.Millisecond)))
	}
	return all
}
