package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// nearProcess is a keyway with near_cache in front of one node, and a client that reads.
type nearProcess struct {
	*reloadable
	node *redistest.Node
	c    *redistest.Client
}

func newNearProcess(t *testing.T, node *redistest.Node, more string) *nearProcess {
	nodes := redistest.NodesYAML([]*redistest.Node{node})
	p := &nearProcess{reloadable: startReloadable(t, nodes, "threads: 1\nlayout: ring\n"+more), node: node}
	p.c = redistest.Dial(t, p.listen)
	return p
}

// read reads a key many times.
func (p *nearProcess) read(key string) {
	for range 200 {
		p.c.Send("GET", key)
	}
	p.c.Flush()
	for range 200 {
		if _, err := p.c.Receive(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// nearCounts is what the metrics say about near_cache and its node.
type nearCounts struct{ hits, misses, fills, connects, requests, bytesIn float64 }

func (p *nearProcess) counts(t *testing.T) (n nearCounts) {
	text := get(t, "http://"+p.admin+"/metrics")
	ofNode := func(name, label string) float64 {
		return metricOf(t, text, fmt.Sprintf("keyway_node_%s{addr=%q,%snode=%q}", name, p.node.Addr, label, "a"))
	}
	n.hits = metricOf(t, text, `keyway_near_cache_reads_total{result="hit"}`)
	n.misses = metricOf(t, text, `keyway_near_cache_reads_total{result="miss"}`)
	n.fills = metricOf(t, text, "keyway_near_cache_fills_total")
	n.connects, n.requests = ofNode("connects_total", ""), ofNode("requests_total", "")
	n.bytesIn = ofNode("bytes_total", `direction="in",`)
	return n
}

// TestNearCacheInTheFiguresOfNodes: what near_cache does at a node is among its connections, bytes and requests, and
// stays there when near_cache is turned off.
func TestNearCacheInTheFiguresOfNodes(t *testing.T) {
	t.Parallel()
	p := newNearProcess(t, redistest.Start(t), near)
	const size = 2000
	p.c.MustDo("SET", "hot", strings.Repeat("x", size))
	first := p.counts(t)
	redistest.Eventually(t, 60*time.Second, "keyway answers for the node", func() bool {
		p.read("hot")
		return p.counts(t).hits >= 200
	})
	before := p.counts(t)
	if before.connects != first.connects+1 {
		t.Errorf("with near_cache, %v connections are counted, without it %v", before.connects, first.connects)
	}
	var now nearCounts
	redistest.Eventually(t, 60*time.Second, "the value is read again", func() bool {
		redistest.Ask(p.node.Addr, "SET", "hot", strings.Repeat("y", size))
		p.read("hot")
		now = p.counts(t)
		return now.fills >= before.fills+3
	})
	misses, fills := now.misses-before.misses, now.fills-before.fills-1 // the last one may be on its way
	if values := (now.bytesIn - before.bytesIn) / float64(size+len("$2000\r\n\r\n")); values < misses+fills {
		t.Errorf("%.1f values are among the bytes, after %v misses and %v fills", values, misses, fills)
	}
	if requests := now.requests - before.requests; requests < misses+2*fills {
		t.Errorf("%v requests are counted, after %v misses and %v fills", requests, misses, fills)
	}
	p.reload("threads: 1\nlayout: ring\n")
	if off := p.counts(t); off.connects < now.connects || off.bytesIn < now.bytesIn || off.requests < now.requests {
		t.Errorf("the figures are %+v without near_cache, after %+v", off, now)
	}
}

// TestNearCacheThatTheNodeRefuses: a node that refuses CLIENT TRACKING is not unreachable. keyway says what it refuses,
// and all reads go to the node.
func TestNearCacheThatTheNodeRefuses(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	node.Do("ACL", "SETUSER", "default", "-client|tracking")
	p := newNearProcess(t, node, near)
	p.c.MustDo("SET", "hot", "v")
	redistest.Eventually(t, 60*time.Second, "an event says what the node refuses", func() bool {
		p.read("hot")
		return eventOf(t, p.admin, "node", "a node refuses connections for near_cache", "node=a", "addr="+node.Addr,
			"command=CLIENT TRACKING", "reason=NOPERM", "ACL SETUSER") != nil
	})
	if e := eventOf(t, p.admin, "node", "node unreachable"); e != nil {
		t.Errorf("%+v", e)
	}
	p.c.Expect("v", "GET", "hot")
}

// TestNearCacheWithoutPTTL: a node that refuses only PTTL makes near_cache keep nothing. keyway says so, and counts it.
func TestNearCacheWithoutPTTL(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	node.Do("ACL", "SETUSER", "default", "-pttl")
	p := newNearProcess(t, node, near)
	p.c.MustDo("SET", "hot", "v")
	redistest.Eventually(t, 60*time.Second, "an event says what the node refuses", func() bool {
		p.read("hot")
		return eventOf(t, p.admin, "node", "a node refuses a command of near_cache", "node=a", "addr="+node.Addr,
			"command=PTTL", "reason=NOPERM", "ACL SETUSER") != nil
	})
	p.read("hot")
	text := get(t, "http://"+p.admin+"/metrics")
	if n := metricOf(t, text, "keyway_near_cache_refused_total"); n < 1 || p.counts(t).hits != 0 {
		t.Errorf("after %v refusals, there are %+v", n, p.counts(t))
	}
	if n := strings.Count(p.stderr.String(), "a node refuses a command of near_cache"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	p.c.Expect("v", "GET", "hot")
}
