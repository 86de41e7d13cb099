package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// readers are clients that send nothing but reads, in pipelines, and count what is not
// answered with what is there.
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

// TestNodeClosesConnections has a node that is well close its connections ten times
// under pipelining clients: reads do not fail, commands that were not written are
// executed, and only writes that were on the way are told that nobody knows.
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
