package faults

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// calmWithin is by how much longer others' p99 may be while one client does its worst.
const calmWithin = 1.5

// noise is what a p99 is taken to be that is shorter. It says then which process the
// scheduler has chosen, of more than there are processors.
const noise = 5 * time.Millisecond

// calm compares the p99 of a disturbed keyway's, or node's, other clients with that of
// another one's, which nobody disturbs. Both have the same load at the same time, so
// whatever else the machine does delays both: the tests' own work and the disturbing
// client's too.
type calm struct {
	yaml     func(node string) string // keyway's configuration
	node     func() *redistest.Node
	serve    func(yaml string) *redistest.Process
	windows  int
	measured int               // how often
	disturb  func(addr string) // disturbs once
}

// assert fails the test if others see an error, or wait too long. A node that copies a
// large value, or runs a script, delays others without any keyway. So where others wait
// too long, the same is done to a plain Redis, and keyway may add no more to that.
func (c *calm) assert(t *testing.T) {
	t.Helper()
	var nodes, keyways [2]string
	for i := range nodes {
		nodes[i] = c.node().Addr
		keyways[i] = c.serve(c.yaml(nodes[i])).Addr
	}
	var ratio float64
	for range 2 {
		if ratio = c.measure(t, "keyway", keyways); ratio <= calmWithin || t.Failed() {
			return
		}
	}
	if plain := c.measure(t, "plain Redis", nodes); ratio > calmWithin*max(1, plain) {
		t.Errorf("others' p99 is %.2fx of what it is undisturbed, %.2fx at a plain Redis", ratio, plain)
	}
}

// measure disturbs the first of two addresses, and returns the lower quartile of some
// windows' ratios: what keyway does wrong shows in all of them, and what else the machine
// does in a few. Each window is as long as it takes to get enough replies.
func (c *calm) measure(t *testing.T, name string, addrs [2]string) float64 {
	t.Helper()
	const replies = 500
	c.measured++
	var loads [2]*load
	for i, addr := range addrs {
		loads[i] = (&load{addr: addr, clients: 8, depth: 1, pause: time.Millisecond, prefix: fmt.Sprintf("{b}%s%d:", name, c.measured)}).start(t)
		loads[i].more(t, 2*replies)
	}
	ratios := make([]float64, c.windows)
	for i := range int32(len(ratios)) {
		var until [2]int64
		for j, l := range loads {
			l.phase.Store(i + 1)
			until[j] = l.tally.replies.Load() + replies
		}
		for loads[0].tally.replies.Load() < until[0] || loads[1].tally.replies.Load() < until[1] {
			if c.disturb(addrs[0]); t.Failed() {
				return 0
			}
		}
	}
	for i, l := range loads {
		l.halt()
		if l.errors() > 0 {
			t.Errorf("%s: others saw errors: %v", name, &l.tally)
		}
		l.settle(t, addrs[i])
	}
	for i := range ratios {
		disturbed, quiet := loads[0].latency[i+1].at(0.99), loads[1].latency[i+1].at(0.99)
		ratios[i] = float64(max(disturbed, noise)) / float64(max(quiet, noise))
		t.Logf("%s: p99 %s, disturbed %s", name, quiet, disturbed)
	}
	slices.Sort(ratios)
	t.Logf("%s: ratios %.2f", name, ratios)
	return ratios[len(ratios)/4]
}

// doOnce sends a command over a connection of its own. It takes whatever comes of it.
func doOnce(addr string, args ...string) {
	if c, err := redistest.TryDial(addr); err == nil {
		c.TryDo(args...)
		c.Close()
	}
}

// TestOthersStayCalm: what one client does costs the other clients of its node no error
// and hardly any time. (That a closed unix socket keeps no processor busy shows in
// TestGoneClientCostsNothing.)
func TestOthersStayCalm(t *testing.T) {
	ofAProcess(t)
	const pause = 10 * time.Millisecond // between the deeds of one who is not to fill a processor alone
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
				serve:   func(yaml string) *redistest.Process { return redistest.ServeProcess(t, yaml) },
				node:    func() *redistest.Node { return redistest.Start(t, "--proto-max-bulk-len", "1mb") },
				yaml:    func(node string) string { return "layout: ring\nnodes: [{name: a, addr: \"" + node + "\"}]\n" },
				windows: 11,
				disturb: func(addr string) {
					disturb(addr)
					time.Sleep(pause)
				},
			}).assert(t)
		})
	}
	t.Run("a client that closes its unix socket", func(t *testing.T) {
		other := redistest.Start(t)
		sockets := map[string]string{} // by TCP address
		(&calm{
			node: func() *redistest.Node { return redistest.Start(t) },
			yaml: func(node string) string {
				return "layout: slots\nslots: {static: {a: 0-8191, b: 8192-16383}}\n" +
					"nodes: [{name: a, addr: \"" + node + "\"}, {name: b, addr: \"" + other.Addr + "\"}]\n"
			},
			serve: func(yaml string) *redistest.Process {
				addr, sock := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)), filepath.Join(t.TempDir(), "keyway.sock")
				p := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", "listen: ["+addr+", \"unix://"+sock+"\"]\n"+yaml))
				p.Addr, sockets[addr] = addr, sock
				redistest.Eventually(t, 10*time.Second, "keyway answers", func() bool {
					c, err := redistest.TryDial(addr)
					if err != nil {
						return false
					}
					defer c.Close()
					r, err := c.TryDo("EXISTS", "{b}")
					return err == nil && r.Kind == ':'
				})
				return p
			},
			windows: 11,
			disturb: func(addr string) {
				if c, err := net.Dial("unix", sockets[addr]); err == nil {
					other.Freeze()
					io.WriteString(c, strings.Repeat("GET {b}\r\n", 10)+"GET "+keyOfSlot(9000)+"\r\n")
					c.Close() // while its commands wait for the nodes
				}
				time.Sleep(pause)
				other.Thaw()
			},
		}).assert(t)
	})
}

// TestOthersStayCalmDuringTransfers: so they do while a client writes and reads a large
// value at 200 Mbit/s, one that keyway knows to be large and one that it does not.
func TestOthersStayCalmDuringTransfers(t *testing.T) {
	ofAProcess(t)
	value := strings.Repeat("0123456789abcdef", scale(24<<20, 400<<20)/16)
	for _, toNode := range []bool{true, false} {
		t.Run(fmt.Sprintf("slow link to the node %t", toNode), func(t *testing.T) {
			slow := func(addr string) string {
				return redistest.NewFaults(t, addr, func(int) redistest.Plan { return redistest.Plan{Rate: 200e6 / 8} }).Addr
			}
			behind := map[string]bool{} // keyways that have the slow link behind them
			clients := map[string]*redistest.Client{}
			(&calm{
				node: func() *redistest.Node { return redistest.Start(t) },
				yaml: func(node string) string {
					if toNode {
						node = slow(node)
					}
					return "layout: ring\nlimits: {client_output: 512mb}\nnodes: [{name: a, addr: \"" + node + "\"}]\n"
				},
				serve: func(yaml string) *redistest.Process {
					p := redistest.ServeProcess(t, yaml)
					behind[p.Addr] = toNode
					return p
				},
				windows: 5,
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
					c.Expect("OK", "SET", "{b}large", value)
					if r := c.Do("GET", "{b}large"); r.Text != value {
						t.Errorf("GET: %d bytes: %.100s", len(r.Text), r)
					}
					c.Expect(value[:8], "GETRANGE", "{b}large", "0", "7") // keyway forgets that it is large
					if r := c.Do("GET", "{b}large"); r.Text != value {
						t.Errorf("GET: %d bytes: %.100s", len(r.Text), r)
					}
				},
			}).assert(t)
		})
	}
}
