package guard

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/router"
)

const (
	tick        = 2 * time.Second  // between checks of which nodes are due
	lookTimeout = 10 * time.Second // for all requests of one look
	atOnce      = 32               // nodes that are looked at together
)

// scheduled is what is known about a node, and when to look at it again.
type scheduled interface{ dueAt() time.Time }

// dueNodes returns the nodes of the table that are due, and those of which nothing is known.
// It deletes from known, which is by the nodes' names, what the table lacks.
func dueNodes[S scheduled](t *router.Table, known map[string]S) (ids []router.NodeID) {
	inTable := map[string]bool{}
	for _, id := range t.Owners() {
		name := t.Nodes[id].Name
		inTable[name] = true
		if s, ok := known[name]; !ok || !time.Now().Before(s.dueAt()) {
			ids = append(ids, id)
		}
	}
	for name := range known {
		if !inTable[name] {
			delete(known, name)
		}
	}
	return ids
}

// everyTick calls f again and again until ctx ends.
func everyTick(ctx context.Context, f func()) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// forEach calls f with each index below n, for several at once, and waits for all calls.
func forEach(ctx context.Context, n int, f func(ctx context.Context, i int)) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var looks errgroup.Group
	looks.SetLimit(atOnce)
	for i := range n {
		looks.Go(func() error {
			f(ctx, i)
			return nil
		})
	}
	_ = looks.Wait() // f returns no error
}

// jittered returns the duration, give or take a tenth.
func jittered(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5) }
