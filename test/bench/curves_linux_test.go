package bench

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// measuredCurve says how to measure a curve.
type measuredCurve struct {
	curve
	numbers []int
	// start returns the targets of a number, and what clients do.
	start func(t *testing.T, e *equipment, n int) ([]target, traffic)
}

// traffic is what clients do while a point is measured.
type traffic struct {
	clients, depth int
	request        request
}

// equipment is what curves share.
type equipment struct {
	nodes     []string // of redis-server, which have all keys each
	keyway    target   // in front of these
	twemproxy target
}

var getKey = request{
	frame: []byte("*2\r\n$3\r\nGET\r\n$16\r\nkey:" + placeholder + "\r\n"),
	reply: len("$64\r\n\r\n") + scriptedValue,
}

var measuredCurves = []measuredCurve{
	{
		curve: curve{Name: "depth", Title: "Depth of pipelines", X: "commands in a pipeline",
			Note: "Fifty clients send GETs of 64 bytes to three nodes."},
		numbers: []int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		start: func(t *testing.T, e *equipment, n int) ([]target, traffic) {
			return []target{e.keyway, e.twemproxy}, traffic{50, n, getKey}
		},
	},
	{
		curve: curve{Name: "clients", Title: "Clients", X: "clients",
			Note: "Each client sends a GET of 64 bytes and waits for the reply; three nodes. The curve ends where " +
				"a process may not open as many files (`ulimit -n`)."},
		numbers: []int{50, 100, 200, 500, 1000, 2000, 5000, 10_000, 18_000, 50_000},
		start: func(t *testing.T, e *equipment, n int) ([]target, traffic) {
			return []target{e.keyway, e.twemproxy}, traffic{n, 1, getKey}
		},
	},
	{
		curve: curve{Name: "nodes", Title: "Nodes", X: "nodes",
			Note: "Fifty clients send GETs of 64 bytes to nodes that only pretend to be Redis. The commands of fifty " +
				"clients that arrive at once go out in three writes to three nodes, and in nearly fifty to many."},
		numbers: []int{3, 10, 30, 100, 300},
		start: func(t *testing.T, _ *equipment, n int) ([]target, traffic) {
			addrs := scriptedNodes(t, n)
			return []target{startKeyway(t, ringYAML(addrs)), startTwemproxy(t, addrs)}, traffic{50, 1, getKey}
		},
	},
	{
		curve: curve{Name: "nodes-pipelined", Title: "Nodes, with pipelines of 100", X: "nodes",
			Note: "As before, but with pipelines of 100 commands."},
		numbers: []int{3, 10, 30, 100, 300},
		start: func(t *testing.T, _ *equipment, n int) ([]target, traffic) {
			addrs := scriptedNodes(t, n)
			return []target{startKeyway(t, ringYAML(addrs)), startTwemproxy(t, addrs)}, traffic{50, 100, getKey}
		},
	},
	{
		curve: curve{Name: "nodes-clients", Title: "Nodes, with 5,000 clients", X: "nodes",
			Note: "GETs one at a time as above, but of 5,000 clients, so that a turn has requests of several clients " +
				"for a node."},
		numbers: []int{3, 10, 30, 100, 300},
		start: func(t *testing.T, _ *equipment, n int) ([]target, traffic) {
			addrs := scriptedNodes(t, n)
			return []target{startKeyway(t, ringYAML(addrs)), startTwemproxy(t, addrs)}, traffic{5000, 1, getKey}
		},
	},
	{
		curve: curve{Name: "rules", Title: "Rules of ranges", X: "rules",
			Note: "Fifty clients, pipelines of 16; three nodes share the keys by numeric rules."},
		numbers: []int{1, 10, 100, 1000, 10_000},
		start: func(t *testing.T, e *equipment, n int) ([]target, traffic) {
			return []target{startKeyway(t, rulesYAML(e.nodes, n))}, traffic{50, 16, getKey}
		},
	},
	{
		curve: curve{Name: "patterns", Title: "Patterns of subscribers", X: "patterns",
			Note: "Fifty clients send PUBLISH, while another is subscribed to patterns that match none of these " +
				"channels. keyway has to count those that match. The nodes have the patterns of all points."},
		numbers: []int{1, 10, 100, 1000, 10_000},
		start:   startPatterns,
	},
	{
		curve: curve{Name: "weights", Title: "Weights", X: "weight of one of three nodes; the others have 1",
			Note: "Fifty clients, pipelines of 16, on a ring."},
		numbers: []int{1, 10, 100, 1000},
		start: func(t *testing.T, e *equipment, n int) ([]target, traffic) {
			yaml := strings.Replace(ringYAML(e.nodes), "{name: n0,", fmt.Sprintf("{name: n0, weight: %d,", n), 1)
			return []target{startKeyway(t, yaml)}, traffic{50, 16, getKey}
		},
	},
}

// rulesYAML shares the numbers below 10,000 between the nodes by n rules.
func rulesYAML(addrs []string, n int) string {
	yaml := strings.Replace(strings.Replace(ringYAML(addrs), "layout: ring", "layout: range", 1),
		"ring: {hash: fnv1a_64}\n", "", 1) + "range:\n  rules:\n"
	for i := range n {
		yaml += fmt.Sprintf("    - {prefix: \"key:\", from: %d, to: %d, node: n%d}\n",
			i*keys/n, (i+1)*keys/n-1, i%len(addrs))
	}
	return yaml + "  default: n0\n"
}

func startPatterns(t *testing.T, e *equipment, n int) ([]target, traffic) {
	t.Helper()
	p := startKeyway(t, ringYAML(e.nodes))
	c := redistest.Dial(t, p.addr)
	for i := range n {
		c.Send("PSUBSCRIBE", fmt.Sprintf("news:%d:*", i))
	}
	receive(t, c, n)
	return []target{p}, traffic{50, 1, request{
		frame: []byte("*3\r\n$7\r\nPUBLISH\r\n$16\r\nkey:" + placeholder + "\r\n$5\r\nhello\r\n"), reply: len(":0\r\n"),
	}}
}

// fill writes all keys of the curves to each node, so that every layout finds them.
func fill(t *testing.T, nodes []*redistest.Node) *equipment {
	t.Helper()
	e := new(equipment)
	for _, n := range nodes {
		c := redistest.Dial(t, n.Addr)
		for i := range keys {
			c.Send("SET", fmt.Sprintf("key:%012d", i), strings.Repeat("x", scriptedValue))
		}
		receive(t, c, keys)
		e.nodes = append(e.nodes, n.Addr)
	}
	e.keyway, e.twemproxy = startKeyway(t, ringYAML(e.nodes)), startTwemproxy(t, e.nodes)
	return e
}

// window is for how long a point is measured in one round, at least; clients send that many pipelines on
// average, at least.
const (
	window    = 300 * time.Millisecond
	pipelines = 3
)

// measureCurve measures all points in turn, round by round.
func measureCurve(t *testing.T, e *equipment, m measuredCurve) curve {
	t.Helper()
	c := m.curve
	var all [][]target
	var traffics []traffic
	for _, n := range m.numbers {
		if m.Name == "clients" && n > mostClients(t) {
			break
		}
		targets, tr := m.start(t, e, n)
		all, traffics = append(all, targets), append(traffics, tr)
		c.Points = append(c.Points, point{X: n})
	}
	samples := make([][][]sample, len(all)) // by point and target
	for round := range *rounds + 1 {
		for i := range all {
			at := (i + round) % len(all)
			for k, p := range all[at] {
				if round == 0 {
					samples[at] = append(samples[at], nil)
				}
				if s := measurePoint(t, p, traffics[at]); round > 0 {
					samples[at][k] = append(samples[at][k], s)
				}
			}
		}
	}
	cpu, rate := func(s sample) float64 { return s.cpu }, func(s sample) float64 { return s.rate }
	for i := range c.Points {
		c.Points[i].Growth = ratios(samples[i][0], samples[0][0], cpu)
		for k, p := range all[i] {
			c.Points[i].Targets = append(c.Points[i].Targets,
				figure{Target: p.name, CPU: median(samples[i][k], cpu), Rate: median(samples[i][k], rate)})
		}
	}
	return c
}

// measurePoint measures while clients are connected. They connect and leave before and after that.
func measurePoint(t *testing.T, p target, tr traffic) sample {
	t.Helper()
	l := connect(t, p.addr, tr.clients, tr.depth, tr.request)
	defer settle(t, p)
	defer l.close()
	l.run(0, 1)
	before := p.cpu(t)
	answered, took := l.run(window, pipelines)
	return sample{
		cpu:  float64((p.cpu(t) - before).Nanoseconds()) / 1000 / float64(answered),
		rate: float64(answered) / took.Seconds(),
	}
}

// settle waits until a process has seen that its clients are gone, so that it takes little time.
func settle(t *testing.T, p target) {
	t.Helper()
	redistest.Eventually(t, time.Minute, p.name+" rests", func() bool {
		before := p.cpu(t)
		time.Sleep(20 * time.Millisecond)
		return p.cpu(t)-before < 2*time.Millisecond
	})
}

// mostClients is for how many clients this process and a proxy may open files.
func mostClients(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(limit.Max) - 1000
}
