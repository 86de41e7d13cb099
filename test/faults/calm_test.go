package faults

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// calmWithin is by how much longer others' p99 may be while one client does its worst.
const calmWithin = 1.2

// calmTries is how often it is measured, until it is within the bound. Of eleven windows on a busy machine a third or
// a half have a ratio above the bound without a fault of keyway; then three quarters of them have it in one of 30
// measurements at most, so in one of a million tests. A fault shows in all.
const calmTries = 4

// If others may have to wait only now and then, such as twice a second for a new topology, windows are so long that
// each has such a moment, and fewer. The lowest of three ratios counts. All three are above the bound in one of eight
// measurements without a fault, so in all of eight measurements in one of 16 million tests.
const rareReplies, rareWindows, rareTries = 2000, 3, 8

// hopeless is a ratio that no other work of the machine causes.
const hopeless = 10

// noise is the shortest p99 that the tests distinguish. A shorter one depends only on which
// process the scheduler has chosen, since there are more processes than processors.
const noise = 5 * time.Millisecond

// calm compares the p99 of two groups of clients: those of a keyway or node that one client
// disturbs, and those of an undisturbed one. Both have the same load at the same time, so
// all other work of the machine delays both, including that of the disturbing client.
type calm struct {
	yaml     func(node string) string // keyway's configuration
	node     func() *redistest.Node
	serve    func(yaml string) *redistest.Process
	login    []string // of the others; nil: they need none
	replies  int      // that others get in each window; 0 means 400
	windows  int      // of one measurement, at least; 0 means 11
	whole    bool     // each window is a disturbance, however long that takes
	tries    int      // measurements, at most; 0 means calmTries
	within   float64  // by how much longer the p99 may be; 0 means calmWithin
	lossy    func(key string) bool
	name     string            // a part of the keys' names, if several have the same nodes
	measured int               // number of measurements so far
	disturb  func(addr string) // disturbs once
}

// assert fails the test if others see an error, or wait too long. A node that copies a
// large value, or runs a script, delays others without any keyway. So where others wait
// too long, the same is done to a plain Redis, and keyway may add no more to that. The
// long form always does the same to a plain Redis, to log how others fare there.
func (c *calm) assert(t *testing.T) {
	t.Helper()
	var nodes, keyways [2]string
	for i := range nodes {
		nodes[i] = c.node().Addr
		keyways[i] = c.serve(c.yaml(nodes[i])).Addr
	}
	var ratio float64
	within := cmp.Or(c.within, calmWithin)
	for range cmp.Or(c.tries, calmTries) {
		if ratio = c.measure(t, "keyway", keyways); ratio <= within || ratio > hopeless {
			break
		}
	}
	if t.Failed() || ratio <= within && !*long {
		return
	}
	if plain := c.measure(t, "plain Redis", nodes); ratio > within*max(1, plain) {
		t.Errorf("others' p99 is %.2fx of what it is undisturbed, %.2fx at a plain Redis", ratio, plain)
	}
}

// measure disturbs the first of two addresses for at least one whole disturbance and
// so many windows. It returns the lower quartile of the windows' ratios: a fault of keyway
// shows in all windows, other work of the machine only in a few.
func (c *calm) measure(t *testing.T, name string, addrs [2]string) float64 {
	t.Helper()
	c.measured++
	var w windows
	for i, addr := range addrs {
		prefix := fmt.Sprintf("{b}%s%s%d:", name, c.name, c.measured)
		w.loads[i] = (&load{
			addr: addr, login: c.login, clients: 8, depth: 1, pause: time.Millisecond, prefix: prefix, lossy: c.lossy,
		}).start(t)
	}
	for _, l := range w.loads {
		l.more(t, 1000)
	}
	end := func() {}
	if !c.whole {
		end = w.begin(cmp.Or(c.replies, 400))
	}
	defer end()
	for first := true; first || w.complete.Load() < int64(cmp.Or(c.windows, 11)); first = false {
		if c.whole {
			w.open()
		}
		if c.disturb(addrs[0]); t.Failed() {
			return 0
		}
		if c.whole {
			w.close()
		}
	}
	end()
	for i, l := range w.loads {
		l.halt()
		if l.errors() > 0 {
			t.Errorf("%s: others saw errors: %v", name, &l.tally)
		}
		l.settle(t, addrs[i])
	}
	return w.ratio(t, name)
}

// windows are the latencies of two loads, one disturbed and one not, in the same
// intervals. One disturbance may take many of them.
type windows struct {
	loads     [2]*load
	latencies [][2]*histogram
	complete  atomic.Int64
}

// open begins a window, and close ends it.
func (w *windows) open() {
	w.latencies = append(w.latencies, [2]*histogram{new(histogram), new(histogram)})
	for i, l := range w.loads {
		l.window.Store(w.latencies[len(w.latencies)-1][i])
	}
}

func (w *windows) close() {
	for _, l := range w.loads {
		l.window.Store(nil)
	}
	w.complete.Add(1)
}

// begin measures one window after another, each as long as it takes until both loads have
// so many replies. The returned function ends that, and drops the unfinished window.
func (w *windows) begin(replies int) (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var latency [2]*histogram
			var until [2]int64
			for i, l := range w.loads {
				latency[i] = new(histogram)
				l.window.Store(latency[i])
				until[i] = l.tally.replies.Load() + int64(replies)
			}
			for w.loads[0].tally.replies.Load() < until[0] || w.loads[1].tally.replies.Load() < until[1] {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
			w.latencies = append(w.latencies, latency)
			w.complete.Add(1)
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
	})
}

// ratio returns the lower quartile of the ratios of the loads' p99, and logs the others.
func (w *windows) ratio(t *testing.T, name string) float64 {
	t.Helper()
	var ratios, exact, disturbed, quiet []float64
	var whole [2]histogram
	for _, l := range w.latencies {
		d, q := l[0].at(0.99), l[1].at(0.99)
		ratios = append(ratios, float64(max(d, noise))/float64(max(q, noise)))
		exact = append(exact, float64(d)/float64(q))
		disturbed, quiet = append(disturbed, d.Seconds()*1e3), append(quiet, q.Seconds()*1e3)
		whole[0].join(l[0])
		whole[1].join(l[1])
	}
	t.Logf("%s: p99 %s, disturbed %s", name, whole[1].at(0.99), whole[0].at(0.99))
	t.Logf("%s: quartiles of %d windows: p99 %.1f ms, disturbed %.1f ms; ratio %.2f, with noise %.2f",
		name, len(ratios), quartiles(quiet), quartiles(disturbed), quartiles(ratios), quartiles(exact))
	return quartiles(ratios)[0]
}

func quartiles(of []float64) (q [3]float64) {
	slices.Sort(of)
	for i := range q {
		q[i] = of[len(of)*(i+1)/4]
	}
	return q
}

// doOnce sends a command over a connection of its own, and ignores the result.
func doOnce(addr string, args ...string) {
	if c, err := redistest.TryDial(addr); err == nil {
		c.TryDo(args...)
		c.Close()
	}
}

// disturbPause is the pause between disturbances, so that they do not fill a processor alone.
const disturbPause = 10 * time.Millisecond

// TestOthersStayCalm: a client that misbehaves causes the other clients of its node no error
// and hardly any delay. (That a closed unix socket keeps no processor busy shows in
// TestGoneClientCostsNothing.)
func TestOthersStayCalm(t *testing.T) {
	redistest.OfAProcess(t)
	tooLarge := strings.Repeat("x", 2<<20)
	stars := strings.Repeat("*a", 30) + "*b"
	for name, disturb := range map[string]func(addr string){
		"a value that the node refuses": func(addr string) { doOnce(addr, "SET", "{b}large", tooLarge) },
		"a reply of 8,000 levels": func(addr string) {
			doOnce(addr, "EVAL", "local a={}; local b={a}; a[1]=b; return a", "1", "{b}")
		},
		"a pattern of 30 stars": func(addr string) {
			c, err := redistest.TryDial(addr)
			if err != nil {
				return
			}
			defer c.Close()
			c.TryDo("PSUBSCRIBE", stars)
			doOnce(addr, "PUBLISH", strings.Repeat("a", 200), "message")
		},
	} {
		t.Run(name, func(t *testing.T) {
			(&calm{
				serve: func(yaml string) *redistest.Process { return redistest.ServeProcess(t, yaml) },
				node:  func() *redistest.Node { return redistest.Start(t, "--proto-max-bulk-len", "1mb") },
				yaml:  func(node string) string { return redistest.Ring(node) },
				disturb: func(addr string) {
					disturb(addr)
					time.Sleep(disturbPause)
				},
			}).assert(t)
		})
	}
}

// TestOthersStayCalmWhenASocketCloses: so they do when a client closes its unix socket while
// its commands wait for the nodes.
func TestOthersStayCalmWhenASocketCloses(t *testing.T) {
	redistest.OfAProcess(t)
	other := redistest.Start(t)
	sockets := map[string]string{} // by TCP address
	(&calm{
		node: func() *redistest.Node { return redistest.Start(t) },
		yaml: func(node string) string {
			return "layout: slots\nslots: {static: {a: 0-8191, b: 8192-16383}}\n" +
				"nodes: [{name: a, addr: \"" + node + "\"}, {name: b, addr: \"" + other.Addr + "\"}]\n"
		},
		serve: func(yaml string) *redistest.Process {
			addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
			sock := filepath.Join(t.TempDir(), "keyway.sock")
			yaml = "listen: [" + addr + ", \"unix://" + sock + "\"]\n" + yaml
			p := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", yaml))
			p.Addr, sockets[addr] = addr, sock
			redistest.Eventually(t, 10*time.Second, "keyway answers", func() bool {
				return redistest.Ask(addr, "EXISTS", "{b}").Kind == ':'
			})
			return p
		},
		disturb: func(addr string) {
			if c, err := net.Dial("unix", sockets[addr]); err == nil {
				other.Freeze()
				io.WriteString(c, strings.Repeat("GET {b}\r\n", 10)+"GET "+keyOfSlot(9000)+"\r\n")
				c.Close() // while its commands wait for the nodes
			}
			time.Sleep(disturbPause)
			other.Thaw()
		},
	}).assert(t)
}

// TestOthersStayCalmDuringTransfers: so they do while a client writes or reads a large
// value at 200 Mbit/s, one that keyway knows to be large or one that it does not.
func TestOthersStayCalmDuringTransfers(t *testing.T) {
	redistest.OfAProcess(t)
	value := strings.Repeat("0123456789abcdef", scale(16<<20, 400<<20)/16)
	get := func(t *testing.T, c *redistest.Client) {
		if r := c.Do("GET", "{b}large"); r.Text != value {
			t.Errorf("GET: %d bytes: %.100s", len(r.Text), r)
		}
	}
	for name, transfer := range map[string]func(t *testing.T, c *redistest.Client){
		"write": func(t *testing.T, c *redistest.Client) { c.Expect("OK", "SET", "{b}large", value) },
		"read":  get,
		"unannounced read": func(t *testing.T, c *redistest.Client) {
			c.Expect(value[:8], "GETRANGE", "{b}large", "0", "7") // keyway forgets that it is large
			get(t, c)
		},
	} {
		for _, link := range []string{"node", "client"} {
			t.Run(name+" over a slow link to the "+link, func(t *testing.T) {
				calmDuring(t, value, link == "node", func(c *redistest.Client) { transfer(t, c) })
			})
		}
	}
}

// calmDuring asserts that others stay calm during transfers of value at 200 Mbit/s, either
// between keyway and its node or between the client and keyway. Where there is no keyway,
// the client's link is the slow one.
func calmDuring(t *testing.T, value string, toNode bool, transfer func(c *redistest.Client)) {
	slow := func(addr string) string {
		return redistest.NewFaults(t, addr, func(int) redistest.Plan {
			return redistest.Plan{Rate: 200e6 / 8}
		}).Addr
	}
	var node *redistest.Node    // the latest
	behind := map[string]bool{} // keyways that have the slow link behind them
	clients := map[string]*redistest.Client{}
	(&calm{
		node: func() *redistest.Node {
			node = redistest.Start(t)
			return node
		},
		yaml: func(node string) string {
			if toNode {
				node = slow(node)
			}
			return "limits: {client_output: 512mb}\n" + redistest.Ring(node)
		},
		serve: func(yaml string) *redistest.Process {
			p := redistest.ServeProcess(t, yaml)
			behind[p.Addr] = toNode
			// keyway learns that the value is large.
			redistest.Dial(t, p.Addr).Expect("OK", "SET", "{b}large", value[:1<<20])
			node.Do("SET", "{b}large", value)
			return p
		},
		replies: scale(400, 2000),
		disturb: func(addr string) {
			c := clients[addr]
			if c == nil {
				link := addr
				if !behind[addr] {
					link = slow(addr)
				}
				c = redistest.Dial(t, link)
				clients[addr] = c
			}
			transfer(c)
		},
	}).assert(t)
}
