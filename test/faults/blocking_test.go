package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestBlockingUnderFaults: consumers wait with BLPOP and BLMOVE for elements that producers
// push, and some leave while they wait. Meanwhile slots move, masters and replicas change
// roles and a node freezes. Every element is delivered once, is still in its list, or is
// counted as undelivered. No client waits longer than the command's timeout, and no
// connection is left over.
func TestBlockingUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 1s}\n").Ready()
	p := &pops{t: t, addr: k.Addr, pushed: map[string]bool{}, maybe: map[string]bool{}, got: map[string]int{}}
	var producers, consumers sync.WaitGroup
	for id := range 4 {
		conn := k.Dial()
		producers.Go(func() { p.produce(conn, rand.New(rand.NewPCG(uint64(id), 31)), id) })
	}
	for id := range scale(100, 200) {
		consumers.Go(func() { p.consume(rand.New(rand.NewPCG(uint64(id), 32)), id%2 == 0) })
	}
	p.more()
	for range scale(2, 8) {
		reshard(t, c, 1, 2, 300)
		p.more()
		swap(c)
		p.more()
		freeze(c.Nodes[2])
		c.Settle()
		p.more()
	}
	p.noMorePushes.Store(true)
	producers.Wait()
	drain := k.Dial()
	redistest.Eventually(t, 20*time.Second, "the queues are empty", func() bool {
		for i := range queues {
			if drain.Do("EXISTS", queue(i)).Int != 0 {
				return false
			}
		}
		return true
	})
	p.noMorePops.Store(true)
	consumers.Wait()
	missing := p.missing(drain)
	drain.Close()
	s := k.Snapshot()[0]
	moved, asked := redirects(k)
	t.Logf("%d pushed, %d delivered, %d left while they waited; missing %d, of which %d are logged as undelivered "+
		"and at most %d went with a node's connection; late by %v; %d MOVED, %d ASK", len(p.pushed),
		p.delivered.Load(), p.leavers.Load(), missing, s.Undelivered, s.UnknownOutcome, &p.late, moved, asked)
	if uint64(missing) > s.Undelivered+s.UnknownOutcome {
		t.Errorf("%d elements are missing", missing)
	}
	if p.late.at(0.99) > 2*time.Second {
		t.Errorf("clients waited too long: %v", &p.late)
	}
	health(t, k)
}

const queues = 12

func queue(i int) string { return fmt.Sprintf("{q%d}", i) }

// pops is what producers and consumers of the queues know.
type pops struct {
	t    *testing.T
	addr string

	noMorePushes, noMorePops atomic.Bool
	delivered, leavers       atomic.Int64
	late                     histogram // beyond the timeout of the command

	mu            sync.Mutex
	pushed, maybe map[string]bool // elements whose RPUSH succeeded, and has an unknown outcome
	got           map[string]int  // how often each element was delivered
}

// produce pushes elements until the test stops it.
func (p *pops) produce(conn *redistest.Client, rng *rand.Rand, id int) {
	defer conn.Close()
	var tl tally
	for n := 0; !p.noMorePushes.Load(); n++ {
		elem := fmt.Sprintf("%d-%d", id, n)
		r := conn.Do("RPUSH", queue(rng.IntN(queues)), elem)
		p.mu.Lock()
		if r.Kind != '-' {
			p.pushed[elem] = true
		} else if tl.class(r.Text) == unknown {
			p.maybe[elem] = true
		}
		p.mu.Unlock()
		time.Sleep(time.Millisecond) // paces the producers
	}
}

// consume connects, pops elements and leaves, again and again until the test stops it.
func (p *pops) consume(rng *rand.Rand, byPop bool) {
	for !p.noMorePops.Load() {
		conn, err := redistest.TryDial(p.addr)
		if err != nil {
			p.t.Error(err)
			return
		}
		for p.pop(conn, rng, byPop) && !p.noMorePops.Load() {
		}
		conn.Close()
	}
}

// pop waits for an element. It reports whether the client stays.
func (p *pops) pop(conn *redistest.Client, rng *rand.Rand, byPop bool) (stays bool) {
	q := queue(rng.IntN(queues))
	stays = rng.IntN(10) != 0
	if byPop {
		conn.Send("BLPOP", q, "0.5")
	} else {
		conn.Send("BLMOVE", q, q+":done", "LEFT", "RIGHT", "0.5")
	}
	conn.Flush()
	began := time.Now()
	if !stays {
		// The client closes its half of the connection and reads on, so that an element
		// that is on its way to the client counts as delivered.
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		conn.Conn.(*net.TCPConn).CloseWrite()
		p.leavers.Add(1)
	}
	r, err := conn.Receive()
	if err != nil {
		if stays {
			p.t.Errorf("a consumer's connection: %v", err)
		}
		return false
	}
	p.late.add(max(time.Since(began)-500*time.Millisecond, 0))
	elem := r.Text
	if r.Kind == '*' && !r.Null {
		elem = r.Elems[1].Text
	}
	switch {
	case r.Null, strings.HasPrefix(r.Text, "UNBLOCKED "): // its master became a replica
	case r.Kind == '-':
		var tl tally
		tl.class(r.Text)
		if tl.otherErrors.Load() > 0 {
			p.t.Errorf("a consumer got %s", r)
		}
		time.Sleep(5 * time.Millisecond) // a refusal comes at once
	default:
		p.delivered.Add(1)
		p.mu.Lock()
		p.got[elem]++
		p.mu.Unlock()
	}
	return stays
}

// more waits until some more elements are delivered.
func (p *pops) more() {
	p.t.Helper()
	until := p.delivered.Load() + 300
	redistest.Eventually(p.t, 30*time.Second, "elements are delivered", func() bool {
		return p.delivered.Load() >= until
	})
}

// missing returns how many elements were pushed and neither delivered nor moved, and fails
// the test if one was delivered or moved twice, or was never pushed.
func (p *pops) missing(c *redistest.Client) (missing int) {
	moved := map[string]int{}
	for i := range queues {
		for _, e := range c.MustDo("LRANGE", queue(i)+":done", "0", "-1").Elems {
			moved[e.Text]++
		}
	}
	for elem := range p.pushed {
		switch n := p.got[elem]; {
		case n > 1 || moved[elem] > 1:
			p.t.Errorf("%s was delivered %d times and moved %d times", elem, n, moved[elem])
		case n == 0 && moved[elem] == 0:
			missing++
		}
	}
	for elem := range p.got {
		if !p.pushed[elem] && !p.maybe[elem] {
			p.t.Errorf("%s was delivered and never pushed", elem)
		}
	}
	return missing
}
