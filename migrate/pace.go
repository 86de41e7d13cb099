package migrate

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/move"
)

const (
	// leastRate is the lowest rate, in keys per second, and the first. To move a thousand
	// small keys a second costs a node about 1 % of a core, so this is not what slows it down.
	leastRate = 5000

	pingInterval   = 10 * time.Millisecond
	adjustInterval = 100 * time.Millisecond
	pingWindow     = 100 // pings of about one second
	baselinePings  = 50
	leastPings     = 50 // fewer say nothing about the 99th percentile
)

// pace bounds how many keys move in a second. The rate grows by 5 % in a tenth of a second
// while every node answers PING quickly, and is halved when one does not.
type pace struct {
	mu    sync.Mutex
	rate  float64
	limit float64 // the rate never exceeds it
	taken int     // keys since the last adjustment
	next  time.Time
	slow  string // the name of the node that was too slow last
}

// newPace returns a pace with a limit in keys per second; 0 means no limit.
func newPace(limit int, steady bool) *pace {
	p := &pace{rate: leastRate, limit: math.Inf(1)}
	if limit > 0 {
		p.limit = float64(limit)
	}
	if steady {
		p.rate = p.limit
	}
	p.rate = min(p.rate, p.limit)
	return p
}

// wait blocks until n more keys may move. One of many bytes counts as several.
func (p *pace) wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	p.taken += n
	p.mu.Unlock()
	if at.Equal(now) {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(at.Sub(now)):
		return nil
	}
}

// adjust sets the rate. slow is the name of a node that answered too slowly, or empty.
func (p *pace) adjust(slow string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	speed := float64(p.taken) / adjustInterval.Seconds()
	p.taken = 0
	switch {
	case slow != "":
		p.rate, p.slow = p.rate/2, slow
	case speed > p.rate/2: // otherwise the nodes were not tested at this rate
		p.rate, p.slow = p.rate*1.05, ""
	}
	p.rate = min(max(p.rate, leastRate), p.limit)
}

// slowNode returns the name of the node that holds the rate down, or empty.
func (p *pace) slowNode() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slow
}

// probe measures the latency of one node.
type probe struct {
	node  *move.Node
	bound time.Duration

	mu    sync.Mutex
	pings []time.Duration // the last ones
}

// percentile returns the 99th percentile of the last pings, 0 if there are too few.
func (p *probe) percentile() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pings) < leastPings {
		return 0
	}
	sorted := slices.Sorted(slices.Values(p.pings))
	return sorted[(99*len(sorted)+99)/100-1]
}

// ping measures once, unless the node cannot be reached. Those who move keys report that.
func (p *probe) ping(ctx context.Context) {
	took, err := p.node.Ping(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pings = append(p.pings, took); len(p.pings) > pingWindow {
		p.pings = p.pings[1:]
	}
}

// forget drops the measurements, which were made at another rate.
func (p *probe) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pings = nil
}

// follow adjusts the rate until ctx ends. A node is slow if 1 % of its answers take longer
// than latency, or than twice what they took before any key moved, if that is longer.
func (p *pace) follow(ctx context.Context, nodes []*move.Node, latency time.Duration) {
	probes := make([]*probe, len(nodes))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		probes[i] = &probe{node: n}
		for range baselinePings {
			if ctx.Err() != nil {
				return
			}
			probes[i].ping(ctx)
			time.Sleep(pingInterval)
		}
		probes[i].bound = max(latency, 2*probes[i].percentile())
		g.Go(func() error {
			return every(ctx, pingInterval, func() error {
				probes[i].ping(ctx)
				return nil
			})
		})
	}
	g.Go(func() error {
		return every(ctx, adjustInterval, func() error {
			slow := ""
			for _, q := range probes {
				if q.percentile() > q.bound {
					slow = q.node.Name
					q.forget()
				}
			}
			p.adjust(slow)
			return nil
		})
	})
	_ = g.Wait() // the context's error
}

// every calls f again and again until it fails or ctx ends.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := f(); err != nil {
				return err
			}
		}
	}
}
