package proxy

import (
	"testing"
	"time"
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

// TestInvalidationsCostTheSameWithManyClients: an invalidation finds the client that is
// told, and does not look for it among all.
func TestInvalidationsCostTheSameWithManyClients(t *testing.T) {
	cost := func(clients int) time.Duration {
		r := newRig(t, Options{})
		for range clients {
			r.w.Open(nil, "peer:3", "keyway:1")
		}
		target, own := redirected(t, r)
		ear := own.Owner.(*node).ear
		return shortest(20, func() time.Duration {
			began := time.Now()
			for range 100 {
				ear.Received([]byte(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"), r.now)
			}
			took := time.Since(began)
			if outputOf(target) == "" {
				t.Fatal("nobody was told")
			}
			return took
		})
	}
	few, many := cost(10), cost(20_000)
	t.Logf("100 invalidations take %s with 10 clients, %s with 20,000", few, many)
	if many > 8*few {
		t.Error("they look at all clients")
	}
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
	short, long := cost(128), cost(2)
	t.Logf("5,461 redirects take %s in pipelines of 43 commands, %s in pipelines of 2,731", short, long)
	if long > 4*short {
		t.Error("each walks through its client's pipeline")
	}
}
