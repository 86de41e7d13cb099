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

// TestPubSubUnderFaults has subscribers and publishers with sequence numbers, on a ring
// and on a cluster, while the nodes' connections are cut, a node freezes and one
// dies: no message comes twice or to who did not ask, each publisher's messages
// on a channel keep their order, what is published when nothing is wrong
// arrives, and other clients do not notice. Half of it is sharded; the cluster's
// slots move, and a replica takes over.
func TestPubSubUnderFaults(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"ring", "cluster"} {
		t.Run(layout, func(t *testing.T) {
			var nodes []*redistest.Node
			var cluster *redistest.Cluster
			var k *redistest.Keyway
			if layout == "ring" {
				nodes = redistest.Three(t)
				k = redistest.Serve(t, redistest.Layouts(nodes)["ring"]+"backend: {request_timeout: 2s}\n").Ready()
			} else {
				cluster = redistest.NewCluster(t, 3, 1)
				nodes = cluster.Nodes[:3]
				k = redistest.Serve(t, cluster.SeedsYAML()+"backend: {request_timeout: 2s}\n").Ready()
			}
			const channels = 20
			var stop, unordered atomic.Bool
			var received, published atomic.Int64
			var maybe sync.Map // messages of unknown outcome: their node may publish them at any time
			var wg, publishers sync.WaitGroup
			subs := make([]*redistest.Client, scale(50, 200))
			for id := range subs {
				c := k.Dial()
				subs[id] = c
				rng := rand.New(rand.NewPCG(uint64(id), 41))
				listens := map[string]bool{}
				prefix, listen, kind := "d8:", "subscribe", "message"
				if id%2 == 1 {
					prefix, listen, kind = "d8s:", "ssubscribe", "smessage"
				}
				for range 4 {
					listens[fmt.Sprintf("%s%d", prefix, rng.IntN(channels))] = true
				}
				args := []string{listen}
				for ch := range listens {
					args = append(args, ch)
				}
				c.Send(args...)
				c.Flush()
				for range listens {
					if r, err := c.Receive(); err != nil || r.Elems[0].Text != listen {
						t.Fatal(r, err)
					}
				}
				wg.Add(1)
				go func() {
					defer wg.Done()
					last := map[string]int{} // by channel and publisher
					for {
						r, err := c.Receive()
						if err != nil {
							if !stop.Load() {
								t.Errorf("subscriber %d: %v", id, err)
							}
							return
						}
						if r.Kind != '*' || len(r.Elems) != 3 || r.Elems[0].Text != kind || !listens[r.Elems[1].Text] {
							t.Errorf("subscriber %d got %s", id, r)
							return
						}
						var who, seq int
						var of string
						if n, _ := fmt.Sscanf(r.Elems[2].Text, "%s %d %d", &of, &who, &seq); n != 3 || of != r.Elems[1].Text {
							t.Errorf("subscriber %d got %s", id, r)
							return
						}
						key := fmt.Sprint(of, who)
						if _, late := maybe.Load(r.Elems[2].Text); late && seq < last[key] {
							continue
						}
						if seq == last[key] || seq < last[key] && !unordered.Load() {
							t.Errorf("subscriber %d got message %d of publisher %d on %s after %d", id, seq, who, of, last[key])
						}
						last[key] = seq
						received.Add(1)
					}
				}()
			}
			for who := range 4 {
				c := k.Dial()
				publishers.Add(1)
				go func() {
					defer publishers.Done()
					defer c.Close()
					rng := rand.New(rand.NewPCG(uint64(who), 42))
					var tl tally
					for seq := 1; !stop.Load(); seq++ {
						ch, publish := fmt.Sprintf("d8:%d", rng.IntN(channels)), "PUBLISH"
						if seq%2 == 0 {
							ch, publish = fmt.Sprintf("d8s:%d", rng.IntN(channels)), "SPUBLISH"
						}
						message := fmt.Sprintf("%s %d %d", ch, who, seq)
						if r := c.Do(publish, ch, message); r.Kind == '-' {
							if tl.class(r.Text) == unknown {
								maybe.Store(message, true)
							}
						} else {
							published.Add(1)
						}
						time.Sleep(time.Millisecond) // paces the publishers
					}
					if tl.otherErrors.Load() > 0 {
						t.Errorf("errors of no class: %v", &tl)
					}
				}()
			}
			l := (&load{addr: k.Addr, clients: 10, pause: time.Millisecond}).start(t)
			goOn := func() {
				until, published0 := received.Load()+500, published.Load()
				redistest.Eventually(t, 20*time.Second, "messages arrive", func() bool { return received.Load() > until && published.Load() > published0+100 })
			}
			goOn()
			if l.errors() > 0 {
				t.Errorf("errors before anything went wrong: %v", &l.tally)
			}
			for i := range scale(4, 12) {
				cut(t, nodes[i%3])
				goOn()
			}
			if cluster != nil {
				reshard(t, cluster, 0, 1, 3000) // sharded channels go with their slots
				goOn()
				reshard(t, cluster, 1, 0, 3000)
				goOn()
				// From here on messages may overtake each other on the cluster's own
				// bus: they go another way when a master has changed, and a node that
				// was frozen reads old and new links in any order.
				unordered.Store(true)
				cluster.Failover(5) // of the third
				goOn()
			}
			nodes[1].Freeze()
			time.Sleep(3 * time.Second) // the fault itself
			nodes[1].Thaw()
			goOn()
			if layout == "ring" {
				nodes[2].Kill()
				goOn()
				nodes[2].Run()
			}
			// When all is well every subscriber hears every channel of its own.
			probe := k.Dial()
			redistest.Eventually(t, 10*time.Second, "every node is listened to", func() bool {
				for i := range channels {
					for prefix, publish := range map[string]string{"d8:": "PUBLISH", "d8s:": "SPUBLISH"} {
						channel := fmt.Sprintf("%s%d", prefix, i)
						if r := probe.Do(publish, channel, fmt.Sprintf("%s 9 %d", channel, time.Now().UnixMicro()%1e9)); r.Kind == '-' {
							return false
						}
					}
				}
				return true
			})
			goOn()
			stop.Store(true)
			publishers.Wait()
			l.halt()
			for _, c := range subs {
				c.Close()
			}
			wg.Wait()
			probe.Close()
			s := k.Snapshot()[0]
			t.Logf("%d published, %d received, feeds lost %d times", published.Load(), received.Load(), s.FeedLosses)
			if s.FeedLosses == 0 {
				t.Error("no feed was lost: nothing was tested")
			}
			if text := fmt.Sprint(l.first); strings.Contains(text, "foreign") {
				t.Errorf("%s", text)
			}
			health(t, k)
		})
	}
}
