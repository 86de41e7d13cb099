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
	// LeastRate is the lowest rate, in keys per second, and the first, unless the limit is lower. To move a thousand
	// small keys a second costs a node about 1 % of a core, so this is not what slows it down.
	LeastRate = 2000
	// A batch has as many keys as may move in 1/batchesPerSecond of a second, and leastBatch at least.
	batchesPerSecond = 100
	leastBatch       = 10
	// pageCost is how many keys are as much work for their nodes when they move as a page of SCAN.
	pageCost = 10
	// pagesOfNode is how many pages of each node may be looked at in a second, whatever the rate, and pagesOfAll of
	// all nodes: then keyway is busy, too.
	pagesOfNode = 50
	pagesOfAll  = 1000

	pingInterval   = 10 * time.Millisecond
	adjustInterval = 100 * time.Millisecond
	pingWindow     = 100 // pings of about one second
	leastPings     = 50  // fewer say nothing about the 99th percentile
	usualRise      = 600 // see probe.usual
)

// Speed says how fast keys may move.
type Speed struct {
	Paused  bool          // not at all
	Rate    int           // keys per second at most; 0: no limit
	Latency time.Duration // that nodes may take for PING meanwhile; 0: any
}

// Pace bounds how many keys move in a second. With a bound for the latency, the rate grows by 5 % in a
// tenth of a second while every node answers PING quickly, and is halved when one does not. Then it stays until that
// node has been measured again.
type Pace struct {
	mu      sync.Mutex
	speed   Speed
	changed chan struct{} // closed when there is another speed
	rate    float64
	limit   float64 // the rate never exceeds it
	taken   int     // keys since the last adjustment
	next    time.Time
	// isBehind says that those who move keys use less than half of the rate, such as where nodes are far away.
	isBehind bool
	slow     string // the name of the node that was too slow last
}

// NewPace returns a pace that begins with a speed.
func NewPace(s Speed) *Pace {
	p := &Pace{changed: make(chan struct{})}
	p.set(s)
	return p
}

// Set changes the speed, also for those who wait.
func (p *Pace) Set(s Speed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == p.speed {
		return
	}
	p.set(s)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Pace) set(s Speed) {
	p.speed, p.limit, p.slow, p.next, p.isBehind = s, math.Inf(1), "", time.Time{}, false
	if s.Rate > 0 {
		p.limit = float64(s.Rate)
	}
	p.rate = p.limit
	if s.Latency > 0 {
		p.rate = min(LeastRate, p.limit)
	}
}

// bound returns the latency that nodes may have, 0 if that is not to be measured now.
func (p *Pace) bound() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.speed.Paused {
		return 0
	}
	return p.speed.Latency
}

// wait blocks until n more keys may move. One of many bytes counts as several.
func (p *Pace) wait(ctx context.Context, n int) error { return p.await(ctx, n, 0) }

// page blocks until keyway may look at one more page of keys, of one of so many nodes. A low limit is meant for keys
// that move.
func (p *Pace) page(ctx context.Context, nodes int) error {
	return p.await(ctx, pageCost, leastOfPages(nodes))
}

// leastOfPages returns the lowest rate at which pages are looked at, in keys that move.
func leastOfPages(nodes int) float64 { return float64(pageCost * min(pagesOfNode*nodes, pagesOfAll)) }

// await blocks until as much may be done as to move n keys, at a rate of at least so many in a second.
func (p *Pace) await(ctx context.Context, n int, least float64) error {
	for {
		at, changed := p.take(n, least)
		var turn <-chan time.Time // nil: not before the speed changes
		if !at.IsZero() {
			left := time.Until(at)
			if left <= 0 {
				return ctx.Err()
			}
			turn = time.After(left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-turn:
			return nil
		case <-changed: // the speed; what was taken is void
		}
	}
}

// Resumed blocks while the pace is paused.
func (p *Pace) Resumed(ctx context.Context) error { return p.wait(ctx, 0) }

// take reserves n keys, and returns when they may move. It is zero if the pace is paused. changed is
// closed when that is not true any more. least is that of keys that do not move, but are only looked at.
func (p *Pace) take(n int, least float64) (at time.Time, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.speed.Paused {
		return at, p.changed
	}
	lasts := time.Duration(float64(n) / max(p.rate, least) * float64(time.Second))
	at = time.Now()
	if n > 0 && least == 0 { // otherwise it says nothing about how fast keys move
		p.isBehind = !p.next.IsZero() && at.Sub(p.next) > lasts
	}
	if at.Before(p.next) {
		at = p.next
	}
	p.next = at.Add(lasts)
	p.taken += n
	return at, p.changed
}

// verdict says how quickly nodes answer.
type verdict int

const (
	isUnknown verdict = iota // too few answers have come since the rate was halved
	isQuick
	isSlow
)

// restart forgets the turns of those who have ended. A large key's lasts for hours at a low rate.
func (p *Pace) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.isBehind = time.Time{}, false
}

// adjust sets the rate, if it depends on the latency. slow is the name of the node that answered too slowly.
func (p *Pace) adjust(v verdict, slow string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.speed.Latency <= 0 {
		return
	}
	speed := float64(p.taken) / adjustInterval.Seconds()
	p.taken = 0
	switch v {
	case isSlow:
		p.rate, p.slow = p.rate/2, slow
	case isQuick:
		p.slow = ""
		if speed > p.rate/2 { // otherwise the nodes were not tested at this rate
			p.rate *= 1.05
		}
	}
	if p.rate = min(max(p.rate, LeastRate), p.limit); p.rate == p.limit {
		p.slow = "" // it holds nothing down
	}
}

// now returns the name of the node that holds the rate down, or empty, and the rate. That is 0 during a
// pause, and infinite without a limit.
func (p *Pace) now() (slow string, rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.speed.Paused {
		return "", 0
	}
	return p.slow, p.rate
}

// most returns how many keys should move at once at the present rate. A node executes nothing else meanwhile, so a
// low rate would not help those who meet a large batch. Who does not keep up with the rate may need large ones.
func (p *Pace) most() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isBehind {
		return math.MaxInt32
	}
	return int(min(max(p.rate/batchesPerSecond, leastBatch), math.MaxInt32))
}

// probe measures the latency of one node.
type probe struct {
	node *move.Node
	// usual is the least percentile of late. It rises by a usualRise-th with each verdict, of which there are ten in a
	// second, or two while the node is slow. So within some minutes a load that has grown is usual. One goroutine uses
	// it.
	usual time.Duration

	mu     sync.Mutex
	pings  []time.Duration // the last ones
	isLost bool            // the node has not answered the last one
}

// percentile returns the 99th percentile of the last pings, 0 if there are too few. isLost says that the node did not
// answer the last one.
func (p *probe) percentile() (took time.Duration, isLost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pings) < leastPings {
		return 0, p.isLost
	}
	sorted := slices.Sorted(slices.Values(p.pings))
	return sorted[(99*len(sorted)+99)/100-1], p.isLost
}

// look returns whether 1 % of the node's answers take longer than the bound, and than twice as long as usual. It is
// called once in an adjustInterval.
func (p *probe) look(bound time.Duration) verdict {
	took, isLost := p.percentile()
	switch {
	case isLost:
		return isQuick // those who move keys report that; keys of other nodes move
	case took == 0:
		return isUnknown
	}
	if p.usual += p.usual / usualRise; p.usual == 0 || took < p.usual {
		p.usual = took
	}
	if took > max(bound, 2*p.usual) {
		p.forget()
		return isSlow
	}
	return isQuick
}

// ping measures once, unless the node cannot be reached.
func (p *probe) ping(ctx context.Context) {
	took, err := p.node.Ping(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isLost = err != nil; p.isLost {
		return
	}
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

// look returns how quickly the nodes answer, and the name of one that does so too slowly.
func look(probes []*probe, bound time.Duration) (all verdict, slow string) {
	all = isQuick
	for _, q := range probes {
		switch v := q.look(bound); {
		case v == isSlow:
			all, slow = isSlow, q.node.Name
		case v == isUnknown && all != isSlow:
			all = isUnknown
		}
	}
	return all, slow
}

// paced makes all that is done on the servers obey a pace, until stop is called.
func (s *servers) paced(ctx context.Context, o Options) (stop func()) {
	if s.pace = o.Pace; s.pace == nil {
		s.pace = NewPace(Speed{Rate: o.Rate, Latency: o.Latency})
		if o.Latency <= 0 {
			return func() {}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { s.pace.follow(ctx, s.all) })
	return func() {
		cancel()
		following.Wait()
	}
}

// follow adjusts the rate until ctx ends.
func (p *Pace) follow(ctx context.Context, nodes []*move.Node) {
	probes := make([]*probe, len(nodes))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		probes[i] = &probe{node: n}
		g.Go(func() error {
			return every(ctx, pingInterval, func() error {
				if p.bound() > 0 {
					probes[i].ping(ctx)
				}
				return nil
			})
		})
	}
	g.Go(func() error {
		return every(ctx, adjustInterval, func() error {
			if bound := p.bound(); bound > 0 {
				p.adjust(look(probes, bound))
			}
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
