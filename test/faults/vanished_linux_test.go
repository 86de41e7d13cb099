package faults

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// service is one address for several keyways, as a Service of Kubernetes is: it gives each connection to the next
// keyway that accepts it.
type service struct {
	addr string
	next atomic.Int64
}

func startService(t *testing.T, keyways []*redistest.Process) *service {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &service{addr: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(client, keyways)
		}
	}()
	return s
}

func (s *service) serve(client net.Conn, keyways []*redistest.Process) {
	defer client.Close()
	for range keyways {
		to, err := net.Dial("tcp", keyways[s.next.Add(1)%int64(len(keyways))].Addr)
		if err != nil {
			continue
		}
		defer to.Close()
		go func() {
			io.Copy(to, client)
			to.Close()
		}()
		io.Copy(client, to)
		return
	}
}

// connectionsOfKeyways returns how many connections of keyways a node has.
func connectionsOfKeyways(n *redistest.Node) int {
	return strings.Count(n.Do("CLIENT", "LIST").Text, "name=keyway")
}

// TestHalfOfTheKeywaysVanish: when two of four keyways die at once, the others take their clients when these connect
// again. No reply is wrong, no acknowledged write is lost, and the nodes have no more connections than before.
func TestHalfOfTheKeywaysVanish(t *testing.T) {
	t.Parallel()
	const threads, clients = 2, 60
	nodes := redistest.Three(t)
	var keyways []*redistest.Process
	var admins []string
	for range 4 {
		adminAddr, adminYAML := admin(t)
		yaml := fmt.Sprintf("%sthreads: %d\nlayout: ring\n", adminYAML, threads) + redistest.NodesYAML(nodes)
		keyways, admins = append(keyways, redistest.ServeProcess(t, yaml)), append(admins, adminAddr)
	}
	l := (&load{
		addr: startService(t, keyways).addr, clients: clients, pause: time.Millisecond, reconnect: true,
	}).start(t)
	l.more(t, int64(scale(10_000, 100_000)))
	most := 0
	watch := func() {
		for _, n := range nodes {
			most = max(most, connectionsOfKeyways(n))
		}
	}
	watch()
	for _, k := range keyways[2:] {
		k.Kill()
	}
	redistest.Eventually(t, 60*time.Second, "the others have all clients", func() bool {
		watch()
		return metric(t, admins[0], "keyway_clients")+metric(t, admins[1], "keyway_clients") == clients
	})
	for range 5 {
		l.more(t, int64(scale(2_000, 20_000)))
		watch()
	}
	l.halt()
	// A thread has one connection to a node for all clients, and asks nodes about the layout over another.
	if bound := 4 * (threads + 2); most > bound || most == 0 {
		t.Errorf("a node had %d connections of keyways", most)
	}
	for _, n := range nodes {
		redistest.Eventually(t, 20*time.Second, "the connections of those that died are gone", func() bool {
			return connectionsOfKeyways(n) <= 2*(threads+2)
		})
	}
	t.Logf("at most %d connections of keyways at a node, then %d", most, connectionsOfKeyways(nodes[0]))
	if l.tally.lost.Load() < clients/4 {
		t.Errorf("only %d clients have lost their connection", l.tally.lost.Load())
	}
	l.settle(t, keyways[0].Addr)
	census(t, keyways[0].Addr, nodes)
}
