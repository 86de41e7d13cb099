package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// The tests of this file are about outcomes: acknowledged writes are there, refused ones are
// not, and none is executed twice.

// durable are options with which a node that is killed has lost nothing it
// acknowledged: it has written before it answers.
var durable = []string{"--appendonly", "yes", "--appendfsync", "no"}

// onRequest are options of a cluster whose nodes are durable and whose replicas take
// over only when they are asked to: a node that freezes, or is killed and started
// again, is not replaced, however long that takes on a busy machine.
var onRequest = append([]string{"--cluster-replica-no-failover", "yes"}, durable...)

// TestNodesKilledWithoutFailover kills and restarts nodes that keep an append-only
// file.
func TestNodesKilledWithoutFailover(t *testing.T) {
	var nodes []*redistest.Node
	for range 3 {
		nodes = append(nodes, redistest.Start(t, durable...))
	}
	k := redistest.Serve(t, redistest.Layouts(nodes)["modulo"]).Ready()
	l := (&load{addr: k.Addr, clients: 20, within: 5 * time.Second}).start(t)
	rng := rand.New(rand.NewPCG(5, 5))
	for range scale(5, 20) {
		n := nodes[rng.IntN(3)]
		l.more(t, 10_000) // while the node is up,
		n.Kill()
		l.more(t, 10_000) // and while it is down
		n.Run()
	}
	l.more(t, 10_000)
	l.halt()
	k.Ready()
	if l.notExecuted.Load() == 0 || l.unknown.Load() == 0 {
		t.Error("no node was missed: the test has tested nothing")
	}
	l.settle(t, k.Addr)
	census(t, k.Addr, nodes)
	health(t, k)
}

// TestKilledKeywayLosesNothing kills keyway itself under load and starts it again: no
// acknowledged write is lost, and the new process delivers no reply of the old one.
func TestKilledKeywayLosesNothing(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	p := redistest.ServeProcess(t, redistest.Layouts(nodes)["ring"])
	l := (&load{addr: p.Addr, clients: 20, reconnect: true}).start(t)
	var slowest time.Duration
	for range scale(4, 12) {
		l.more(t, 20_000)
		p.Kill()
		began := time.Now()
		p.Restart()
		p.Answers()
		slowest = max(slowest, time.Since(began))
	}
	l.more(t, 20_000)
	l.halt()
	t.Logf("from start to first reply at most %s", slowest.Round(time.Millisecond))
	if l.lost.Load() == 0 {
		t.Error("no client has noticed: nothing was tested")
	}
	l.settle(t, p.Addr)
	census(t, p.Addr, nodes)
}

// TestFrozenKeywayMixesNoReplies stops keyway for longer than every deadline, with
// pipelines in flight.
func TestFrozenKeywayMixesNoReplies(t *testing.T) {
	redistest.OfAProcess(t)
	t.Parallel()
	nodes := redistest.Three(t)
	p := redistest.ServeProcess(t, redistest.Layouts(nodes)["slots"]+"backend: {request_timeout: 500ms}\n")
	l := (&load{addr: p.Addr, clients: 50, depth: 64}).start(t)
	for range scale(3, 10) {
		l.more(t, 20_000)
		p.Freeze()
		time.Sleep(time.Duration(scale(2, 10)) * time.Second) // the fault itself
		p.Thaw()
	}
	l.more(t, 20_000)
	l.halt()
	l.settle(t, p.Addr)
	census(t, p.Addr, nodes)
}

// TestScriptsActOnceWhileSlotsMove runs scripts while slots move and nodes forget the scripts.
// Honest scripts never fail and are executed once. The errors that others return reach their
// callers, and keyway does not connect to addresses in them.
func TestScriptsActOnceWhileSlotsMove(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 0)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	trap, trapped := redistest.Trap(t)
	s := &scripts{t: t, nodes: c.Nodes, trap: trap}
	loader := k.Dial()
	s.honestSHA, s.liarSHA = loader.MustDo("SCRIPT", "LOAD", honest).Text, loader.MustDo("SCRIPT", "LOAD", liar).Text
	loader.Close()
	calls := int64(scale(10_000, 100_000))
	var wg sync.WaitGroup
	counts := make([]map[string]int64, 10)
	for id := range counts {
		counts[id] = map[string]int64{}
		conn := k.Dial()
		wg.Go(func() { s.call(conn, id, counts[id]) })
	}
	from, to := 0, 1
	met := func() bool { moved, _ := redirects(k); return moved > 0 && k.Snapshot()[0].NoScript > 0 }
	for round := 0; (s.done.Load() < calls || !met()) && round < 60 && !t.Failed(); round++ {
		reshard(t, c, from, to, 300)
		c.Nodes[round%3].Do("SCRIPT", "FLUSH")
		if round%4 == 3 {
			from, to = to, from
		}
	}
	s.enough.Store(true)
	wg.Wait()
	moved, asked := redirects(k)
	t.Logf("%d calls, %d MOVED and %d ASK followed, %d scripts sent again",
		s.done.Load(), moved, asked, k.Snapshot()[0].NoScript)
	check := k.Dial()
	for _, m := range counts {
		for key, n := range m {
			check.Expect(fmt.Sprint(n), "GET", key)
		}
	}
	check.Close()
	if n := trapped.Load(); n > 0 {
		t.Errorf("%d connections were made to where scripts pointed", n)
	}
	if !met() {
		t.Error("no script met a slot that moved, or a node that had forgotten it")
	}
	census(t, k.Addr, c.Nodes)
	health(t, k)
}

// honest counts its calls. liar also does, but then returns an error that its caller chooses.
const (
	honest = "return redis.call('INCR', KEYS[1])"
	liar   = "redis.call('INCR', KEYS[1]) return redis.error_reply(ARGV[1])"
)

// scripts are clients that call scripts.
type scripts struct {
	t                  *testing.T
	honestSHA, liarSHA string
	nodes              []*redistest.Node
	trap               string // an address that must not be connected to
	done               atomic.Int64
	enough             atomic.Bool
}

// call calls scripts until enough, and checks the replies. counts has the calls by key.
func (s *scripts) call(conn *redistest.Client, id int, counts map[string]int64) {
	defer conn.Close()
	rng := rand.New(rand.NewPCG(uint64(id), 3))
	for !s.enough.Load() {
		key := fmt.Sprintf("p5:%d:%d", id, rng.IntN(50))
		lie := s.lie(rng, keySlot(key))
		var args []string
		lying := rng.IntN(2) == 0
		switch {
		case lying && rng.IntN(2) == 0:
			args = []string{"EVALSHA", s.liarSHA, "1", key, lie}
		case lying:
			args = []string{"EVAL", liar, "1", key, lie}
		default:
			args = []string{"EVALSHA", s.honestSHA, "1", key}
		}
		r, err := conn.TryDo(args...)
		counts[key]++
		switch {
		case err != nil:
			s.t.Errorf("%q: %v", args, err)
			return
		case lying && (r.Kind != '-' || r.Text != lie):
			s.t.Errorf("%q: %s", args, r)
		case !lying && r.Int != counts[key]:
			s.t.Errorf("%q: %s, want %d", args, r, counts[key])
			return
		}
		s.done.Add(1)
	}
}

// lie returns an error that a node might return for a slot.
func (s *scripts) lie(rng *rand.Rand, slot uint16) string {
	lies := []string{
		"TRYAGAIN x", "NOSCRIPT spoof", "LOADING x", "CLUSTERDOWN x", "READONLY x", "MASTERDOWN x", "ERR x",
		"NOSCRIPT No matching script. Please use EVAL.", "LOADING Redis is loading the dataset in memory",
		"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down",
	}
	lies = append(lies,
		fmt.Sprintf("MOVED %d %s", slot, s.trap), fmt.Sprintf("ASK %d %s", slot, s.trap),
		fmt.Sprintf("MOVED %d %s", slot, s.nodes[rng.IntN(3)].Addr))
	return lies[rng.IntN(len(lies))]
}

// TestSplitCommandsUnderFaults sends commands of 0 to 1,000 keys, some of them twice,
// over three nodes. One of them is well, down, frozen or returns errors. Every command gets
// one reply, values are in the order of their keys, and clients that leave meanwhile do not
// affect others.
func TestSplitCommandsUnderFaults(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	var broken atomic.Bool
	f := redistest.NewFaults(t, nodes[1].Addr, func(int) redistest.Plan {
		return redistest.Plan{Reply: func(n int, reply []byte) ([]byte, time.Duration) {
			if broken.Load() && n > 0 { // the first is the greeting's
				return []byte("-ERR injected\r\n"), 0
			}
			return reply, 0
		}}
	})
	behind := []*redistest.Node{nodes[0], {Addr: f.Addr}, nodes[2]}
	yaml := redistest.Layouts(behind)["slots"] + "backend: {request_timeout: 300ms, integrity: 0}\n"
	k := redistest.Serve(t, yaml).Ready()
	rng := rand.New(rand.NewPCG(1, 5))
	for _, state := range []struct {
		name        string
		start, stop func()
	}{
		{"well", func() {}, func() {}},
		{"in error", func() { broken.Store(true) }, func() { broken.Store(false) }},
		{"frozen", nodes[1].Freeze, nodes[1].Thaw},
		{"down", nodes[1].Kill, nodes[1].Run},
	} {
		t.Run(state.name, func(t *testing.T) {
			k.Ready()
			c := k.Dial()
			model := setMany(t, c)
			state.start()
			defer state.stop()
			for round := range scale(60, 1000) {
				n := [...]int{0, 1, 2, 3, 10, 100, 1000}[rng.IntN(7)]
				keys := make([]string, n)
				for i := range keys {
					keys[i] = fmt.Sprintf("d5:%d", rng.IntN(1600)) // some are not there
				}
				if round%5 == 4 { // one who leaves in the middle
					gone := k.Dial()
					gone.Send(append([]string{"MGET"}, keys...)...)
					gone.Send(append([]string{"EXISTS"}, keys...)...)
					gone.Flush()
					gone.Close()
					continue
				}
				checkSplit(t, c, keys, model, state.name == "well")
				if t.Failed() {
					return
				}
			}
			c.Close()
		})
	}
	health(t, k)
}

// setMany sets 1,500 keys, and returns their values.
func setMany(t *testing.T, c *redistest.Client) map[string]string {
	t.Helper()
	model := map[string]string{}
	for i := range 1500 {
		key := fmt.Sprintf("d5:%d", i)
		model[key] = redistest.Identify(key, 1, i, 20)
		c.Send("SET", key, model[key])
	}
	c.Flush()
	for range model {
		if r, err := c.Receive(); err != nil || r.Text != "OK" {
			t.Fatal(r, err)
		}
	}
	return model
}

// checkSplit sends reads, and writes that change nothing, of all keys.
func checkSplit(t *testing.T, c *redistest.Client, keys []string, model map[string]string, well bool) {
	t.Helper()
	there := int64(0)
	pairs := []string{"MSET"}
	for _, key := range keys {
		if model[key] != "" {
			there++
			pairs = append(pairs, key, model[key])
		}
	}
	own := func(key string) bool { s := keySlot(key); return s >= 5461 && s <= 10922 } // on the second node
	touched := false
	for _, key := range keys {
		touched = touched || own(key)
	}
	r := c.Do(append([]string{"MGET"}, keys...)...)
	switch {
	case len(keys) == 0:
		if r.Text != "ERR wrong number of arguments for 'mget' command" {
			t.Errorf("MGET of nothing: %s", r)
		}
	case r.Kind == '-' && !well && touched: // all keys on the one node
	case len(r.Elems) != len(keys):
		t.Errorf("MGET of %d keys: %.200s", len(keys), r)
	default:
		for i, key := range keys {
			if e := r.Elems[i]; e.Kind == '-' {
				if well || !own(key) {
					t.Errorf("MGET: in the place of %s stands %s", key, e)
				}
			} else if e.Text != model[key] {
				t.Errorf("MGET: in the place of %s stands %.80q", key, e.Text)
			}
		}
	}
	for _, name := range []string{"EXISTS", "TOUCH"} {
		r := c.Do(append([]string{name}, keys...)...)
		switch {
		case len(keys) == 0:
			if r.Text != "ERR wrong number of arguments for '"+strings.ToLower(name)+"' command" {
				t.Errorf("%s of nothing: %s", name, r)
			}
		case r.Kind == '-' && !well && touched:
		case r.Int != there:
			t.Errorf("%s of %d keys: %s, want %d", name, len(keys), r, there)
		}
	}
	r = c.Do(pairs...)
	if r.Kind == '-' && (well || !touched) && len(pairs) > 1 ||
		len(pairs) == 1 && r.Text != "ERR wrong number of arguments for 'mset' command" {
		t.Errorf("MSET of %d keys: %s", len(keys), r)
	}
	if r := c.Do("UNLINK", "d5:no:1", "d5:no:2", "d5:no:3"); r.Kind == '-' && well || r.Kind == ':' && r.Int != 0 {
		t.Errorf("UNLINK of keys that are not there: %s", r)
	}
}
