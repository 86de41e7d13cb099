package faults

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// cache is a client that keeps what it has read until it is told otherwise.
type cache struct {
	mu     sync.Mutex
	values map[string]string
	hits   atomic.Int64
}

// run reads keys at random until stop, over as many connections as it takes.
func (m *cache) run(t *testing.T, addr string, mode []string, keys []string, rng *rand.Rand, stop *atomic.Bool) {
	for !stop.Load() {
		c, err := redistest.TryDial(addr)
		if err != nil {
			t.Error(err)
			return
		}
		m.forget(nil)
		m.talk(t, c, mode, keys, rng, stop)
		c.Close()
	}
}

func (m *cache) forget(key *string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key == nil {
		m.values = map[string]string{}
	} else {
		delete(m.values, *key)
	}
}

func (m *cache) talk(t *testing.T, c *redistest.Client, mode, keys []string, rng *rand.Rand, stop *atomic.Bool) {
	for _, args := range [][]string{{"HELLO", "3"}, append([]string{"CLIENT", "TRACKING", "ON"}, mode...)} {
		if r, err := c.TryDo(args...); err != nil || r.Kind == '-' {
			return // a node cannot be reached: again
		}
	}
	asked, free := make(chan string, 1), make(chan bool, 1) // the key of the GET that is under way; there is none
	free <- true
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			r, err := c.Receive()
			switch {
			case err != nil:
				return
			case r.Kind == '>' && r.Elems[0].Text == "invalidate" && r.Elems[1].Null:
				m.forget(nil)
			case r.Kind == '>' && r.Elems[0].Text == "invalidate":
				for _, key := range r.Elems[1].Elems {
					m.forget(&key.Text)
				}
			case r.Kind == '>':
				t.Errorf("pushed: %s", r)
			default:
				var key string
				select {
				case key = <-asked:
				default:
					t.Errorf("a reply that was not asked for: %c%s", r.Kind, r)
					return
				}
				if r.Kind != '-' {
					m.mu.Lock()
					m.values[key] = r.Text
					m.mu.Unlock()
				}
				free <- true
			}
		}
	}()
	ask := func(key string) bool {
		select {
		case <-free:
		case <-done:
			return false
		}
		asked <- key
		c.Send("GET", key)
		return c.Flush() == nil
	}
	for !stop.Load() {
		key := keys[rng.IntN(len(keys))]
		m.mu.Lock()
		_, has := m.values[key]
		m.mu.Unlock()
		if has {
			m.hits.Add(1)
		} else if !ask(key) {
			return
		}
		time.Sleep(200 * time.Microsecond) // paces the readers
	}
	time.Sleep(time.Second) // what is still to be said
	c.Close()
	<-done
}

// TestTrackingUnderFaults has clients cache what they read, in every mode, while
// others write and connections are cut, slots move, a master changes place with
// its replica and a node freezes: when all is quiet nobody holds a value that is
// not the last.
func TestTrackingUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"threads: 2\nbackend: {request_timeout: 500ms}\n").Ready()
	var keys []string
	for i := range 60 {
		keys = append(keys, fmt.Sprintf("cached:%d", i))
	}
	var stop, quiet atomic.Bool
	var writes atomic.Int64
	var readers, writers sync.WaitGroup
	var caches []*cache
	for id := range 12 {
		m := &cache{values: map[string]string{}}
		caches = append(caches, m)
		readers.Add(1)
		go func() {
			defer readers.Done()
			mode := [][]string{nil, {"NOLOOP"}, {"BCAST"}, {"BCAST", "PREFIX", "cached:"}}[id%4]
			m.run(t, k.Addr, mode, keys, rand.New(rand.NewPCG(uint64(id), 51)), &stop)
		}()
	}
	for id := range 3 {
		w := k.Dial()
		writers.Add(1)
		go func() {
			defer writers.Done()
			defer w.Close()
			rng := rand.New(rand.NewPCG(uint64(id), 52))
			for n := 0; !quiet.Load(); n++ {
				if r := w.Do("SET", keys[rng.IntN(len(keys))], fmt.Sprintf("%d-%d", id, n)); r.Kind != '-' {
					writes.Add(1)
				}
				time.Sleep(500 * time.Microsecond) // paces the writers
			}
		}()
	}
	goOn := func() {
		until := writes.Load() + 300
		redistest.Eventually(t, 20*time.Second, "writes go on", func() bool { return writes.Load() >= until })
	}
	for round := range scale(2, 10) {
		goOn()
		cut(t, c.Nodes[round%3])
		goOn()
		reshard(t, c, 1, 2, 300)
		goOn()
		swap(c)
		goOn()
		freeze(c.Nodes[2])
		goOn()
		c.Settle()
	}
	quiet.Store(true)
	writers.Wait()
	k.Ready()
	time.Sleep(500 * time.Millisecond) // for readers that had no node to read from
	stop.Store(true)
	readers.Wait()
	check := k.Dial()
	held, hits := 0, int64(0)
	for id, m := range caches {
		for key, value := range m.values {
			held++
			if now := check.MustDo("GET", key).Text; now != value {
				t.Errorf("client %d holds %s for %s, which is %s", id, strconv.Quote(value), key, strconv.Quote(now))
			}
		}
		hits += m.hits.Load()
	}
	check.Close()
	t.Logf("%d writes, %d reads from caches; %d values held at the end", writes.Load(), hits, held)
	if held == 0 || hits == 0 {
		t.Error("nothing was cached")
	}
	health(t, k)
}
