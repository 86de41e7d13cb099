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
// blind MULTI, while slots move, masters change places with replicas and nodes die, come
// back and freeze. The sums stay the same, each EXEC is executed as a whole or not at all,
// and no connection is left over.
func TestTransactionsUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 1s}\n").Ready()
	b := &bank{t: t}
	b.open(k.Dial())
	var wg sync.WaitGroup
	for id := range 20 {
		conn := k.Dial()
		wg.Go(func() { b.transferAll(conn, rand.New(rand.NewPCG(uint64(id), 21))) })
	}
	b.more()
	for round := range scale(2, 8) {
		reshard(t, c, 1, 2, 300)
		b.more()
		swap(c)
		b.more()
		n := c.Nodes[1+round%2] // back before the cluster takes it for dead
		n.Kill()
		n.Run()
		c.Settle()
		b.more()
		freeze(c.Nodes[2])
		b.more()
		c.Settle()
	}
	b.stop.Store(true)
	wg.Wait()
	b.audit(k.Dial())
	moved, asked := redirects(k)
	t.Logf("%d transactions, %d conflicts, %d aborted, %d unknown; %d MOVED, %d ASK followed",
		b.done.Load(), b.conflicts.Load(), b.aborted.Load(), b.unknowns.Load(), moved, asked)
	losses := uint64(0)
	for _, n := range k.Snapshot()[0].Nodes {
		losses += n.Losses
	}
	if b.conflicts.Load() == 0 || losses == 0 || moved == 0 {
		t.Error("no conflict or no fault was met")
	}
	health(t, k)
}

// bank is groups of accounts, each group in one slot, and what its clients have seen.
type bank struct {
	t    *testing.T
	stop atomic.Bool

	done, conflicts, aborted, unknowns atomic.Int64
}

const groups, accounts, balance = 12, 5, 1000

func account(group, i int) string { return fmt.Sprintf("{bank%d}:%d", group, i) }

// open puts the first balance into every account.
func (b *bank) open(c *redistest.Client) {
	b.t.Helper()
	defer c.Close()
	for g := range groups {
		for a := range accounts {
			c.MustDo("SET", account(g, a), strconv.Itoa(balance))
		}
	}
}

// audit fails the test if the sum of a group has changed.
func (b *bank) audit(c *redistest.Client) {
	b.t.Helper()
	defer c.Close()
	for g := range groups {
		total := 0
		for a := range accounts {
			n, err := strconv.Atoi(c.MustDo("GET", account(g, a)).Text)
			if err != nil {
				b.t.Fatal(err)
			}
			total += n
		}
		if total != accounts*balance {
			b.t.Errorf("the accounts of bank %d hold %d, they held %d", g, total, accounts*balance)
		}
	}
}

// transferAll makes transfers until the end, or until one fails the test.
func (b *bank) transferAll(conn *redistest.Client, rng *rand.Rand) {
	defer conn.Close()
	var tl tally
	for !b.stop.Load() {
		g, from, to, sum := rng.IntN(groups), rng.IntN(accounts), rng.IntN(accounts), 1+rng.IntN(9)
		if from == to {
			continue
		}
		transfer := b.transferBlind
		if rng.IntN(2) > 0 {
			transfer = b.transferWatched
		}
		if transfer(conn, account(g, from), account(g, to), sum, &tl) && !b.execute(conn, &tl) {
			return
		}
		if tl.otherErrors.Load() > 0 {
			b.t.Errorf("errors of no class: %v", &tl)
			return
		}
	}
}

// transferBlind sends a transaction that changes two balances.
func (b *bank) transferBlind(conn *redistest.Client, from, to string, sum int, _ *tally) (sent bool) {
	conn.Send("MULTI")
	conn.Send("DECRBY", from, strconv.Itoa(sum))
	conn.Send("INCRBY", to, strconv.Itoa(sum))
	conn.Send("EXEC")
	return true
}

// transferWatched sends a transaction that sets two balances, if they can be watched and read.
func (b *bank) transferWatched(conn *redistest.Client, from, to string, sum int, tl *tally) (sent bool) {
	if r := conn.Do("WATCH", from, to); r.Kind == '-' {
		tl.class(r.Text)
		return false
	}
	values := conn.Do("MGET", from, to)
	if len(values.Elems) != 2 || values.Elems[0].Kind == '-' || values.Elems[1].Kind == '-' {
		conn.Do("UNWATCH")
		return false
	}
	x, err1 := strconv.Atoi(values.Elems[0].Text)
	y, err2 := strconv.Atoi(values.Elems[1].Text)
	if err1 != nil || err2 != nil {
		tl.count(&tl.otherErrors, "balance", "accounts hold %s", values)
		return false
	}
	conn.Send("MULTI")
	conn.Send("SET", from, strconv.Itoa(x-sum))
	conn.Send("SET", to, strconv.Itoa(y+sum))
	conn.Send("EXEC")
	return true
}

// execute reads the replies of a transaction. It reports whether the client can go on.
func (b *bank) execute(conn *redistest.Client, tl *tally) bool {
	conn.Flush()
	for i := range 3 {
		if r, err := conn.Receive(); err != nil || r.Text != []string{"OK", "QUEUED", "QUEUED"}[i] {
			b.t.Errorf("%s %v", r, err)
			return false
		}
	}
	switch r, err := conn.Receive(); {
	case err != nil:
		b.t.Error(err)
		return false
	case r.Null:
		b.conflicts.Add(1)
	case r.Kind == '*' && len(r.Elems) == 2 && r.Elems[0].Kind != '-' && r.Elems[1].Kind != '-':
		b.done.Add(1)
	case strings.HasPrefix(r.Text, "EXECABORT"):
		b.aborted.Add(1)
	case r.Kind == '-':
		if tl.class(r.Text) == unknown {
			b.unknowns.Add(1)
		}
	default:
		b.t.Errorf("EXEC: %s", r)
		return false
	}
	return true
}

// more waits until some more transactions are done.
func (b *bank) more() {
	b.t.Helper()
	until := b.done.Load() + 500
	redistest.Eventually(b.t, 30*time.Second, "transactions go on", func() bool { return b.done.Load() >= until })
}
