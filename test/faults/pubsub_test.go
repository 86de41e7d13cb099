package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestPubSubUnderFaults: publishers number their messages, while the nodes' connections are
// cut, a node freezes and one dies. No message arrives twice, or at a client that did not
// subscribe. Each publisher's messages on a channel keep their order. Messages published
// without a fault arrive, and other clients see no error. Half of the channels are sharded.
func TestPubSubUnderFaults(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	yaml := redistest.Layouts(nodes)["ring"] + "backend: {request_timeout: 2s}\n"
	m := startMessages(t, redistest.Serve(t, yaml).Ready())
	for i := range scale(4, 12) {
		cut(t, nodes[i%3])
		m.more()
	}
	m.freeze(nodes[1])
	nodes[2].Kill()
	m.more()
	nodes[2].Run()
	m.end()
}

// TestPubSubOfAClusterUnderFaults does the same on a cluster, whose slots move too. A
// replica takes over.
func TestPubSubOfAClusterUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	m := startMessages(t, redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 2s}\n").Ready())
	for i := range scale(4, 12) {
		cut(t, c.Nodes[i%3])
		m.more()
	}
	reshard(t, c, 0, 1, 3000) // sharded channels move with their slots
	m.more()
	reshard(t, c, 1, 0, 3000)
	m.more()
	// From here on messages may overtake each other on the cluster's own bus: they go
	// another way when a master has changed, and a node that was frozen reads old and new
	// links in any order.
	m.unordered.Store(true)
	c.Failover(5) // the third shard's replica
	m.more()
	m.freeze(c.Nodes[1])
	m.end()
}

// channels is how many channels there are of each kind.
const channels = 20

// messages are the subscribers and publishers, and the messages that they have seen.
type messages struct {
	t    *testing.T
	k    *redistest.Keyway
	load *load // other clients

	stop, unordered     atomic.Bool
	received, published atomic.Int64
	maybe               sync.Map // messages of unknown outcome: their node may publish them at any time

	subscribers             []*redistest.Client
	subscribing, publishing sync.WaitGroup
}

// startMessages starts the clients, and waits until messages arrive.
func startMessages(t *testing.T, k *redistest.Keyway) *messages {
	t.Helper()
	m := &messages{t: t, k: k}
	for id := range scale(50, 200) {
		m.subscribe(id)
	}
	for id := range 4 {
		c := k.Dial()
		m.publishing.Go(func() { m.publish(c, id) })
	}
	m.load = (&load{addr: k.Addr, clients: 10, pause: time.Millisecond}).start(t)
	m.more()
	if m.load.errors() > 0 {
		t.Errorf("errors before anything went wrong: %v", &m.load.tally)
	}
	return m
}

// subscribe starts a subscriber of up to four channels.
func (m *messages) subscribe(id int) {
	m.t.Helper()
	c := m.k.Dial()
	m.subscribers = append(m.subscribers, c)
	rng := rand.New(rand.NewPCG(uint64(id), 41))
	prefix, listen, kind := "d8:", "subscribe", "message"
	if id%2 == 1 {
		prefix, listen, kind = "d8s:", "ssubscribe", "smessage"
	}
	var names []string
	for range 4 {
		if name := fmt.Sprintf("%s%d", prefix, rng.IntN(channels)); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	c.Send(append([]string{listen}, names...)...)
	c.Flush()
	for range names {
		if r, err := c.Receive(); err != nil || r.Elems[0].Text != listen {
			m.t.Fatal(r, err)
		}
	}
	m.subscribing.Go(func() { m.receive(c, id, kind, names) })
}

// receive checks a subscriber's messages until its connection is closed.
func (m *messages) receive(c *redistest.Client, id int, kind string, names []string) {
	last := map[string]int{} // by channel and publisher
	for {
		r, err := c.Receive()
		if err != nil {
			if !m.stop.Load() {
				m.t.Errorf("subscriber %d: %v", id, err)
			}
			return
		}
		if r.Kind != '*' || len(r.Elems) != 3 || r.Elems[0].Text != kind || !slices.Contains(names, r.Elems[1].Text) {
			m.t.Errorf("subscriber %d got %s", id, r)
			return
		}
		var publisher, seq int
		var channel string
		n, _ := fmt.Sscanf(r.Elems[2].Text, "%s %d %d", &channel, &publisher, &seq)
		if n != 3 || channel != r.Elems[1].Text {
			m.t.Errorf("subscriber %d got %s", id, r)
			return
		}
		key := fmt.Sprint(channel, publisher)
		if _, late := m.maybe.Load(r.Elems[2].Text); late && seq < last[key] {
			continue
		}
		if seq == last[key] || seq < last[key] && !m.unordered.Load() {
			m.t.Errorf("subscriber %d got message %d of publisher %d on %s after %d",
				id, seq, publisher, channel, last[key])
		}
		last[key] = seq
		m.received.Add(1)
	}
}

// publish publishes on random channels until the end.
func (m *messages) publish(c *redistest.Client, id int) {
	defer c.Close()
	rng := rand.New(rand.NewPCG(uint64(id), 42))
	var tl tally
	for seq := 1; !m.stop.Load(); seq++ {
		channel, command := fmt.Sprintf("d8:%d", rng.IntN(channels)), "PUBLISH"
		if seq%2 == 0 {
			channel, command = fmt.Sprintf("d8s:%d", rng.IntN(channels)), "SPUBLISH"
		}
		message := fmt.Sprintf("%s %d %d", channel, id, seq)
		if r := c.Do(command, channel, message); r.Kind == '-' {
			if tl.class(r.Text) == unknown {
				m.maybe.Store(message, true)
			}
		} else {
			m.published.Add(1)
		}
		time.Sleep(time.Millisecond) // paces the publishers
	}
	if tl.otherErrors.Load() > 0 {
		m.t.Errorf("errors of no class: %v", &tl)
	}
}

// more waits until some more messages arrive.
func (m *messages) more() {
	m.t.Helper()
	received, published := m.received.Load()+500, m.published.Load()+100
	redistest.Eventually(m.t, 20*time.Second, "messages arrive", func() bool {
		return m.received.Load() > received && m.published.Load() > published
	})
}

// freeze stops a node for a while.
func (m *messages) freeze(n *redistest.Node) {
	m.t.Helper()
	n.Freeze()
	time.Sleep(3 * time.Second) // the fault itself
	n.Thaw()
	m.more()
}

// end waits until all is well: then messages can be published on every channel, and arrive.
// It ends all clients.
func (m *messages) end() {
	m.t.Helper()
	probe := m.k.Dial()
	redistest.Eventually(m.t, 10*time.Second, "every channel can be published to", func() bool {
		for i := range channels {
			for prefix, publish := range map[string]string{"d8:": "PUBLISH", "d8s:": "SPUBLISH"} {
				channel := fmt.Sprintf("%s%d", prefix, i)
				message := fmt.Sprintf("%s 9 %d", channel, time.Now().UnixMicro()%1e9)
				if r := probe.Do(publish, channel, message); r.Kind == '-' {
					return false
				}
			}
		}
		return true
	})
	m.more()
	m.stop.Store(true)
	m.publishing.Wait()
	m.load.halt()
	for _, c := range m.subscribers {
		c.Close()
	}
	m.subscribing.Wait()
	probe.Close()
	s := m.k.Snapshot()[0]
	m.t.Logf("%d published, %d received, feeds lost %d times", m.published.Load(), m.received.Load(), s.FeedLosses)
	if s.FeedLosses == 0 {
		m.t.Error("no feed was lost: nothing was tested")
	}
	if text := fmt.Sprint(m.load.first); strings.Contains(text, "foreign") {
		m.t.Errorf("%s", text)
	}
	health(m.t, m.k)
}
