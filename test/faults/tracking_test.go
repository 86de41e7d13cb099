package faults

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// cache is a client that keeps the values that it has read until they are invalidated.
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
		m.receive(t, c, asked, free)
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

// receive handles replies and invalidations until the connection is closed.
func (m *cache) receive(t *testing.T, c *redistest.Client, asked <-chan string, free chan<- bool) {
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
}

// TestTrackingUnderFaults: clients cache the values that they read, in every mode, while
// others write and connections are cut, slots move, a master and its replica change roles
// and a node freezes. At the end no client has an old value in its cache.
func TestTrackingUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"threads: 2\nbackend: {request_timeout: 500ms}\n").Ready()
	keys := make([]string, 60)
	for i := range keys {
		keys[i] = fmt.Sprintf("cached:%d", i)
	}
	var readers, writers sync.WaitGroup
	var stop, quiet atomic.Bool // end the readers, the writers
	var writes atomic.Int64
	caches := make([]*cache, 12)
	for id := range caches {
		m := &cache{values: map[string]string{}}
		caches[id] = m
		readers.Go(func() {
			mode := [][]string{nil, {"NOLOOP"}, {"BCAST"}, {"BCAST", "PREFIX", "cached:"}}[id%4]
			m.run(t, k.Addr, mode, keys, rand.New(rand.NewPCG(uint64(id), 51)), &stop)
		})
	}
	for id := range 3 {
		w := k.Dial()
		writers.Go(func() {
			defer w.Close()
			rng := rand.New(rand.NewPCG(uint64(id), 52))
			for n := 0; !quiet.Load(); n++ {
				if r := w.Do("SET", keys[rng.IntN(60)], fmt.Sprintf("%d-%d", id, n)); r.Kind != '-' {
					writes.Add(1)
				}
				time.Sleep(500 * time.Microsecond) // paces the writers
			}
		})
	}
	for round := range scale(2, 10) {
		moreThan(t, &writes, 300)
		cut(t, c.Nodes[round%3])
		moreThan(t, &writes, 300)
		reshard(t, c, 1, 2, 300)
		moreThan(t, &writes, 300)
		swap(c)
		moreThan(t, &writes, 300)
		freeze(c.Nodes[2])
		moreThan(t, &writes, 300)
		c.Settle()
	}
	quiet.Store(true)
	writers.Wait()
	k.Ready()
	time.Sleep(500 * time.Millisecond) // for readers that had no node to read from
	stop.Store(true)
	readers.Wait()
	values, hits := upToDate(t, k, caches)
	t.Logf("%d writes, %d reads from caches; %d cached values at the end", writes.Load(), hits, values)
	if values == 0 || hits == 0 {
		t.Error("nothing was cached")
	}
	health(t, k)
}

// upToDate fails the test if a cached value is not the last one. It returns the number of
// cached values, and of reads from caches.
func upToDate(t *testing.T, k *redistest.Keyway, caches []*cache) (values int, hits int64) {
	t.Helper()
	c := k.Dial()
	defer c.Close()
	for id, m := range caches {
		for key, value := range m.values {
			values++
			if now := c.MustDo("GET", key).Text; now != value {
				t.Errorf("client %d has cached %q for %s, which is %q", id, value, key, now)
			}
		}
		hits += m.hits.Load()
	}
	return values, hits
}

// moreThan waits until a counter has grown by n.
func moreThan(t *testing.T, counter *atomic.Int64, n int64) {
	t.Helper()
	until := counter.Load() + n
	redistest.Eventually(t, 20*time.Second, "clients go on", func() bool { return counter.Load() >= until })
}
