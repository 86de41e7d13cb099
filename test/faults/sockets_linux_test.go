package faults

import (
	"io"
	"net"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestGoneClientCostsNothing: a client closes its socket while its command waits
// for a node. epoll reports such a socket whatever it is watched for (EPOLLHUP),
// so keyway must not look at it again and again until the node answers.
func TestGoneClientCostsNothing(t *testing.T) {
	redistest.OfAProcess(t)
	for _, command := range []string{"GET x\r\n", "BLPOP x 0\r\n"} {
		node := redistest.Start(t)
		sock := filepath.Join(t.TempDir(), "keyway.sock")
		yaml := "listen: [127.0.0.1:0, \"unix://" + sock + "\"]\n" + redistest.Ring(node.Addr)
		p := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", yaml))
		p.Addr = sock
		p.Answers()
		node.Freeze()
		for range 10 {
			c, err := net.Dial("unix", sock)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, command); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // the command is on its way to the node
			c.Close()
		}
		before, busy := p.CPU(), 500*time.Millisecond
		burn(t, busy)
		if used := p.CPU() - before; used > busy/4 {
			t.Errorf("%q: keyway has used %s of processor time while nothing happened, a busy thread %s",
				command, used, busy)
		}
		node.Thaw()
		p.End()
	}
}

// burn keeps a processor busy until it has used this much of its time. A busy thread of
// another process gets as much meanwhile, whatever else the machine does.
func burn(t *testing.T, d time.Duration) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		const thread = 1 // RUSAGE_THREAD
		var u syscall.Rusage
		if err := syscall.Getrusage(thread, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for until := used() + d; used() < until; {
	}
}

// TestStoppedKeywayReadsFirst stops keyway for longer than the request timeout while
// replies arrive. When it resumes, these replies count as in time.
func TestStoppedKeywayReadsFirst(t *testing.T) {
	redistest.OfAProcess(t)
	t.Parallel()
	node := redistest.Start(t)
	keyways, metrics := make([]*redistest.Process, 3), make([]string, 3) // it depends on the moment of the stop
	for i := range keyways {
		addr, yaml := admin(t)
		yaml += "backend: {request_timeout: 2s}\n" + redistest.Ring(node.Addr)
		keyways[i], metrics[i] = redistest.ServeProcess(t, yaml), addr
	}
	node.Do("SET", "x", "there")
	const each = 20
	clients := make([]*redistest.Client, each*len(keyways))
	for range scale(4, 10) {
		node.Freeze()
		for i := range clients {
			clients[i] = redistest.Dial(t, keyways[i/each].Addr)
			clients[i].Send("GET", "x")
			clients[i].Flush()
		}
		for i, p := range keyways {
			redistest.Eventually(t, 10*time.Second, "all requests are on their way", func() bool {
				return metric(t, metrics[i], "keyway_node_in_flight") >= each
			})
			p.Freeze()
		}
		node.Thaw()
		node.Do("PING")             // behind the replies
		time.Sleep(3 * time.Second) // the fault itself
		for _, p := range keyways {
			p.Thaw()
		}
		for _, c := range clients {
			if r, err := c.Receive(); err != nil || r.Text != "there" {
				t.Fatalf("%s, %v", r, err)
			}
			c.Close()
		}
	}
}
