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

// TestBlockingUnderFaults has consumers wait for elements that producers push, by BLPOP
// and BLMOVE, and leave while they wait, while slots move, masters change
// places with replicas and a node freezes: what was pushed was delivered once,
// or is still there, or is accounted for; nobody waits longer than he said; and
// no connection is left over.
func TestBlockingUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 1s}\n").Ready()
	const queues = 12
	queue := func(i int) string { return fmt.Sprintf("{q%d}", i) }
	var mu sync.Mutex
	pushed, maybe, got := map[string]bool{}, map[string]bool{}, map[string]int{}
	var delivered, leavers atomic.Int64
	var late histogram
	var producing, consuming atomic.Bool
	producing.Store(true)
	consuming.Store(true)
	var producers, consumers sync.WaitGroup
	for id := range 4 {
		conn := k.Dial()
		producers.Add(1)
		go func() {
			defer producers.Done()
			defer conn.Close()
			rng := rand.New(rand.NewPCG(uint64(id), 31))
			var tl tally
			for n := 0; producing.Load(); n++ {
				elem := fmt.Sprintf("%d-%d", id, n)
				r := conn.Do("RPUSH", queue(rng.IntN(queues)), elem)
				mu.Lock()
				if r.Kind != '-' {
					pushed[elem] = true
				} else if tl.class(r.Text) == unknown {
					maybe[elem] = true
				}
				mu.Unlock()
				time.Sleep(time.Millisecond) // paces the producers
			}
		}()
	}
	for id := range scale(100, 200) {
		consumers.Add(1)
		go func() {
			defer consumers.Done()
			rng := rand.New(rand.NewPCG(uint64(id), 32))
			var tl tally
			for consuming.Load() {
				conn, err := redistest.TryDial(k.Addr)
				if err != nil {
					t.Error(err)
					return
				}
				for open := true; open && consuming.Load(); {
					q := queue(rng.IntN(queues))
					leave := rng.IntN(10) == 0
					if id%2 == 0 {
						conn.Send("BLPOP", q, "0.5")
					} else {
						conn.Send("BLMOVE", q, q+":done", "LEFT", "RIGHT", "0.5")
					}
					conn.Flush()
					began := time.Now()
					if leave {
						// It says that it leaves and reads on, so that what was on
						// its way to it counts.
						time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
						conn.Conn.(*net.TCPConn).CloseWrite()
						leavers.Add(1)
						open = false
					}
					r, err := conn.Receive()
					if err != nil {
						if !leave {
							t.Errorf("a consumer's connection: %v", err)
						}
						break
					}
					late.add(max(time.Since(began)-500*time.Millisecond, 0))
					elem := r.Text
					if r.Kind == '*' && !r.Null {
						elem = r.Elems[1].Text
					}
					switch {
					case r.Null:
					case r.Kind == '-':
						if strings.HasPrefix(r.Text, "UNBLOCKED ") {
							continue // its master became a replica
						}
						tl.class(r.Text)
						if tl.otherErrors.Load() > 0 {
							t.Errorf("a consumer got %s", r)
						}
						time.Sleep(5 * time.Millisecond) // a refusal comes at once
					default:
						delivered.Add(1)
						mu.Lock()
						got[elem]++
						mu.Unlock()
					}
				}
				conn.Close()
			}
		}()
	}
	goOn := func() {
		until := delivered.Load() + 300
		redistest.Eventually(t, 30*time.Second, "elements are delivered", func() bool { return delivered.Load() >= until })
	}
	goOn()
	for range scale(2, 8) {
		reshard(t, c, 1, 2, 300)
		goOn()
		swap(c)
		goOn()
		freeze(c.Nodes[2])
		c.Settle()
		goOn()
	}
	producing.Store(false)
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
	consuming.Store(false)
	consumers.Wait()
	moved := map[string]int{}
	for i := range queues {
		for _, e := range drain.MustDo("LRANGE", queue(i)+":done", "0", "-1").Elems {
			moved[e.Text]++
		}
	}
	drain.Close()
	missing := 0
	for elem := range pushed {
		switch n := got[elem]; {
		case n > 1 || moved[elem] > 1:
			t.Errorf("%s was delivered %d times and moved %d times", elem, n, moved[elem])
		case n == 0 && moved[elem] == 0:
			missing++
		}
	}
	for elem := range got {
		if !pushed[elem] && !maybe[elem] {
			t.Errorf("%s was delivered and never pushed", elem)
		}
	}
	s := k.Snapshot()[0]
	movedTo, asked := redirects(k)
	t.Logf("%d pushed, %d delivered, %d left while they waited; missing %d, of which %d are logged as undelivered and at most %d went with a node's connection; late by %v; %d MOVED, %d ASK",
		len(pushed), delivered.Load(), leavers.Load(), missing, s.Undelivered, s.UnknownOutcome, &late, movedTo, asked)
	if uint64(missing) > s.Undelivered+s.UnknownOutcome {
		t.Errorf("%d elements are missing", missing)
	}
	if late.at(0.99) > 2*time.Second {
		t.Errorf("clients waited too long: %v", &late)
	}
	health(t, k)
}
