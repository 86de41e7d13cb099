package faults

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestTransactionsUnderFaults moves money between accounts, by WATCH and retry and by
// blind MULTI, while slots move, masters change places with replicas and nodes
// die, come back and freeze: the sums stay, each EXEC acts wholly or not at all, and no
// connection is left over.
func TestTransactionsUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 1s}\n").Ready()
	const groups, accounts, start = 12, 5, 1000
	account := func(g, a int) string { return fmt.Sprintf("{bank%d}:%d", g, a) }
	setup := k.Dial()
	for g := range groups {
		for a := range accounts {
			setup.MustDo("SET", account(g, a), strconv.Itoa(start))
		}
	}
	setup.Close()
	var stop atomic.Bool
	var done, conflicts, aborted, unknowns atomic.Int64
	var wg sync.WaitGroup
	for id := range 20 {
		conn := k.Dial()
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer conn.Close()
			rng := rand.New(rand.NewPCG(uint64(id), 21))
			var tl tally
			for !stop.Load() {
				g, from, to, sum := rng.IntN(groups), rng.IntN(accounts), rng.IntN(accounts), 1+rng.IntN(9)
				if from == to {
					continue
				}
				a, b := account(g, from), account(g, to)
				if rng.IntN(2) == 0 {
					conn.Send("MULTI")
					conn.Send("DECRBY", a, strconv.Itoa(sum))
					conn.Send("INCRBY", b, strconv.Itoa(sum))
					conn.Send("EXEC")
				} else {
					if r := conn.Do("WATCH", a, b); r.Kind == '-' {
						tl.class(r.Text)
						continue
					}
					values := conn.Do("MGET", a, b)
					if len(values.Elems) != 2 || values.Elems[0].Kind == '-' || values.Elems[1].Kind == '-' {
						conn.Do("UNWATCH")
						continue
					}
					x, err1 := strconv.Atoi(values.Elems[0].Text)
					y, err2 := strconv.Atoi(values.Elems[1].Text)
					if err1 != nil || err2 != nil {
						t.Errorf("accounts hold %s", values)
						return
					}
					conn.Send("MULTI")
					conn.Send("SET", a, strconv.Itoa(x-sum))
					conn.Send("SET", b, strconv.Itoa(y+sum))
					conn.Send("EXEC")
				}
				conn.Flush()
				for i := range 3 {
					if r, err := conn.Receive(); err != nil || r.Text != []string{"OK", "QUEUED", "QUEUED"}[i] {
						t.Errorf("%s %v", r, err)
						return
					}
				}
				switch r, err := conn.Receive(); {
				case err != nil:
					t.Error(err)
					return
				case r.Null:
					conflicts.Add(1)
				case r.Kind == '*' && len(r.Elems) == 2 && r.Elems[0].Kind != '-' && r.Elems[1].Kind != '-':
					done.Add(1)
				case strings.HasPrefix(r.Text, "EXECABORT"):
					aborted.Add(1)
				case r.Kind == '-':
					if tl.class(r.Text) == unknown {
						unknowns.Add(1)
					}
				default:
					t.Errorf("EXEC: %s", r)
					return
				}
				if tl.otherErrors.Load() > 0 {
					t.Errorf("errors of no class: %v", &tl)
					return
				}
			}
		}()
	}
	goOn := func() {
		until := done.Load() + 500
		redistest.Eventually(t, 30*time.Second, "transactions go on", func() bool { return done.Load() >= until })
	}
	goOn()
	for round := range scale(2, 8) {
		reshard(t, c, 1, 2, 300)
		goOn()
		swap(c)
		goOn()
		n := c.Nodes[1+round%2] // back before the cluster takes it for dead
		n.Kill()
		n.Run()
		c.Settle()
		goOn()
		freeze(c.Nodes[2])
		goOn()
		c.Settle()
	}
	stop.Store(true)
	wg.Wait()
	check := k.Dial()
	for g := range groups {
		total := 0
		for a := range accounts {
			n, err := strconv.Atoi(check.MustDo("GET", account(g, a)).Text)
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
		if total != accounts*start {
			t.Errorf("the accounts of bank %d hold %d, they held %d", g, total, accounts*start)
		}
	}
	check.Close()
	moved, asked := redirects(k)
	t.Logf("%d transactions, %d conflicts, %d aborted, %d unknown; %d MOVED, %d ASK followed", done.Load(), conflicts.Load(), aborted.Load(), unknowns.Load(), moved, asked)
	losses := uint64(0)
	for _, n := range k.Snapshot()[0].Nodes {
		losses += n.Losses
	}
	if conflicts.Load() == 0 || losses == 0 || moved == 0 {
		t.Error("no conflict or no fault was met")
	}
	health(t, k)
}
