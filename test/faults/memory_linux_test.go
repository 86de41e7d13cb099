package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// These tests bound what one client can use: memory, processor time, descriptors and other
// clients' time. They assert memory, processor time and which clients are closed, and only
// print times. They read /proc, so they run on Linux only.

// connect opens n connections to addr, which are closed when the test ends.
func connect(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		conns[i] = c
	}
	return conns
}

// metric sums a metric over its labels.
func metric(t *testing.T, admin, name string) (sum float64) {
	t.Helper()
	r, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name); ok && strings.ContainsAny(rest[:1], "{ ") {
			v, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			sum += v
		}
	}
	return sum
}

func admin(t *testing.T) (addr, yaml string) {
	addr = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	return addr, "admin: " + addr + "\n"
}

// TestUnfinishedCommandsTakeLittleMemory: thousands of clients that never finish a command take
// two KiB each at most. A client that has not authenticated and does not read is closed.
func TestUnfinishedCommandsTakeLittleMemory(t *testing.T) {
	node := redistest.Start(t)
	yaml := redistest.Ring(node.Addr)
	p := redistest.ServeProcess(t, yaml)
	l := (&load{addr: p.Addr, clients: 10, depth: 4, pause: time.Millisecond}).start(t)
	l.more(t, 5_000)
	base := p.RSS()
	n := max(2_000, scale(2_000, 9_000)) // with fewer, the process's own few hundred KiB would count
	conns := connect(t, p.Addr, n)
	l.phase.Store(1)
	command := "*2\r\n$3\r\nGET\r\n$2000\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	for i := range scale(10, len(command)) {
		for _, c := range conns {
			if _, err := c.Write([]byte{command[i]}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(200 * time.Millisecond) // between the drops
	}
	l.more(t, 5_000)
	l.halt()
	grown := p.RSS() - base
	t.Logf("%d dribbling clients: %d bytes each; others before: %v; since: %v",
		n, grown/int64(n), &l.latency[0], &l.latency[1])
	if grown > int64(n)*2048 {
		t.Errorf("the process has grown by %d KiB for %d clients", grown>>10, n)
	}
	l.settle(t, p.Addr)
	for _, c := range conns {
		c.Close()
	}

	guarded := redistest.Serve(t, "clients: {password: secret}\n"+yaml).Ready()
	one := []byte(strings.Repeat("GET x\r\n", 100))
	for _, c := range connect(t, guarded.Addr, scale(100, 1_000)) {
		c.SetWriteDeadline(time.Now().Add(20 * time.Second))
		sent, err := 0, error(nil)
		for err == nil && sent < 64<<20 {
			var k int
			k, err = c.Write(one)
			sent += k
		}
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a client that has not authenticated may send %d bytes and read nothing (%v)", sent, err)
		}
	}
	redistest.Eventually(t, 10*time.Second, "all of them are closed", func() bool {
		return guarded.Snapshot()[0].Clients == 0
	})
}

// TestCommandsByteByByteCostNoMore: a command that arrives byte by byte costs time in
// proportion to its bytes, and at most twice its size in memory.
func TestCommandsByteByByteCostNoMore(t *testing.T) {
	node := redistest.Start(t)
	yaml := redistest.Ring(node.Addr)
	p := redistest.ServeProcess(t, yaml)
	const size, args = 1 << 20, 100_000
	for name, command := range map[string]string{
		"one large argument": fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$%d\r\n%s\r\n",
			size, strings.Repeat("x", size)),
		"many small arguments": fmt.Sprintf("*%d\r\n$3\r\nDEL\r\n%s", args, strings.Repeat("$1\r\nx\r\n", args-1)),
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, p.Addr, 1)[0]
			cpu := p.CPU()
			for i := range len(command) {
				if _, err := io.WriteString(c, command[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if reply, err := bufio.NewReader(c).ReadString('\n'); err != nil || reply[0] == '-' {
				t.Fatal(reply, err)
			}
			used := p.CPU() - cpu
			c.Close()

			k := redistest.Serve(t, yaml).Ready()
			before := heap()
			c = connect(t, k.Addr, 1)[0]
			io.WriteString(c, command[:len(command)-1])
			redistest.Eventually(t, 10*time.Second, "all is read but the last byte", func() bool {
				return k.Snapshot()[0].BytesIn == uint64(len(command)-1)
			})
			grown := heap() - before
			t.Logf("%d bytes one by one: %s of processor time, %d KiB of memory", len(command), used, grown>>10)
			// A wake-up for each byte takes some 4 us on a machine that is idle, more on
			// one that is not; what looked at the whole command again for each would
			// take hours.
			if used > time.Duration(len(command))*50*time.Microsecond {
				t.Errorf("%s of processor time", used)
			}
			// The position of each argument takes eight bytes.
			if limit := int64(2*len(command) + 1<<20); grown > limit {
				t.Errorf("the heap has grown by %d KiB", grown>>10)
			}
			c.Close()
		})
	}
}

// TestClientsBeyondTheFileLimit: two thousand clients connect, with files for a thousand. Those
// over the limit get an error, nothing spins, and there is room again when the others have
// left.
func TestClientsBeyondTheFileLimit(t *testing.T) {
	redistest.OfAProcess(t)
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, redistest.Ring(node.Addr), "prlimit", "--nofile=1024")
	refused, conns := 0, connect(t, p.Addr, 2000)
	for _, c := range conns {
		io.WriteString(c, "PING\r\n")
	}
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, _ := bufio.NewReader(c).ReadString('\n')
		switch {
		case line == "-ERR max number of clients reached\r\n", line == "": // reset by what it sent afterwards
			refused++
		case line != "+PONG\r\n":
			t.Fatalf("%q", line)
		}
	}
	cpu, began := p.CPU(), time.Now()
	time.Sleep(2 * time.Second) // measures
	share := float64(p.CPU()-cpu) / float64(time.Since(began))
	t.Logf("%d of 2,000 refused; afterwards %.1f %% of a processor", refused, 100*share)
	if refused < 900 || refused > 1200 {
		t.Errorf("%d of 2,000 clients were refused", refused)
	}
	if share > 0.05 {
		t.Errorf("%.1f %% of a processor when nothing happens", 100*share)
	}
	for _, c := range conns {
		c.Close()
	}
	redistest.Eventually(t, 10*time.Second, "there is room again", func() bool {
		return redistest.Ask(p.Addr, "PING").Text == "PONG"
	})
}

// TestFilesStayFreeForSharedConnections: clients come, and block, until there is room for no more. All get
// an answer that says so, and the connection that clients share can be made anew.
func TestFilesStayFreeForSharedConnections(t *testing.T) {
	redistest.OfAProcess(t)
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, "threads: 1\n"+redistest.Ring(node.Addr), "prlimit", "--nofile=256")
	c := redistest.Dial(t, p.Addr)
	c.Expect("OK", "SET", "a", "1")
	const clients, together = 300, 140 // for whom there is room, and for as many connections of their own not
	var replied atomic.Int64
	replies := make(chan string, clients)
	block := func(conn net.Conn) {
		io.WriteString(conn, "BLPOP list 0\r\n")
		go func() {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			replied.Add(1)
			replies <- line
		}()
	}
	first := connect(t, p.Addr, together)
	for _, conn := range first {
		io.WriteString(conn, "PING\r\n")
		io.ReadFull(conn, make([]byte, len("+PONG\r\n")))
	}
	p.Cmd.Process.Signal(syscall.SIGSTOP) // it reads all their commands in one turn
	for _, conn := range first {
		block(conn)
	}
	p.Cmd.Process.Signal(syscall.SIGCONT)
	for range clients - together { // one after the other, as each needs two files
		block(connect(t, p.Addr, 1)[0])
	}
	redistest.Eventually(t, 10*time.Second, "every client is refused or blocked", func() bool {
		blocked := strings.Count(node.Do("CLIENT", "LIST").Text, " cmd=blpop ")
		return int(replied.Load())+blocked == clients
	})
	direct := redistest.Dial(t, node.Addr)
	for range 5 {
		for line := range strings.SplitSeq(direct.MustDo("CLIENT", "LIST", "TYPE", "normal").Text, "\n") {
			if id, rest, ok := strings.Cut(line, " "); ok && !strings.Contains(rest, " cmd=blpop ") &&
				!strings.Contains(rest, " cmd=client|list ") {
				direct.Do("CLIENT", "KILL", "ID", strings.TrimPrefix(id, "id=")) // keyway may have closed it by now
			}
		}
		c.Expect("1", "GET", "a")
	}
	for range clients {
		node.Do("LPUSH", "list", "x")
	}
	counts := map[string]int{}
	for range clients {
		counts[<-replies]++
	}
	const full = "-ERR keyway: too many clients hold a connection of their own to this node " +
		"(BLPOP, WATCH, WAIT...); raise backend.exclusive, or ulimit -n\r\n"
	// A client without a reply was reset by what it sent after the refusal.
	served, refused := counts["*2\r\n"], counts["-ERR max number of clients reached\r\n"]+counts[""]
	if served < 10 || refused < 50 || served+refused+counts[full] != clients {
		t.Errorf("replies: %v", counts)
	}
}

// TestSlowReadersAreClosed: clients that ask for large values and hardly read are
// closed at their limit; the nodes' connections go on for the others.
func TestSlowReadersAreClosed(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	const limit = 2 << 20
	adminAddr, adminYAML := admin(t)
	// Redis needs a second or two for a GiB.
	yaml := adminYAML + redistest.Layouts(nodes)["slots"] +
		"limits: {client_output: 2mb}\nbackend: {request_timeout: 20s}\n"
	p := redistest.ServeProcess(t, yaml)
	l := (&load{addr: p.Addr, clients: 50, depth: 4, pause: 2 * time.Millisecond}).start(t)
	c := redistest.Dial(t, p.Addr)
	for i := range 9 {
		c.MustDo("SET", fmt.Sprintf("big:%d", i), strings.Repeat("x", 10<<20))
	}
	c.Close()
	l.more(t, 20_000)
	base := p.RSS()
	l.phase.Store(1)
	slow := scale(30, 100)
	stop, peak := make(chan struct{}), int64(0)
	var wg sync.WaitGroup
	for i, conn := range connect(t, p.Addr, slow) {
		conn.(*net.TCPConn).SetReadBuffer(4096)
		fmt.Fprintf(conn, "GET big:%d\r\n", i%9)
		wg.Add(1)
		go func() {
			defer wg.Done()
			buf := make([]byte, 102)
			for { // a KiB a second
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
				if _, err := conn.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	redistest.Eventually(t, 30*time.Second, "the slow readers are closed", func() bool {
		peak = max(peak, p.RSS())
		return metric(t, adminAddr, "keyway_clients_closed_total") >= float64(slow)
	})
	l.more(t, 20_000)
	l.halt()
	close(stop)
	wg.Wait()
	t.Logf("%d slow readers: %d KiB of memory; others before: %v; since: %v",
		slow, (peak-base)>>10, &l.latency[0], &l.latency[1])
	// Go lets as much garbage lie as there is in use. Without a limit it would be 10 MiB for each.
	if grown := peak - base; grown > 2*int64(slow)*limit+32<<20 {
		t.Errorf("the process has grown by %d MiB for %d slow readers", grown>>20, slow)
	}
	if l.errors() != 0 {
		t.Errorf("others saw errors: %v", &l.tally)
	}
	l.settle(t, p.Addr)
}

// TestLargeUploadsGiveTheirMemoryBack: a large SET, at full speed and slowly, does not delay
// other clients, and its memory is returned.
func TestLargeUploadsGiveTheirMemoryBack(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	p := redistest.ServeProcess(t, redistest.Layouts(nodes)["ring"])
	l := (&load{addr: p.Addr, clients: 50, depth: 4, pause: 2 * time.Millisecond}).start(t)
	l.more(t, 20_000)
	base := p.RSS()
	l.phase.Store(1)
	slow := connect(t, p.Addr, 1)[0]
	fmt.Fprintf(slow, "*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$%d\r\n", 256<<20)
	fast := connect(t, p.Addr, 1)[0]
	size := scale(128, 256) << 20
	fmt.Fprintf(fast, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n", size)
	block := []byte(strings.Repeat("x", 64<<10))
	for range size / len(block) {
		if _, err := fast.Write(block); err != nil {
			t.Fatal(err)
		}
		if _, err := slow.Write(block[:1<<10]); err != nil { // some MiB in all
			t.Fatal(err)
		}
	}
	io.WriteString(fast, "\r\n")
	fast.SetReadDeadline(time.Now().Add(30 * time.Second))
	if line, err := bufio.NewReader(fast).ReadString('\n'); line != "+OK\r\n" {
		t.Fatal(line, err)
	}
	redistest.Eventually(t, 10*time.Second, "what the upload took is given back", func() bool {
		return p.RSS() < base+32<<20
	})
	l.more(t, 20_000)
	l.halt()
	t.Logf("others before: %v; since: %v", &l.latency[0], &l.latency[1])
	if l.errors() != 0 {
		t.Errorf("others saw errors: %v", &l.tally)
	}
	l.settle(t, p.Addr)
}

// What an idle client may take: of the heap, and of the process's resident memory. The latter includes what
// the runtime needs besides, and the garbage that the process leaves while its clients idle.
const (
	maxIdleHeap     = 450
	maxIdleResident = 600
)

// TestIdleClientsTakeLittleMemory measures how much memory and processor time an idle client takes, and in its
// long form one that idles after a command too, which all clients have sent at once.
func TestIdleClientsTakeLittleMemory(t *testing.T) {
	node := redistest.Start(t)
	yaml := "clients: {max: 20000}\n" + redistest.Ring(node.Addr)
	t.Run("heap", func(t *testing.T) {
		k := redistest.Serve(t, yaml).Ready()
		n := scale(4_000, 6_000) // two descriptors each, of the test's 20,000
		before := heap()
		sockets := idleClients(t, k.Addr, n)
		defer closeAll(sockets)
		redistest.Eventually(t, 20*time.Second, "all are connected", func() bool {
			return k.Snapshot()[0].Clients == n
		})
		each := (heap() - before) / int64(n)
		t.Logf("%d idle clients: %d bytes of heap each", n, each)
		if each > maxIdleHeap && !redistest.Race {
			t.Errorf("%d bytes of heap for each idle client", each)
		}
	})
	commands := map[string]string{"resident": ""}
	if *long {
		commands["resident after a command"] = "EXISTS nothing\r\n"
	}
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			p := redistest.ServeProcess(t, yaml)
			n, before := scale(10_000, 19_000), p.RSS()
			sockets := idleClients(t, p.Addr, n)
			defer closeAll(sockets)
			reply := make([]byte, 16)
			for _, fd := range sockets {
				if _, err := unix.Write(fd, []byte(command)); err != nil {
					t.Fatal(err)
				}
			}
			for i, fd := range sockets {
				if n, err := unix.Read(fd, reply[:len(command)/4]); string(reply[:n]) != ":0\r\n"[:len(command)/4] {
					t.Fatalf("client %d got %q, %v", i, reply[:n], err)
				}
			}
			redistest.Eventually(t, 20*time.Second, "all are connected", func() bool { return p.Descriptors() > n })
			var each int64
			redistest.Eventually(t, 40*time.Second, "an idle client takes little", func() bool {
				each = (p.RSS() - before) / int64(n)
				return each <= maxIdleResident || redistest.Race
			})
			cpu, began := p.CPU(), time.Now()
			time.Sleep(3 * time.Second) // measures
			share := float64(p.CPU()-cpu) / float64(time.Since(began))
			t.Logf("%d idle clients: %d bytes of resident memory each, %.2f %% of a processor", n, each, 100*share)
			if share > 0.02 {
				t.Errorf("%.2f %% of a processor while nothing happens", 100*share)
			}
		})
	}
}

func closeAll(sockets []int) {
	for _, fd := range sockets {
		unix.Close(fd)
	}
}

// TestBurstOfClientsLeavesNoMemory: when thousands of clients have left, their memory goes back to the system.
func TestBurstOfClientsLeavesNoMemory(t *testing.T) {
	redistest.OfAProcess(t)
	p := redistest.ServeProcess(t, "clients: {max: 20000}\n"+redistest.Ring(redistest.Start(t).Addr))
	const n, each = 9_000, 300
	sockets := idleClients(t, p.Addr, n)
	redistest.Eventually(t, 30*time.Second, "all are connected", func() bool { return p.Descriptors() > n })
	full := p.RSS()
	closeAll(sockets)
	var left int64
	redistest.Eventually(t, 15*time.Second, "the process is smaller by 300 bytes for each client", func() bool {
		left = p.RSS()
		return left <= full-n*each
	})
	t.Logf("%d KiB with %d clients, %d KiB without", full>>10, n, left>>10)
}

// idleClients connects bare sockets to addr: what the test itself takes must not count.
func idleClients(t *testing.T, addr string, n int) (sockets []int) {
	t.Helper()
	port, _ := strconv.Atoi(addr[strings.LastIndexByte(addr, ':')+1:])
	to := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, fd)
		if err := unix.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
	}
	return sockets
}

// TestAllNodesGone: all nodes are gone for a while under a thousand clients, which get errors
// at once. keyway neither spins nor storms the nodes, and serves again when they are back.
func TestAllNodesGone(t *testing.T) {
	redistest.OfAProcess(t)
	var nodes []*redistest.Node
	for range 3 {
		nodes = append(nodes, redistest.Start(t, durable...))
	}
	adminAddr, adminYAML := admin(t)
	p := redistest.ServeProcess(t, adminYAML+redistest.Layouts(nodes)["slots"])
	l := (&load{addr: p.Addr, clients: scale(200, 1_000), depth: 1, keys: 3, pause: 20 * time.Millisecond}).start(t)
	l.more(t, 5_000)
	usage := func() float64 {
		cpu, n := p.CPU(), l.tally.replies.Load()
		time.Sleep(time.Duration(scale(3, 15)) * time.Second) // measures
		return float64(p.CPU()-cpu) / float64(l.tally.replies.Load()-n) / 1e3
	}
	healthy := usage()
	for _, n := range nodes {
		n.Kill()
	}
	l.phase.Store(1)
	l.more(t, 5_000) // the first back-offs
	dials, began := metric(t, adminAddr, "keyway_node_connects_total"), time.Now()
	down := usage()
	rate := (metric(t, adminAddr, "keyway_node_connects_total") - dials) / time.Since(began).Seconds() / 3
	for _, n := range nodes {
		n.Run()
	}
	back := time.Now()
	var quiet atomic.Int64
	redistest.Eventually(t, 10*time.Second, "nobody is refused any more", func() bool {
		last := l.errors()
		l.more(t, 2_000)
		quiet.Store(l.errors() - last)
		return quiet.Load() == 0
	})
	t.Logf("%.1f us of processor time for a command when all was well, %.1f when all nodes were gone; %.1f connects "+
		"a second to each; served again after %s; well: %v; gone: %v",
		healthy, down, rate, time.Since(back).Round(10*time.Millisecond), &l.latency[0], &l.latency[1])
	if rate > 2 {
		t.Errorf("%.1f attempts to connect a second to each node", rate)
	}
	if *long && down > healthy*1.2 { // over a few seconds it says little
		t.Errorf("a command that fails takes %.1f us of processor time, one that does not %.1f", down, healthy)
	}
	l.halt()
	l.settle(t, p.Addr)
	census(t, p.Addr, nodes)
}

// TestNothingIsLeftOpen: a thousand clients come and go, and every node dies and
// is back. Then keyway has no more open than before.
func TestNothingIsLeftOpen(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	adminAddr, adminYAML := admin(t)
	p := redistest.ServeProcess(t, adminYAML+redistest.Layouts(nodes)["slots"])
	redistest.Dial(t, p.Addr).MustDo("MGET", keyOfSlot(1), keyOfSlot(8000), keyOfSlot(16000))
	metric(t, adminAddr, "go_goroutines")
	redistest.Eventually(t, 10*time.Second, "every node is reached", func() bool {
		return metric(t, adminAddr, "keyway_node_up") == 3
	})
	files, goroutines := p.Descriptors(), metric(t, adminAddr, "go_goroutines")
	for round := range 5 {
		for _, c := range connect(t, p.Addr, 200) {
			fmt.Fprintf(c, "GET a\r\nMGET a b c\r\nGET") // one command is left unfinished
			c.Close()
		}
		nodes[round%3].Kill()
		nodes[round%3].Run()
	}
	redistest.Eventually(t, 20*time.Second, "what was opened is closed", func() bool {
		return metric(t, adminAddr, "keyway_node_up") == 3 && metric(t, adminAddr, "keyway_clients") == 1 &&
			p.Descriptors() <= files && metric(t, adminAddr, "go_goroutines") <= goroutines+1
	})
}

// TestMemoryComesBack: ten seconds after the largest things that clients and nodes can do,
// keyway's memory is as small as before, even if the clients are still connected.
func TestMemoryComesBack(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	p := redistest.ServeProcess(t, redistest.Layouts(nodes)["ring"]+"backend: {connections: 4, request_timeout: 2s}\n")
	c := redistest.Dial(t, p.Addr)
	mget := []string{"MGET"}
	for i := range 100 {
		mget = append(mget, fmt.Sprintf("key:%d", i))
		c.MustDo("SET", mget[i+1], strings.Repeat("x", 10<<10))
	}
	c.MustDo(mget...)
	base := p.RSS()

	c.Expect(strings.Repeat("x", 200<<20), "ECHO", strings.Repeat("x", 200<<20))
	shrinksTo(t, p, base, "ECHO of 200 MiB")

	var wg sync.WaitGroup
	for range 64 {
		c := redistest.Dial(t, p.Addr)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 5 {
				if r, err := c.TryDo(mget...); err != nil || len(r.Elems) != 100 || len(r.Elems[99].Text) != 10<<10 {
					t.Error("a reply is wrong: ", err)
					return
				}
			}
		}()
	}
	wg.Wait()
	shrinksTo(t, p, base, "MGET of 1 MiB by 64 clients")

	hung := ""
	for _, key := range mget[1:] {
		if slices.Contains(nodes[0].Keys(), key) {
			hung = key
		}
	}
	nodes[0].Freeze()
	defer nodes[0].Thaw()
	const each = 4000 // as many as one client may have unanswered
	for _, conn := range connect(t, p.Addr, 250) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			go io.WriteString(conn, strings.Repeat("GET "+hung+"\r\n", each))
			conn.SetReadDeadline(time.Now().Add(60 * time.Second))
			r := bufio.NewReader(conn)
			for range each {
				if line, err := r.ReadString('\n'); err != nil || line[0] != '-' {
					t.Errorf("%q (%v) of a node that hangs", line, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	shrinksTo(t, p, base, "a million commands to a node that hangs")
}

// shrinksTo fails the test if a process is not back at its resident memory after ten seconds.
func shrinksTo(t *testing.T, p *redistest.Process, base int64, after string) {
	t.Helper()
	peak, now := p.RSS(), int64(0)
	began := time.Now()
	for now = peak; now > base+32<<20 && time.Since(began) < 10*time.Second; now = p.RSS() {
		time.Sleep(100 * time.Millisecond) // between looks
	}
	t.Logf("after %s: %d MiB, then %d MiB, %d MiB before", after, peak>>20, now>>20, base>>20)
	if now > base+32<<20 {
		t.Errorf("after %s the process stays %d MiB larger", after, (now-base)>>20)
	}
}

// TestMemoryStaysBelowItsLimit: clients that leave more unread than limits.memory allows are
// closed, the one with the most first; those with little, and those that read, notice
// nothing.
func TestMemoryStaysBelowItsLimit(t *testing.T) {
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	adminAddr, adminYAML := admin(t)
	const limit = 128 << 20
	p := redistest.ServeProcess(t, adminYAML+redistest.Layouts(nodes)["ring"]+
		"limits: {memory: 128mb, client_output: 1gb}\nbackend: {request_timeout: 20s}\nthreads: 2\n")
	c := redistest.Dial(t, p.Addr)
	const size, each = 512 << 10, 16 // values that the clients' shared connections carry
	for i := range 9 {
		c.MustDo("SET", fmt.Sprintf("big:%d", i), strings.Repeat("x", size))
	}
	l := (&load{addr: p.Addr, clients: 20, depth: 4, pause: 2 * time.Millisecond}).start(t)
	// These take some 32 of the 96 MiB that clients may take: the kernel takes up to 4 MiB of
	// each client's replies.
	some := connect(t, p.Addr, 8)
	for i, conn := range some {
		io.WriteString(conn, strings.Repeat(fmt.Sprintf("GET big:%d\r\n", i), each))
	}
	unread := func() float64 { return metric(t, adminAddr, "keyway_client_output_bytes") }
	redistest.Eventually(t, 30*time.Second, "the replies are there", func() bool { return unread() > 20<<20 })
	greedy := connect(t, p.Addr, 1)[0]
	io.WriteString(greedy, strings.Repeat("GET big:8\r\n", 18*each))
	peak := int64(0)
	closed := func() float64 { return metric(t, adminAddr, `keyway_clients_closed_total{reason="memory"}`) }
	redistest.Eventually(t, 30*time.Second, "the client with the most is closed", func() bool {
		peak = max(peak, p.RSS())
		return closed() > 0
	})
	for _, conn := range some {
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		r := bufio.NewReaderSize(conn, 1<<20)
		for range each {
			if head, err := r.ReadString('\n'); head != fmt.Sprintf("$%d\r\n", size) {
				t.Fatalf("a client with little got %q (%v)", head, err)
			}
			if n, err := io.CopyN(io.Discard, r, size+2); err != nil {
				t.Fatalf("a client with little got %d bytes of its value: %v", n, err)
			}
		}
	}
	l.more(t, 5_000)
	l.halt()
	t.Logf("%d MiB at most; others: %v", peak>>20, &l.latency[0])
	if n := closed(); n != 1 {
		t.Errorf("%v clients were closed", n)
	}
	if peak > limit+32<<20 {
		t.Errorf("the process took %d MiB", peak>>20)
	}
	if l.errors() != 0 {
		t.Errorf("others saw errors: %v", &l.tally)
	}
	l.settle(t, p.Addr)
}
