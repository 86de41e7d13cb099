package faults

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// The tests of the fault plan that are about replies.

// TestPipelineOrder has 1,000 clients send random pipelines of self-identifying
// values over three nodes: every reply is the right one, in its place.
func TestPipelineOrder(t *testing.T) {
	const clients = 1000
	total := scale(2_000_000, 5_000_000)
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["slots"]).Ready()
	began := time.Now()
	errs := make(chan error, clients)
	var wg sync.WaitGroup
	for id := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := redistest.Pipelines(k.Addr, id, total/clients); err != nil {
				errs <- fmt.Errorf("client %d: %w", id, err)
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	t.Logf("%d replies in %s, none foreign, none out of order", total, time.Since(began).Round(time.Millisecond))
}

// TestRepliesKeepOrderUnderFaults sends all kinds of commands over one connection to each node,
// with integrity checks. Clients hang up in the middle of their pipelines or stop reading for
// a second, and every two seconds a connection to a node is cut. (A client that was in the
// middle of a large reply is closed then too, and connects again.)
func TestRepliesKeepOrderUnderFaults(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["slots"]+"backend: {connections: 1, integrity: 100}\n").Ready()
	l := (&load{
		addr: k.Addr, clients: scale(300, 1000), depth: 64, size: 1 << 20,
		hangup: 20, stall: 2, reconnect: true,
	}).start(t)
	total, cuts := int64(scale(500_000, 10_000_000)), 0
	due := time.Now()
	for l.tally.replies.Load()-l.notExecuted.Load() < total || l.unknown.Load() == 0 {
		time.Sleep(20 * time.Millisecond)
		if time.Since(due) >= 2*time.Second { // one that has lived for a second is made again at once
			cut(t, nodes[cuts%3])
			cuts++
			due = time.Now()
		}
	}
	l.halt()
	t.Logf("%d connections cut", cuts)
	k.Ready()
	l.settle(t, k.Addr)
	if l.hangups.Load() == 0 {
		t.Error("no client has left: nothing was tested")
	}
	census(t, k.Addr, nodes)
	health(t, k)
	checks := uint64(0)
	for _, n := range k.Snapshot()[0].Nodes {
		checks += n.Checks
	}
	if checks == 0 {
		t.Error("no integrity check was sent")
	}
}

// cut ends keyway's connections to a node, the way a network does that loses
// them; where that needs rights or tools that are missing, the node does.
func cut(t *testing.T, n *redistest.Node) {
	t.Helper()
	// ss kills nothing while its output goes nowhere.
	args := strings.Fields("-K state established dst 127.0.0.1 dport = " + strconv.Itoa(n.Port))
	_, err := exec.Command("ss", args...).CombinedOutput()
	if err != nil {
		n.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}
}

// TestLateRepliesReachNobody delays replies by one and a half request timeouts: each such
// request gets one error, and no client gets its reply.
func TestLateRepliesReachNobody(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(2, 2))
	late, calm := 0, false
	var held time.Time // until when a reply is held back
	var proxies []*redistest.Node
	for _, n := range nodes {
		f := redistest.NewFaults(t, n.Addr, func(int) redistest.Plan {
			return redistest.Plan{Reply: func(_ int, reply []byte) ([]byte, time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if !calm && rng.IntN(4000) == 0 {
					late++
					held = time.Now().Add(600 * time.Millisecond)
					return reply, 600 * time.Millisecond
				}
				return reply, 0
			}}
		})
		proxies = append(proxies, &redistest.Node{Addr: f.Addr})
	}
	yaml := redistest.Layouts(proxies)["slots"] + "backend: {request_timeout: 400ms, integrity: 50}\n"
	k := redistest.Serve(t, yaml).Ready()
	l := (&load{addr: k.Addr, clients: 20}).start(t)
	total := int64(scale(60_000, 1_000_000))
	redistest.Eventually(t, 5*time.Minute, "all replies, and a request that timed out", func() bool {
		return l.tally.replies.Load()-l.notExecuted.Load() >= total && l.unknown.Load() > 0
	})
	l.halt()
	mu.Lock()
	t.Logf("%d replies held back", late)
	calm = true
	mu.Unlock()
	time.Sleep(time.Until(held)) // it may be a check's, which no client waits for
	k.Ready()
	l.settle(t, k.Addr)
	census(t, k.Addr, nodes)
	health(t, k)
}

// TestConnectionCutAtEveryByte cuts a pipeline of twenty commands at every byte, on its
// way to the node and back, with FIN and RST. Replies before the cut are
// right. The others are errors of the right class: the node's own counters show whether it
// executed the command.
// The first cuts fall into the greeting. In some cases the next connections are cut
// in the same place: a node that cannot be greeted executes nothing.
func TestConnectionCutAtEveryByte(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	const parts = 4 // that run side by side, with every fourth cut each
	step := parts
	if redistest.Race {
		step = 7 * parts
	}
	var ways []*cutting
	t.Run("cuts", func(t *testing.T) {
		for _, plan := range []redistest.Plan{
			{CutRequest: 740}, {CutReply: 110}, {CutRequest: 740, Reset: true}, {CutReply: 110, Reset: true},
		} {
			for part := range parts {
				s := &cutting{node: node}
				ways = append(ways, s)
				name := fmt.Sprintf("of requests %t, with RST %t, %d", plan.CutReply == 0, plan.Reset, part)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s.direct = redistest.Dial(t, node.Addr)
					last, plan := plan, plan // each part has its own
					for cut := 1 + part*step/parts; cut < max(last.CutRequest, last.CutReply); cut += step {
						plan.CutRequest, plan.CutReply = min(cut, last.CutRequest), min(cut, last.CutReply)
						s.cut(t, plan)
					}
				})
			}
		}
	})
	var all cutting
	for _, s := range ways {
		all.answered += s.answered
		all.refused += s.refused
		all.unknowns += s.unknowns
	}
	t.Logf("%d answered, %d not executed, %d unknown", all.answered, all.refused, all.unknowns)
	if all.answered == 0 || all.refused == 0 || all.unknowns == 0 {
		t.Error("not every outcome was met")
	}
}

// cutting counts the outcomes of commands whose connection to the node is cut.
type cutting struct {
	node                        *redistest.Node
	direct                      *redistest.Client // to the node
	answered, refused, unknowns int
}

// cut sends a pipeline while the connection to the node is cut as plan says, and checks that
// each reply is right.
func (s *cutting) cut(t *testing.T, plan redistest.Plan) {
	t.Helper()
	bad := 1
	if (plan.CutRequest+plan.CutReply)%41 == 1 {
		bad = 8
	}
	f := redistest.NewFaults(t, s.node.Addr, func(conn int) redistest.Plan {
		if conn < bad {
			return plan
		}
		return redistest.Plan{}
	})
	defer f.Close()
	k := redistest.Serve(t, redistest.Ring(f.Addr))
	defer k.Stop()
	c := k.Dial()
	defer c.Close()
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = fmt.Sprintf("d3:%t:%d:%d:%d", plan.Reset, plan.CutRequest, plan.CutReply, i)
		c.Send("INCR", keys[i])
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		r, err := c.Receive()
		if err != nil {
			t.Fatalf("%+v: %v", plan, err)
		}
		done := s.direct.MustDo("EXISTS", key).Int == 1
		switch {
		case r.Kind == ':' && r.Int == 1:
			if s.answered++; !done {
				t.Errorf("%+v: answered, not executed", plan)
			}
		case strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: "):
			if s.refused++; done {
				t.Errorf("%+v: said not to be executed, and was: %s", plan, r.Text)
			}
		case strings.Contains(r.Text, "may have been executed"):
			s.unknowns++
		default:
			t.Errorf("%+v: %s", plan, r)
		}
	}
	if plan.CutRequest%50+plan.CutReply%50 == 1 { // its back-off takes longer than all the rest
		redistest.Eventually(t, 10*time.Second, "keyway recovers", func() bool {
			return c.Do("SET", "x", "1").Text == "OK"
		})
	}
}

// TestUnexpectedRepliesReachNobody: a reply at the wrong moment reaches no client and ends its
// connection. (If a node leaves out or doubles a reply while others follow, that is not
// noticed at once: RESP2 does not say which request a reply belongs to.)
func TestUnexpectedRepliesReachNobody(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	onAccept := func(text string) func() redistest.Plan {
		return func() redistest.Plan { return redistest.Plan{Greeting: text} }
	}
	for name, plan := range map[string]func() redistest.Plan{
		"error on accept":   onAccept("-ERR max number of clients reached\r\n"),
		"status on accept":  onAccept("+OK\r\n"),
		"push on accept":    onAccept(">2\r\n+invalidate\r\n*0\r\n"),
		"garbage on accept": onAccept("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"two for one":       instead(func(reply []byte) string { return string(reply) + "$7\r\nforeign\r\n" }),
		"a push between": instead(func(reply []byte) string {
			return ">2\r\n+message\r\n+foreign\r\n" + string(reply)
		}),
		"one broken": instead(func([]byte) string { return "$3\r\nabcd\r\n" }),
	} {
		t.Run(name, func(t *testing.T) {
			f := redistest.NewFaults(t, node.Addr, func(conn int) redistest.Plan {
				if conn < 2 {
					return plan()
				}
				return redistest.Plan{}
			})
			yaml := "backend: {request_timeout: 300ms, connect_timeout: 300ms}\n" + redistest.Ring(f.Addr)
			k := redistest.Serve(t, yaml)
			c := k.Dial()
			failed := 0
			until := time.Now().Add(10 * time.Second)
			for i := 0; i < 200 || ended(k) == 0 && time.Now().Before(until); i++ {
				failed += setAndGet(t, c, fmt.Sprintf("d7:%d", i%10), i)
				if failed > 0 && i < 100 {
					time.Sleep(5 * time.Millisecond) // the back-off passes
				}
			}
			if ended(k) == 0 {
				t.Error("the connection was not given up")
			}
			redistest.Eventually(t, 10*time.Second, "the node is served", func() bool {
				return c.Do("SET", "x", "1").Text == "OK"
			})
		})
	}
}

// instead replaces a reply when nothing else is asked of the node: keyway itself asks for
// its version at some time, and then for nothing more.
func instead(of func(reply []byte) string) func() redistest.Plan {
	return func() redistest.Plan {
		hasVersion, done := false, false
		return redistest.Plan{Reply: func(_ int, reply []byte) ([]byte, time.Duration) {
			switch {
			case !hasVersion:
				hasVersion = bytes.Contains(reply, []byte("version")) // of HELLO, which keyway asks for itself
			case !done:
				done = true
				return []byte(of(reply)), 0
			}
			return reply, 0
		}}
	}
}

// setAndGet writes a key and reads it back. It fails the test if a reply is another's, and
// returns the number of errors.
func setAndGet(t *testing.T, c *redistest.Client, key string, seq int) (failed int) {
	t.Helper()
	want := redistest.Identify(key, 1, seq, 10)
	for _, r := range []redistest.Reply{c.Do("SET", key, want), c.Do("GET", key)} {
		notExecuted := strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: ")
		switch {
		case r.Kind == '-' && (notExecuted || strings.Contains(r.Text, "may have been executed")):
			failed++
		case r.Text == "OK" || r.Text == want:
		case r.Kind == '$':
			// An older value, where this SET has failed.
			if k, _, _, ok := redistest.Identity(r.Text); !ok && !r.Null || ok && k != key {
				t.Fatalf("a foreign reply: %s", r)
			}
		default:
			t.Fatalf("a foreign reply: %s", r)
		}
	}
	return failed
}

// ended counts the connections to nodes that could not be made, or ended.
func ended(k *redistest.Keyway) (n uint64) {
	for _, s := range k.Snapshot() {
		for _, node := range s.Nodes {
			n += node.Failures + node.Losses
		}
	}
	return n
}

// TestMissingReplyIsNoticed: a node leaves out a reply and answers the later requests. RESP
// does not number replies, so the next ones go to the wrong clients, until the integrity
// check ends the connection. Then every reply is right again.
func TestMissingReplyIsNoticed(t *testing.T) {
	node := redistest.Start(t)
	f := redistest.NewFaults(t, node.Addr, func(conn int) redistest.Plan {
		if conn > 0 {
			return redistest.Plan{}
		}
		return redistest.Plan{Reply: func(n int, reply []byte) ([]byte, time.Duration) {
			if n == 100 {
				return nil, 0
			}
			return reply, 0
		}}
	})
	const fence = 20
	k := redistest.Serve(t, fmt.Sprintf("backend: {integrity: %d}\n", fence)+redistest.Ring(f.Addr)).Ready()
	c := k.Dial()
	astray, lost, last := 0, 0, 0
	for batch := range 100 {
		for i := range 10 {
			c.Send("ECHO", "x") // keyway's own
			c.Send("SETRANGE", fmt.Sprintf("d7:%d", batch*10+i), strconv.Itoa(batch*10+i), "x")
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if r, err := c.Receive(); err != nil || r.Text != "x" {
				t.Fatal(r, err)
			}
			r, err := c.Receive()
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Kind == '-':
				lost++
			case r.Int != int64(batch*10+i+1): // the length of the string
				astray++
				last = batch*10 + i
			}
		}
	}
	t.Logf("%d replies astray, %d commands of unknown outcome or refused", astray, lost)
	redistest.Eventually(t, 10*time.Second, "the node is served again", func() bool {
		return c.Do("STRLEN", "d7:1").Kind == ':'
	})
	if n := k.Snapshot()[0].Nodes[0].Violations; n != 1 {
		t.Errorf("%d violations were seen", n)
	}
	if astray > 2*fence || last > 100+3*fence {
		t.Errorf("%d replies went astray, the last one that of command %d", astray, last)
	}
}

// TestClientsCutAnywhere cuts the connections between clients and keyway at random
// bytes, in the middle of requests and of replies.
func TestClientsCutAnywhere(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["slots"]).Ready()
	f := redistest.NewFaults(t, k.Addr, func(conn int) redistest.Plan {
		at := 1 + conn*7919%20_000
		if conn%2 == 0 {
			return redistest.Plan{CutRequest: at, Reset: conn%4 == 0}
		}
		return redistest.Plan{CutReply: at, Reset: conn%4 == 1}
	})
	l := (&load{addr: f.Addr, clients: 20, replies: int64(scale(30_000, 1_000_000)), reconnect: true}).start(t)
	l.wg.Wait()
	if l.tally.lost.Load() == 0 {
		t.Error("no connection was cut")
	}
	l.settle(t, k.Addr)
	census(t, k.Addr, nodes)
	health(t, k)
}

// plans is a fault of every kind, at random places.
func plans(rng *rand.Rand) redistest.Plan {
	at := 1 + rng.IntN(20_000)
	return [...]redistest.Plan{
		{CutRequest: at, Reset: true},
		{CutRequest: at, HalfClose: true},
		{CutReply: at},
		{CutReply: at, HalfClose: true},
		{CutBefore: 1 + rng.IntN(500)},
		{CutBefore: 1 + rng.IntN(500), Reset: true},
		{DeafRequest: at},
		{DeafReply: at},
		{OneByOne: true, CutReply: 10 * at},
		{OneByOne: true, CutRequest: 10 * at, Reset: true},
		{},
	}[rng.IntN(11)]
}

// TestEveryFaultOnEveryConnection has a fault of every kind on the connections to the nodes and
// on those of the clients, many times over.
func TestEveryFaultOnEveryConnection(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	var mu sync.Mutex
	rng, calm := rand.New(rand.NewPCG(3, 3)), false
	next := func(int) redistest.Plan {
		mu.Lock()
		defer mu.Unlock()
		if calm {
			return redistest.Plan{}
		}
		return plans(rng)
	}
	toNode := func(conn int) redistest.Plan {
		mu.Lock()
		over := calm
		mu.Unlock()
		if n := conn % 16; 4 <= n && n < 12 && !over { // so often in a row that keyway takes it for out of reach
			return redistest.Plan{CutRequest: 1}
		}
		return next(conn)
	}
	var proxies []*redistest.Node
	var toNodes []*redistest.Faults
	for _, n := range nodes {
		f := redistest.NewFaults(t, n.Addr, toNode)
		toNodes, proxies = append(toNodes, f), append(proxies, &redistest.Node{Addr: f.Addr})
	}
	yaml := redistest.Layouts(proxies)["slots"] + "backend: {request_timeout: 300ms, connect_timeout: 300ms}\n"
	k := redistest.Serve(t, yaml).Ready()
	f := redistest.NewFaults(t, k.Addr, next)
	l := (&load{addr: f.Addr, clients: 20, replies: int64(scale(20_000, 500_000)), reconnect: true}).start(t)
	for !l.over() {
		time.Sleep(300 * time.Millisecond) // as long as a deaf client waits
		f.CutAll()
	}
	l.wg.Wait()
	if l.tally.lost.Load() == 0 || l.unknown.Load() == 0 || l.notExecuted.Load() == 0 {
		t.Error("not every outcome was met")
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	for _, p := range toNodes {
		p.CutAll() // a deaf one would yet cost the census an answer
	}
	k.Ready()
	l.settle(t, k.Addr)
	census(t, k.Addr, nodes)
	health(t, k)
}
