package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// The tests of this file are named after the fault plan: D2, D3... of the
// reliability requirements.

// TestD2LateReplies holds replies back for one and a half request timeouts:
// each such request gets one error, and its reply reaches nobody.
func TestD2LateReplies(t *testing.T) {
	nodes := redistest.Three(t)
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(2, 2))
	late, calm := 0, false
	var proxies []*redistest.Node
	for _, n := range nodes {
		f := redistest.NewFaults(t, n.Addr, func(int) redistest.Plan {
			return redistest.Plan{Reply: func(_ int, reply []byte) ([]byte, time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if !calm && rng.IntN(4000) == 0 {
					late++
					return reply, 300 * time.Millisecond
				}
				return reply, 0
			}}
		})
		proxies = append(proxies, &redistest.Node{Addr: f.Addr})
	}
	k := redistest.Serve(t, layouts(proxies)["slots"]+"backend: {request_timeout: 200ms}\n").Ready()
	var tl tally
	stop := make(chan struct{})
	writers, wait := load(t, 20, k.Addr, &tl, 16, 10*time.Second, stop)
	redistest.Eventually(t, 60*time.Second, "60,000 replies and 20 late ones", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tl.replies.Load() > 60_000 && late > 20
	})
	close(stop)
	wait()
	t.Logf("%d replies held back; %v", late, &tl)
	if tl.foreign.Load() != 0 || tl.otherErrors.Load() != 0 {
		t.Errorf("foreign or unclassed replies: %v", &tl)
	}
	if tl.unknown.Load() == 0 {
		t.Error("nothing timed out: the test has tested nothing")
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	k.Ready()
	for _, w := range writers {
		if lost := w.verify(t, k.Addr, nil); lost > 0 {
			t.Errorf("client %d: %d writes lost", w.id, lost)
		}
	}
}

// TestD3CutAtEveryByte cuts a pipeline of twenty commands at every byte, on its
// way to the node and back, with FIN and RST: what was answered before is
// right, the rest are errors of the right class, judged by what the node did.
func TestD3CutAtEveryByte(t *testing.T) {
	node := redistest.Start(t)
	const n = 20
	// The greeting's bytes pass first: 2 and 1 messages of a known length are
	// not known here, so the cut counts from the connection's start and the
	// first cuts fall into the greeting.
	var plan redistest.Plan
	var mu sync.Mutex
	f := redistest.NewFaults(t, node.Addr, func(int) redistest.Plan {
		mu.Lock()
		defer mu.Unlock()
		return plan
	})
	k := redistest.Serve(t, "layout: ring\nnodes: [{name: a, addr: \""+f.Addr+"\"}]\n")
	c := k.Dial()
	direct := redistest.Dial(t, node.Addr)
	cases, unknowns := 0, 0
	for _, reset := range []bool{false, true} {
		for _, request := range []bool{true, false} {
			limit := 330 // bytes of the greeting and of the pipeline's replies
			if request {
				limit = 900
			}
			step := 1
			if raceEnabled {
				step = 7
			}
			for cut := 1; cut < limit; cut += step {
				mu.Lock()
				plan = redistest.Plan{Reset: reset, CutReply: cut}
				if request {
					plan = redistest.Plan{Reset: reset, CutRequest: cut}
				}
				mu.Unlock()
				f.CutAll()
				id := fmt.Sprintf("d3:%d", cases)
				cases++
				for i := range n {
					c.Send("INCR", fmt.Sprintf("%s:%d", id, i))
				}
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
				replies := make([]redistest.Reply, n)
				for i := range replies {
					r, err := c.Receive()
					if err != nil {
						t.Fatalf("cut at %d (request %v): %v", cut, request, err)
					}
					replies[i] = r
				}
				for i, r := range replies {
					done := direct.MustDo("EXISTS", fmt.Sprintf("%s:%d", id, i)).Int == 1
					switch {
					case r.Kind == ':' && r.Int == 1:
						if !done {
							t.Errorf("cut at %d: answered, not executed", cut)
						}
					case strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: "):
						if done {
							t.Errorf("cut at %d (request %v): said not to be executed, and was: %s", cut, request, r.Text)
						}
					case strings.Contains(r.Text, "may have been executed"):
						unknowns++
					default:
						t.Errorf("cut at %d: %s", cut, r)
					}
				}
			}
		}
	}
	t.Logf("%d cuts, %d outcomes unknown", cases, unknowns)
	mu.Lock()
	plan = redistest.Plan{}
	mu.Unlock()
	f.CutAll()
	redistest.Eventually(t, 10*time.Second, "keyway recovers", func() bool { return c.Do("SET", "x", "1").Text == "OK" })
}

// TestD7SpeaksUnasked: what a node says at the wrong moment reaches nobody and
// ends its connection. (A reply that a node leaves out, while others follow, is
// not noticed: nothing in RESP2 tells which request a reply belongs to.)
func TestD7SpeaksUnasked(t *testing.T) {
	node := redistest.Start(t)
	for name, p := range map[string]redistest.Plan{
		"error on accept":   {Greeting: "-ERR max number of clients reached\r\n"},
		"status on accept":  {Greeting: "+OK\r\n"},
		"push on accept":    {Greeting: ">2\r\n+invalidate\r\n*0\r\n"},
		"garbage on accept": {Greeting: "HTTP/1.1 400 Bad Request\r\n\r\n"},
		"two for one": {Reply: func(n int, r []byte) ([]byte, time.Duration) {
			if n == 5 {
				return append(append([]byte(nil), r...), "$7\r\nforeign\r\n"...), 0
			}
			return r, 0
		}},
		"a push between": {Reply: func(n int, r []byte) ([]byte, time.Duration) {
			if n == 5 {
				return append([]byte(">2\r\n+message\r\n+foreign\r\n"), r...), 0
			}
			return r, 0
		}},
		"one broken": {Reply: func(n int, r []byte) ([]byte, time.Duration) {
			if n == 5 {
				return []byte("$3\r\nabcd\r\n"), 0
			}
			return r, 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := redistest.NewFaults(t, node.Addr, func(conn int) redistest.Plan {
				if conn < 2 {
					return p
				}
				return redistest.Plan{}
			})
			k := redistest.Serve(t, "layout: ring\nbackend: {request_timeout: 300ms, connect_timeout: 300ms}\nnodes: [{name: a, addr: \""+f.Addr+"\"}]\n")
			c := k.Dial()
			failed := 0
			for i := range 200 {
				key := fmt.Sprintf("d7:%d", i%10)
				want := identify(key, 1, i, 10)
				for _, r := range []redistest.Reply{c.Do("SET", key, want), c.Do("GET", key)} {
					switch {
					case r.Kind == '-' && (strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: ") || strings.Contains(r.Text, "may have been executed")):
						failed++
					case r.Text == "OK" || r.Text == want:
					case r.Kind == '$':
						// An older value, where this SET has failed.
						if k, _, _, ok := identity(r.Text); !ok && !r.Null || ok && k != key {
							t.Fatalf("a foreign reply: %s", r)
						}
					default:
						t.Fatalf("a foreign reply: %s", r)
					}
				}
				if failed > 0 && i < 100 {
					time.Sleep(5 * time.Millisecond) // the back-off passes
				}
			}
			if failed == 0 && f.Connections() < 2 {
				t.Error("the connection was not given up")
			}
			redistest.Eventually(t, 10*time.Second, "the node is served", func() bool { return c.Do("SET", "x", "1").Text == "OK" })
		})
	}
}

// TestP2KillWithoutFailover kills and restarts nodes that keep an append-only
// file, under unique RPUSHes and INCRs: nothing acknowledged is lost, nothing
// is there twice, and "not executed" is true.
func TestP2KillWithoutFailover(t *testing.T) {
	var nodes []*redistest.Node
	for range 3 {
		nodes = append(nodes, redistest.Start(t, "--appendonly", "yes", "--appendfsync", "no"))
	}
	k := redistest.Serve(t, layouts(nodes)["modulo"]).Ready()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	clients := make([]*pusher, 10)
	for i := range clients {
		clients[i] = &pusher{id: i, fates: map[string]map[string]string{}}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := clients[i].run(k.Addr, stop); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		}()
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for range 6 {
		n := nodes[rng.IntN(3)]
		// Let the load meet the node while it is up, then while it is down.
		until := clients[0].count() + 3000
		redistest.Eventually(t, 20*time.Second, "the load goes on", func() bool { return clients[0].count() > until })
		n.Kill()
		until = clients[0].count() + 1000
		redistest.Eventually(t, 20*time.Second, "the load goes on without the node", func() bool { return clients[0].count() > until })
		n.Run()
	}
	until := clients[0].count() + 3000
	redistest.Eventually(t, 20*time.Second, "the load goes on", func() bool { return clients[0].count() > until })
	close(stop)
	wg.Wait()
	k.Ready()
	c := k.Dial()
	acked, refused, unknown := 0, 0, 0
	for _, p := range clients {
		for key, fates := range p.fates {
			seen := map[string]int{}
			for _, e := range c.MustDo("LRANGE", key, "0", "-1").Elems {
				seen[e.Text]++
			}
			for elem, fate := range fates {
				switch n := seen[elem]; {
				case n > 1:
					t.Errorf("%s of %s is there %d times", elem, key, n)
				case fate == "acked" && n == 0:
					t.Errorf("%s of %s was acknowledged and is lost", elem, key)
				case fate == "refused" && n > 0:
					t.Errorf("%s of %s was said not to be executed, and was", elem, key)
				}
				switch fate {
				case "acked":
					acked++
				case "refused":
					refused++
				default:
					unknown++
				}
			}
		}
	}
	t.Logf("%d acknowledged, %d refused, %d unknown", acked, refused, unknown)
	if refused == 0 || unknown == 0 {
		t.Error("no node was missed: the test has tested nothing")
	}
}

// pusher appends elements of its own to lists, in pipelines.
type pusher struct {
	id    int
	mu    sync.Mutex
	n     int
	fates map[string]map[string]string // by key and element
}

func (p *pusher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *pusher) run(addr string, stop <-chan struct{}) error {
	c, err := redistest.TryDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for seq := 0; ; {
		select {
		case <-stop:
			return nil
		default:
		}
		var keys, elems []string
		for range 8 {
			seq++
			key, elem := fmt.Sprintf("list:%d:%d", p.id, seq%7), fmt.Sprintf("e%d", seq)
			keys, elems = append(keys, key), append(elems, elem)
			c.Send("RPUSH", key, elem)
		}
		if err := c.Flush(); err != nil {
			return err
		}
		for i, key := range keys {
			r, err := c.Receive()
			if err != nil {
				return err
			}
			fate := "unknown"
			switch {
			case r.Kind == ':':
				fate = "acked"
			case strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: "), strings.HasPrefix(r.Text, "LOADING"):
				fate = "refused"
			case !strings.Contains(r.Text, "may have been executed"):
				return fmt.Errorf("RPUSH answered with %s", r)
			}
			if p.fates[key] == nil {
				p.fates[key] = map[string]string{}
			}
			p.fates[key][elems[i]] = fate
			p.mu.Lock()
			p.n++
			p.mu.Unlock()
		}
	}
}
