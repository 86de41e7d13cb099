package faults

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	records "github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

const (
	figureKeys    = 200_000
	figureClients = 20
	// figureRate is how many commands all clients together send in a second in an open loop: about a tenth of what two
	// processors can do, so that the figures show keyway and not the queue of the machine.
	figureRate = 4000
)

var figurePace = flag.String("pace", "", "flags of keyway switch in TestSwitchFigures, such as \"--rate 2000\"")

// TestSwitchFigures measures what clients notice while the keys move at the pace auto: 200,000 keys of 100 bytes, 20
// clients, two keyways, from a ring to slots and back. In a closed loop each client waits for its reply before it
// sends the next command; in an open loop commands are due at random times, whatever the replies do. Keys are chosen
// evenly, or by Zipf's law, with which half of the commands use less than 1 % of the keys. Reads stay at the nodes that
// keys leave; writes bring them.
//
//	go test ./test/faults -run TestSwitchFigures -v -args -long
//	go test ./test/faults -run TestSwitchFigures -v -args -long -pace '--rate 2000'
func TestSwitchFigures(t *testing.T) {
	if !*long {
		t.Skip("it measures time: run it with -args -long, when the machine has nothing else to do")
	}
	for _, isOpen := range []bool{false, true} {
		for _, isZipf := range []bool{false, true} {
			for _, writes := range []int{0, 5} {
				name := map[bool]string{false: "closed loop", true: "open loop"}[isOpen] + ", " +
					map[bool]string{false: "keys used evenly", true: "keys by Zipf's law"}[isZipf] + ", " +
					map[int]string{0: "reads only", 5: "one write for four reads"}[writes]
				t.Run(name, func(t *testing.T) {
					measureSwitches(t, &generator{isOpen: isOpen, isZipf: isZipf, writes: writes})
				})
			}
		}
	}
}

// measureSwitches compares the latency of clients before a change and during it, in pairs.
func measureSwitches(t *testing.T, g *generator) {
	nodes, ring, slots := threeByTwoLayouts(t)
	keyways := []*redistest.Process{redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)}
	fillFigures(t, keyways[0].Addr)
	for i := range figureClients {
		g.connect(t, keyways[i%2].Addr)
	}
	g.start()
	defer g.stop()
	const pairs = 4
	var ratios []float64
	for i := range pairs {
		older, newer := ring, slots
		if i%2 == 1 {
			older, newer = slots, ring
		}
		time.Sleep(2 * time.Second)
		before, since := g.measure(), time.Now()
		time.Sleep(4 * time.Second)
		g.measure()
		quiet := time.Since(since)
		c := beginSwitch(t, older, newer, strings.Fields(*figurePace)...).moves()
		began := time.Now()
		during := g.measure()
		haveMoved(t, nodes[0], int64(i+1), len(nodes))
		took := time.Since(began)
		g.measure()
		c.goesThrough()
		ratio := float64(during.at(0.99)) / float64(before.at(0.99))
		ratios = append(ratios, ratio)
		t.Logf("p50 %v -> %v, p99 %v -> %v (%.2fx), p99.9 %v -> %v; %.0f -> %.0f commands/s; keys moved for %v",
			before.at(0.5), during.at(0.5), before.at(0.99), during.at(0.99), ratio, before.at(0.999), during.at(0.999),
			float64(before.count())/quiet.Seconds(), float64(during.count())/took.Seconds(),
			took.Round(time.Millisecond))
	}
	slices.Sort(ratios)
	median := (ratios[(pairs-1)/2] + ratios[pairs/2]) / 2
	t.Logf("p99 while keys move: %.2f times that before (median of %d pairs, %.2f to %.2f)",
		median, pairs, ratios[0], ratios[pairs-1])
	if median > 2 && !g.isOpen {
		t.Error("the pace auto does not spare clients that wait for their replies")
	}
	if n := g.errors.Load(); n > 0 {
		t.Errorf("%d replies were errors, such as %v", n, g.example.Load())
	}
}

// TestFirstTouch measures how long the first command takes on a key that moves, on nodes with nothing else to do: its
// keyway brings it, since the command is no GET. Then another keyway is asked for the same keys, which have left by
// then.
//
//	go test ./test/faults -run TestFirstTouch -v -args -long
func TestFirstTouch(t *testing.T) {
	if !*long {
		t.Skip("it measures time: run it with -args -long, when the machine has nothing else to do")
	}
	_, ring, slots := threeByTwoLayouts(t)
	keyways := []*redistest.Process{redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)}
	fillFigures(t, keyways[0].Addr)
	touch := func(what string, k *redistest.Process) {
		c, h := redistest.Dial(t, k.Addr), new(histogram)
		defer c.Close()
		for i := range figureKeys / 20 {
			began := time.Now()
			if c.MustDo("STRLEN", fmt.Sprint("key:", i)).Int != 100 {
				t.Errorf("key:%d is not there", i)
			}
			h.add(time.Since(began))
		}
		t.Logf("%-42s p50 %v, p90 %v, p99 %v", what, h.at(0.5), h.at(0.9), h.at(0.99))
	}
	touch("before the change", keyways[0])
	beginSwitch(t, ring, slots, "--rate", "1", "--latency", "0").moves()
	touch("first command; two of three keys move", keyways[0])
	touch("the same keys, by another keyway", keyways[1])
	touch("the same keys again", keyways[1])
}

// threeByTwoLayouts starts three nodes, and returns two configurations of all of them: a ring and slots.
func threeByTwoLayouts(t *testing.T) (nodes []*redistest.Node, ring, slots string) {
	nodes = redistest.Three(t)
	yaml := redistest.NodesYAML(nodes)
	return nodes, "layout: ring\n" + yaml,
		"layout: slots\nslots: {static: {a: 0-5460, b: 5461-10922, c: 10923-16383}}\n" + yaml
}

// haveMoved waits until the home of a change says that so many nodes have sent all their keys.
func haveMoved(t *testing.T, home *redistest.Node, epoch int64, n int) {
	c := redistest.Dial(t, home.Addr)
	defer c.Close()
	redistest.Eventually(t, 3*time.Minute, "the keys have moved", func() bool {
		return len(c.MustDo("FUNCTION", "LIST", "LIBRARYNAME", records.DrainedName(epoch, "")+"*").Elems) == n
	})
}

func fillFigures(t *testing.T, addr string) {
	c := redistest.Dial(t, addr)
	defer c.Close()
	value := strings.Repeat("x", 100)
	each(t, c, figureKeys, func(i int) (want string, command []string) {
		return "OK", []string{"SET", fmt.Sprint("key:", i), value}
	})
}

// generator is clients that read and write keys.
type generator struct {
	isOpen, isZipf bool
	writes         int // one command of so many is a SET, and the others are GET; 0: all are
	conns          []*generated
	window         atomic.Pointer[histogram]
	errors         atomic.Int64
	example        atomic.Value
	stopped        atomic.Bool
	wg             sync.WaitGroup
}

// generated is one of the clients.
type generated struct {
	net.Conn
	in   *bufio.Reader
	sent chan time.Time // of an open loop: when the commands were sent whose replies are due
	rng  *rand.Rand
	zipf *rand.Zipf
	out  []byte
}

func (g *generator) connect(t *testing.T, addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(len(g.conns)), 11))
	g.conns = append(g.conns, &generated{
		Conn: conn, in: bufio.NewReader(conn), sent: make(chan time.Time, 100_000), rng: rng,
		zipf: rand.NewZipf(rng, 1.01, 1, figureKeys-1),
	})
}

func (g *generator) start() {
	g.window.Store(new(histogram))
	for _, c := range g.conns {
		g.wg.Go(func() {
			for !g.stopped.Load() {
				at := time.Now()
				if g.isOpen {
					var ok bool
					if at, ok = <-c.sent; !ok {
						return
					}
				} else if g.send(c) != nil {
					return
				}
				if !g.receive(c) {
					return
				}
				g.window.Load().add(time.Since(at))
			}
		})
	}
	if g.isOpen {
		g.wg.Go(g.schedule)
	}
}

// schedule sends commands at random times, to clients in turn.
func (g *generator) schedule() {
	rng := rand.New(rand.NewPCG(1, 2))
	due := time.Now()
	for i := 0; !g.stopped.Load(); i++ {
		due = due.Add(time.Duration(rng.ExpFloat64() * float64(time.Second) / figureRate))
		for wait := time.Until(due); wait > 0; wait = time.Until(due) {
			pause := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&pause, nil) // more exact than the runtime's timers
		}
		c := g.conns[i%len(g.conns)]
		c.sent <- time.Now()
		if g.send(c) != nil {
			break
		}
	}
	for _, c := range g.conns {
		close(c.sent)
	}
}

func (g *generator) send(c *generated) error {
	n := uint64(c.rng.IntN(figureKeys))
	if g.isZipf {
		n = c.zipf.Uint64()
	}
	key := fmt.Sprint("key:", n)
	c.out = c.out[:0]
	if g.writes > 0 && c.rng.IntN(g.writes) == 0 {
		c.out = fmt.Appendf(c.out, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$100\r\n%0100d\r\n", len(key), key, 0)
	} else {
		c.out = fmt.Appendf(c.out, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
	}
	_, err := c.Write(c.out)
	return err
}

func (g *generator) receive(c *generated) bool {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return false
	}
	switch line[0] {
	case '$':
		if line[1] == '-' {
			g.errors.Add(1)
			g.example.Store("a key that is not there")
			return true
		}
		_, err = io.CopyN(io.Discard, c.in, 102)
	case '-':
		g.errors.Add(1)
		g.example.Store(string(line))
	}
	return err == nil
}

// measure returns what is measured from now on, until the next call.
func (g *generator) measure() *histogram {
	h := new(histogram)
	g.window.Store(h)
	return h
}

func (g *generator) stop() {
	g.stopped.Store(true)
	if !g.isOpen {
		for _, c := range g.conns {
			c.SetDeadline(time.Now())
		}
	}
	g.wg.Wait()
	for _, c := range g.conns {
		c.Close()
	}
}
