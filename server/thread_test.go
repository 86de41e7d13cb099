package server

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// TestTickUnderLoad: time acts though a turn follows a turn, each sooner than the
// tick that it asks for: a command whose slot has no owner is answered in its time.
func TestTickUnderLoad(t *testing.T) {
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}}, [][]slots.Range{nil})
	if err != nil {
		t.Fatal(err)
	}
	const timeout = 200 * time.Millisecond
	th := &thread{
		worker: proxy.New(proxy.Options{
			Backend: pool.Config{ConnectTimeout: timeout, RequestTimeout: timeout},
		}, router.NewSlots(m)),
	}
	now := time.Hour
	th.BeginTurn(now, time.Now())
	s := th.worker.Open(nil, "peer:1", "keyway:1")
	th.worker.Received(s, []byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"))
	th.next(th.tick())
	for range 2 * timeout / time.Millisecond {
		now += time.Millisecond
		th.BeginTurn(now, time.Now())
		th.next(th.tick())
	}
	if got := string(s.Output()); got != "-CLUSTERDOWN Hash slot not served\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// wire is a socket that keeps what is written to it.
type wire struct{ written []string }

func (*wire) Read([]byte) (int, error) { return 0, errAgain }
func (w *wire) Write(b []byte) (int, error) {
	w.written = append(w.written, string(b))
	return len(b), nil
}
func (*wire) Watch(_, _ bool) {}
func (*wire) Cork()           {}
func (*wire) Uncork()         {}
func (*wire) CloseWrite()     {}
func (*wire) Close()          {}

// take returns what was written since the last call.
func (w *wire) take() (all string) {
	all = strings.Join(w.written, "|")
	w.written = nil
	return all
}

// TestWritesLeaveOnceATurn: while the loop is busy, nodes and clients that expect no more
// replies are written each turn; a client that does expect more waits three turns at
// most for one write.
func TestWritesLeaveOnceATurn(t *testing.T) {
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}}
	table, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: slots.Count - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	th, wires := newWiredThread(t, table)
	node, conn := wires[0], th.worker.Nodes[0].Shared.Conns[0]
	c, sock := &client{t: th}, &wire{}
	c.sock, c.session = sock, th.worker.Open(c, "peer:1", "keyway:1")
	turn := func(client, replies string) {
		th.BeginTurn(wiredNow, time.Now())
		th.worker.Received(c.session, []byte(client))
		if replies != "" {
			conn.Received([]byte(replies), th.now)
		}
		th.EndTurn()
	}
	const get = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
	for range 5 {
		if turn(get, ""); node.take() != get {
			t.Fatal("the node is not written in the turn in which the client spoke")
		}
		if turn("", ":1\r\n"); sock.take() != ":1\r\n" {
			t.Fatal("the client is not written in the turn in which its only reply came")
		}
	}
	turn(get+get+get, "")
	turn("", ":1\r\n")
	if turn("", ":2\r\n"); len(sock.written) > 1 {
		t.Errorf("a client that expects more is written %q", sock.written)
	}
	if turn("", ":3\r\n"); !strings.HasSuffix(sock.take(), ":3\r\n") {
		t.Error("a client is not written in the turn in which its last reply came")
	}
	turn(get+get, "")
	turn("", ":1\r\n")
	for range maxPutOff {
		turn("", "")
	}
	if sock.take() != ":1\r\n" {
		t.Errorf("a client that expects more waits for more than %d turns", maxPutOff)
	}
}

// TestRequestsForManyNodesShareWrites: the requests of several busy turns for many nodes leave in one write to
// each node, but at once if the loop knows of no more. To fewer nodes they leave in each turn.
func TestRequestsForManyNodesShareWrites(t *testing.T) {
	for _, nodes := range []int{manyNodes - 1, manyNodes} {
		var all []router.Node
		var ranges [][]slots.Range
		for i := range nodes {
			all = append(all, router.Node{Name: fmt.Sprint(i), Addr: fmt.Sprintf("10.0.0.1:%d", i+1), Master: true})
			ranges = append(ranges, []slots.Range{{First: uint16(i), Last: uint16(i)}})
		}
		table, err := router.NewStaticSlots(all, ranges)
		if err != nil {
			t.Fatal(err)
		}
		th, wires := newWiredThread(t, table)
		s := th.worker.Open(nil, "peer:1", "keyway:1")
		var pipeline []byte
		for _, key := range keysOfSlots(nodes) {
			pipeline = resp.AppendCommand(pipeline, "GET", key)
		}
		written := func() (n int) {
			for _, w := range wires {
				n += len(w.written)
				w.written = nil
			}
			return n
		}
		turn := func() int {
			th.BeginTurn(wiredNow, time.Now())
			th.worker.Received(s, pipeline)
			th.EndTurn()
			return written()
		}
		th.waiting.turns = 0
		if nodes < manyNodes {
			if n := turn(); n != nodes {
				t.Errorf("%d of %d nodes are written at once", n, nodes)
			}
			continue
		}
		if n := turn() + turn(); n != 0 {
			t.Errorf("%d writes in two turns", n)
		}
		if n := turn(); n != nodes {
			t.Errorf("%d writes to %d nodes in %d turns", n, nodes, maxPutOff)
		}
		turn()
		if th.Lull(); written() != nodes {
			t.Error("requests wait, though the loop has nothing else to do")
		}
	}
}

// keysOfSlots returns a key of each slot below n.
func keysOfSlots(n int) []string {
	keys := make([]string, n)
	for i, found := 0, 0; found < n; i++ {
		key := strconv.Itoa(i)
		if slot := slots.Of([]byte(key)); int(slot) < n && keys[slot] == "" {
			keys[slot] = key
			found++
		}
	}
	return keys
}

// wiredNow is later than the loop's clock, for which no turn takes long then, however slow the machine is.
const wiredNow = time.Hour

// newWiredThread returns a thread that is connected to all nodes of a table.
func newWiredThread(t *testing.T, table *router.Table) (*thread, []*wire) {
	t.Helper()
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	th := &thread{srv: &Server{log: slog.New(slog.DiscardHandler), host: &Host{budget: newBudget(0)}}, loop: l}
	th.weight = th.srv.host.budget.join(th)
	th.nextTick = int64(wiredNow)
	o := proxy.Options{
		Backend: pool.Config{ConnectTimeout: time.Second, RequestTimeout: time.Second}, Now: int64(wiredNow),
	}
	th.worker = proxy.New(o, table)
	th.BeginTurn(wiredNow, time.Now())
	var wires []*wire
	links := slices.Clone(th.worker.EndTurn().Links)
	for _, conn := range links {
		conn.Duty() // to dial
		w := &wire{}
		conn.Bind = &backend{t: th, link: conn, sock: w, up: true}
		conn.Connected(th.now)
		wires = append(wires, w)
	}
	th.EndTurn()
	for i, conn := range links {
		greeting := wires[i].take()
		conn.Received([]byte("*0\r\n"+greeting[strings.Index(greeting, "PING\r\n")+6:]), th.now) // no register
	}
	th.EndTurn()
	return th, wires
}

// closed is a socket that the peer has closed, with bytes that are still unread.
type closed struct {
	wire
	unread string
}

func (c *closed) Read(b []byte) (int, error) {
	if c.unread == "" {
		return 0, io.EOF
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (*closed) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestRefusalIsRead: a node that refuses a request says why and closes the
// connection, while the request is still being written.
func TestRefusalIsRead(t *testing.T) {
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}}
	table, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: slots.Count - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	o := proxy.Options{Backend: pool.Config{ConnectTimeout: time.Second, RequestTimeout: time.Second}}
	th := &thread{buf: make([]byte, readSize), worker: proxy.New(o, table)}
	conn := th.worker.EndTurn().Links[0]
	b := &backend{t: th, link: conn}
	conn.Bind = b
	conn.Connected(0)
	ping := string(conn.NextWrite())
	conn.Wrote(len(ping), 0)
	conn.Received([]byte("*0\r\n"+ping[strings.Index(ping, "PING\r\n")+6:]), 0) // no register
	s := th.worker.Open(nil, "peer:1", "keyway:1")
	th.worker.Received(s, []byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nlong\r\n"))
	conn.Wrote(10, 0) // of the request's bytes
	const refusal = "-ERR Protocol error: invalid bulk length\r\n"
	b.sock = &closed{unread: refusal}
	b.flush()
	if got := string(s.Output()); got != refusal {
		t.Errorf("the client got %q", got)
	}
	if conn.State() == pool.Ready {
		t.Error("the connection goes on")
	}
}
