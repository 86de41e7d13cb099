package wiring

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/topology"
)

// refuseLosingLocks returns an error if clients would lose locks of locks.quorum, or could get
// locks that others hold, because of what next changes in the rules. It asks the nodes of rules
// with other nodes than before whether they vote.
func refuseLosingLocks(ctx context.Context, old, next *config.Config) error {
	before, after := lockRules(old), lockRules(next)
	for i := range before {
		was := &before[i]
		j := slices.IndexFunc(after, func(r quorum.Rule) bool { return string(r.Match) == string(was.Match) })
		if j < 0 {
			return next.Errorf("locks.quorum",
				"stop the clients that use these locks, then reload with --allow-misplaced",
				"there is no rule %q any more: others could get the locks that clients hold on its %d nodes",
				was.Match, len(was.Nodes))
		}
		if err := refuseNodes(ctx, next, j, was, &after[j]); err != nil {
			return err
		}
	}
	return nil
}

// refuseNodes returns an error if the nodes of a rule must not be replaced. i is the index of
// the rule in next.
func refuseNodes(ctx context.Context, next *config.Config, i int, was, is *quorum.Rule) error {
	path := fmt.Sprintf("locks.quorum[%d].nodes", i)
	kept := slices.DeleteFunc(slices.Clone(is.Nodes), func(addr string) bool {
		return !slices.Contains(was.Nodes, addr)
	})
	switch {
	case len(kept) == len(is.Nodes) && len(is.Nodes) == len(was.Nodes):
		return nil
	case is.Majority() < was.Majority():
		// A lock may be on just a majority of the former nodes. The others could then be a
		// majority of the new ones.
		return next.Errorf(path, "keep as many nodes; or stop the clients that use these locks, then reload with "+
			"--allow-misplaced", "%d nodes after %d: a majority of them may not have a lock that clients hold",
			len(is.Nodes), len(was.Nodes))
	}
	if n := countVotes(ctx, next, i, kept); n < is.Majority() {
		return next.Errorf(path, "replace fewer at once, and wait for max_lease in between, until they vote; or "+
			"stop the clients that use these locks, then reload with --allow-misplaced",
			"of the %d nodes, only %d stay and vote, and %d must: clients would lose the locks that they hold",
			len(is.Nodes), n, is.Majority())
	}
	return nil
}

// countVotes returns how many of the nodes vote. A node that does not answer does not.
func countVotes(ctx context.Context, c *config.Config, rule int, nodes []string) (n int) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	as := lockAccount(c, rule)
	votes := make([]bool, len(nodes))
	var asked sync.WaitGroup
	for i, addr := range nodes {
		asked.Go(func() {
			client := topology.NewClient(addr, as, c.Backend.ConnectTimeout)
			defer client.Close()
			waits, err := client.Exists(ctx, quorum.WaitKey).Result()
			votes[i] = err == nil && waits == 0
		})
	}
	asked.Wait()
	for _, votes := range votes {
		if votes {
			n++
		}
	}
	return n
}
