package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// readers are clients that send only reads, in pipelines, and count wrong replies.
type readers struct {
	replies atomic.Int64
	wrong   atomic.Int64
	first   sync.Map
	stopped atomic.Bool
	wg      sync.WaitGroup
}

// startReaders writes the keys that the readers ask for, and starts so many of them.
func startReaders(t *testing.T, addr string, clients, depth int) *readers {
	t.Helper()
	l := new(readers)
	fill := redistest.Dial(t, addr)
	for i := range 100 {
		fill.MustDo("SET", fmt.Sprint("read", i), fmt.Sprint("value", i))
	}
	fill.Do("WAIT", "1", "5000") // a failover must not lose them
	fill.Close()
	for range clients {
		conn := redistest.Dial(t, addr)
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer conn.Close()
			for i := 0; !l.stopped.Load(); i++ {
				for j := range depth {
					conn.Send("GET", fmt.Sprint("read", (i+j)%100))
				}
				if err := conn.Flush(); err != nil {
					t.Errorf("a reader: %v", err)
					return
				}
				for j := range depth {
					r, err := conn.Receive()
					if err != nil {
						t.Errorf("a reader: %v", err)
						return
					}
					l.replies.Add(1)
					if want := fmt.Sprint("value", (i+j)%100); r.Text != want {
						l.wrong.Add(1)
						l.first.LoadOrStore("first", r.String())
					}
				}
			}
		}()
	}
	t.Cleanup(l.halt)
	return l
}

// everywhere has one more client send a command that all masters answer, over and over.
func (l *readers) everywhere(t *testing.T, addr string, args ...string) {
	conn := redistest.Dial(t, addr)
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		defer conn.Close()
		for !l.stopped.Load() {
			r, err := conn.TryDo(args...)
			if err != nil {
				t.Errorf("%v: %v", args, err)
				return
			}
			if l.replies.Add(1); r.Kind == '-' {
				l.wrong.Add(1)
				l.first.LoadOrStore("first", fmt.Sprint(args, ": ", r))
			}
		}
	}()
}

func (l *readers) halt() {
	l.stopped.Store(true)
	l.wg.Wait()
}

// noneFailed stops the readers and requires that every read was answered.
func (l *readers) noneFailed(t *testing.T) {
	t.Helper()
	l.halt()
	first, _ := l.first.Load("first")
	if n := l.wrong.Load(); n > 0 || l.replies.Load() == 0 {
		t.Errorf("%d of %d reads failed, the first with %v", n, l.replies.Load(), first)
	}
}

// TestNodeClosesConnections: a healthy node closes its connections ten times under pipelining
// clients. Reads do not fail, commands that were not written are executed, and only writes
// that were on the way have an unknown outcome.
func TestNodeClosesConnections(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	l := (&load{addr: k.Addr, clients: 4, depth: 100}).start(t)
	reads := startReaders(t, k.Addr, 4, 50)
	for i := range 10 {
		l.more(t, 500)
		if killed := nodes[0].Do("CLIENT", "KILL", "TYPE", "normal"); killed.Int == 0 {
			t.Error("no connection was there to be closed")
		}
		if i%2 == 0 {
			time.Sleep(time.Duration(i) * time.Millisecond) // some soon after they were made
		}
	}
	l.more(t, 500)
	reads.noneFailed(t)
	l.halt()
	t.Logf("%v", &l.tally)
	if l.notExecuted.Load() > 0 || l.otherErrors.Load() > 0 || l.lost.Load() > 0 {
		t.Errorf("%v", &l.tally)
	}
	l.settle(t, k.Addr)
	census(t, k.Addr, nodes)
	health(t, k)
}

// TestClusterFailoverIsAPause kills a master that has a replica, without warning. Reads do not
// fail, not even those of all masters. Commands that were certainly not executed wait for the new
// master, and only writes that were on the way have an unknown outcome.
func TestClusterFailoverIsAPause(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {hold: 30s}\n").Ready()
	first := func(key string) bool { return int(keySlot(key)) < 16384/3 }
	l := (&load{addr: k.Addr, clients: 20, lossy: first}).start(t)
	reads := startReaders(t, k.Addr, 4, 20)
	for _, cmd := range [][]string{{"DBSIZE"}, {"KEYS", "read*"}, {"SCAN", "0"}} {
		reads.everywhere(t, k.Addr, cmd...)
	}
	l.more(t, 5_000)
	began := time.Now()
	c.Nodes[0].Kill()
	redistest.Eventually(t, 30*time.Second, "the replica is promoted", func() bool { return c.Owner(3, 0) == 3 })
	promoted := time.Since(began)
	onlyUnknown(t, k, l, reads)
	t.Logf("promoted after %s", promoted)
	census(t, k.Addr, c.Nodes[1:])
	health(t, k)
}

// TestSentinelFailoverIsAPause: the same with masters that sentinels watch.
func TestSentinelFailoverIsAPause(t *testing.T) {
	t.Parallel()
	w := redistest.NewWatched(t, "east", "west")
	k := redistest.Serve(t, "layout: ring\n"+w.NodesYAML()+"backend: {hold: 60s}\n").Ready()
	l := (&load{addr: k.Addr, clients: 20, lossy: func(string) bool { return true }}).start(t)
	reads := startReaders(t, k.Addr, 4, 20)
	l.more(t, 5_000)
	announced := w.Announced(0, "east")
	w.Masters[0].Kill()
	select {
	case <-announced:
	case <-time.After(redistest.Deliberate):
		t.Fatal("the sentinels announce nothing")
	}
	onlyUnknown(t, k, l, reads)
	health(t, k)
}

// onlyUnknown continues the load after a failover. It fails the test if a client has got an
// error other than that the outcome of a write is unknown.
func onlyUnknown(t *testing.T, k *redistest.Keyway, l *load, reads *readers) {
	t.Helper()
	l.more(t, 5_000)
	reads.noneFailed(t)
	l.halt()
	overtaken := int64(k.Snapshot()[0].Overtaken)
	if l.notExecuted.Load() > overtaken || l.otherErrors.Load() > 0 || l.lost.Load() > 0 {
		t.Errorf("%v; %d commands were overtaken", &l.tally, overtaken)
	}
	if l.unknown.Load() > int64(l.clients*l.depth) {
		t.Errorf("more is unknown than can have been on the way: %v", &l.tally)
	}
	t.Logf("%v", &l.tally)
	l.settle(t, k.Addr)
}
