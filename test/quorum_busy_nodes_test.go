package test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestQuorumBusyNodesAreNotAbsent: while the nodes answer, commands wait for their turn, also
// longer than the timeout. 2,000 clients that try for one lock at once get OK or null, and nothing
// else; one gets OK.
func TestQuorumBusyNodesAreNotAbsent(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	var addrs []string
	for _, node := range n.five {
		busy := redistest.NewFaults(t, node.Addr, func(int) redistest.Plan {
			return redistest.Plan{Reply: func(_ int, reply []byte) ([]byte, time.Duration) {
				return reply, 500 * time.Microsecond
			}}
		})
		addrs = append(addrs, busy.Addr)
	}
	k := n.serveAt(addrs, "timeout: 500ms, max_lease: 60s")
	votes(t, k.Dial())
	const clients = 2000
	replies, begun := make([]string, clients), time.Now()
	var all sync.WaitGroup
	for i := range clients {
		conn, err := net.Dial("tcp", k.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		all.Go(func() {
			fmt.Fprintf(conn, "SET lock:one t%d NX PX 60000\r\n", i)
			replies[i], _ = bufio.NewReader(conn).ReadString('\n')
		})
	}
	all.Wait()
	count := map[string]int{}
	for _, reply := range replies {
		count[reply]++
	}
	if count["+OK\r\n"] != 1 || count["$-1\r\n"] != clients-1 {
		t.Errorf("%v", count)
	}
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("the nodes were not busy for longer than the timeout: %s", took)
	}
}

// votes waits until a lock can be acquired.
func votes(t *testing.T, c *redistest.Client) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, "a lock is acquired", func() bool {
		return c.Do("SET", "lock:first", "t", "NX", "PX", "1000").Text == "OK"
	})
}

// TestQuorumDeepPipeline: a client that sends 5,000 acquisitions of different locks at once gets all
// of them, and the replies to the commands between them are in order.
func TestQuorumDeepPipeline(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	k := n.serve("timeout: 1s, max_lease: 60s")
	votes(t, k.Dial())
	conn, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const locks = 5000
	go func() {
		var b strings.Builder
		for i := range locks {
			fmt.Fprintf(&b, "SET lock:%d t NX PX 60000\r\nSET other:%d %[1]d\r\nECHO %[1]d\r\n", i, i)
		}
		b.WriteString("GET other:7\r\n")
		_, _ = conn.Write([]byte(b.String())) // the replies say whether it has worked
	}()
	r := bufio.NewReader(conn)
	line := func() string {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(text)
	}
	for i := range locks {
		number := fmt.Sprint(i)
		if got := line() + line() + line() + line(); got != fmt.Sprintf("+OK+OK$%d%s", len(number), number) {
			t.Fatalf("the replies to the commands of lock %d: %s", i, got)
		}
	}
	if got := line() + line(); got != "$17" {
		t.Errorf("GET: %s", got)
	}
	redistest.Eventually(t, 20*time.Second, "each node has the locks", func() bool {
		return n.five[0].Do("DBSIZE").Int > locks && n.five[4].Do("DBSIZE").Int > locks
	})
}

// TestQuorumNodesThatForgetScripts: SCRIPT FLUSH on the lock nodes is not seen by clients.
func TestQuorumNodesThatForgetScripts(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	c := redistest.Serve(t, n.yaml("timeout: 5s, max_lease: 60s")).Ready().Dial()
	votes(t, c)
	for i := range 20 {
		for _, node := range n.five {
			node.Do("SCRIPT", "FLUSH")
		}
		key := fmt.Sprint("lock:", i)
		c.Expect("OK", "SET", key, "t", "NX", "PX", "30000")
		c.Expect("1", "EVAL", compareAndDelete, "1", key, "t")
	}
}
