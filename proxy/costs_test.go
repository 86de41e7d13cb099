package proxy

import (
	"slices"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/proxy/engine"
)

// shortest returns the shortest of many runs, which says what the work itself takes,
// whatever else the machine does.
func shortest(runs int, run func() time.Duration) time.Duration {
	least := run()
	for range runs - 1 {
		least = min(least, run())
	}
	return least
}

// costsAtMost requires that a large case takes at most factor times as long as a small one.
// A busy machine can slow all runs of one case, so both are measured again if need be.
func costsAtMost(t *testing.T, factor time.Duration, small, large func() time.Duration) {
	t.Helper()
	little, much := small(), large()
	for range 9 {
		if much <= factor*little {
			break
		}
		little, much = min(little, small()), min(much, large())
	}
	t.Logf("%s and %s", little, much)
	if much > factor*little {
		t.Errorf("the large case takes %s, the small one %s", much, little)
	}
}

// TestInvalidationsCostTheSameWithManyClients: an invalidation finds the client that is
// told, and does not look for it among all.
func TestInvalidationsCostTheSameWithManyClients(t *testing.T) {
	cost := func(clients int) time.Duration {
		r := newRig(t, Options{})
		for range clients {
			r.w.Open(nil, "peer:3", "keyway:1")
		}
		target, own := redirected(t, r)
		home := slices.IndexFunc(r.w.Nodes, func(n *engine.Node) bool { return n.Addr == own.Addr })
		feed := r.last(home, isInvalidationFeed)
		return shortest(20, func() time.Duration {
			began := time.Now()
			for range 100 {
				feed.Received([]byte(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"), r.now)
			}
			took := time.Since(began)
			if outputOf(target) == "" {
				t.Fatal("nobody was told")
			}
			return took
		})
	}
	few := func() time.Duration { return cost(10) }
	many := func() time.Duration { return cost(20_000) }
	costsAtMost(t, 8, few, many)
}

// TestRedirectsCostTheSameInLongPipelines: a redirect does not walk through all that its
// client has under way.
func TestRedirectsCostTheSameInLongPipelines(t *testing.T) {
	cost := func(clients int) time.Duration {
		f := newFailover(t, clients)
		return shortest(8, func() time.Duration {
			f.ask()
			began := time.Now()
			f.turn()
			took := time.Since(began)
			f.end()
			return took
		})
	}
	short := func() time.Duration { return cost(128) } // 5,461 redirects in pipelines of 43 commands
	long := func() time.Duration { return cost(2) }    // in pipelines of 2,731
	costsAtMost(t, 4, short, long)
}
