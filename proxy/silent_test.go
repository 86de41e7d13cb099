package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestManyKeywaysPingSilentNodesLessOften: a connection that only listens gets a PING when it has been silent for five
// seconds, or longer if many keyways serve the same node, and then not at the same time as the others.
func TestManyKeywaysPingSilentNodesLessOften(t *testing.T) {
	for _, c := range []struct {
		keyways        int
		seed           uint64
		earliest, most time.Duration // of a subscription
		caching        time.Duration // at most, of a connection that carries invalidations
	}{
		{0, 1, 5 * time.Second, 5 * time.Second, 5 * time.Second},
		{1000, 7, 5 * time.Second, 5 * time.Second, 5 * time.Second},
		{1600, 1, 8 * time.Second, 10 * time.Second, 10 * time.Second},
		{2000, 1023, 12 * time.Second, 12500 * time.Millisecond, 12500 * time.Millisecond},
		{100_000, 0, 20 * time.Second, 25 * time.Second, 12500 * time.Millisecond},
	} {
		for _, listens := range []string{"SUBSCRIBE", "CLIENT TRACKING"} {
			r := newRig(t, Options{Seed: c.seed})
			r.w.Keyways = c.keyways
			earliest, most := c.earliest, c.most
			var silent *pool.Link
			if listens == "SUBSCRIBE" {
				r.feed(cmd("SUBSCRIBE", "news"))
				silent = r.last(0, isFeed)
				greet(r, silent)
				take(silent)
				silent.Received([]byte("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"), r.now)
			} else {
				earliest, most = min(earliest, 10*time.Second), min(most, c.caching)
				redirected(t, r)
				silent = r.last(0, isInvalidationFeed)
			}
			heard := r.now
			for !strings.Contains(take(silent), cmd("PING")) && r.now < heard+int64(time.Minute) {
				r.pass(100 * time.Millisecond)
			}
			const late = 1100 * time.Millisecond // ticks may be that far apart
			if d := time.Duration(r.now - heard); d < earliest || d > most+late {
				t.Errorf("%d keyways, seed %d, %s: a PING after %s of silence, want %s to %s",
					c.keyways, c.seed, listens, d, earliest, most)
			}
		}
	}
}
