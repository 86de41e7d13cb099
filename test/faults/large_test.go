package faults

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLargeValue writes 256 MB and reads it back: the reply streams through
// while the process grows by less than 16 MiB, the request's memory is returned, and the
// node's other clients are served meanwhile.
func TestLargeValue(t *testing.T) {
	redistest.OfAProcess(t)
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Log("memory is not measured: this system has no /proc")
	}
	const size = 256 << 20
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, redistest.Ring(node.Addr))
	base := p.RSS()
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KiB
	sent := sha256.New()
	fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n", size)
	for range size / len(block) {
		if _, err := conn.Write(block); err != nil {
			t.Fatal(err)
		}
		sent.Write(block)
	}
	io.WriteString(conn, "\r\n")
	reply := make([]byte, 5)
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.ReadFull(conn, reply); err != nil || string(reply) != "+OK\r\n" {
		t.Fatalf("SET of 256 MB: %q, %v", reply, err)
	}
	redistest.Eventually(t, 10*time.Second, "what the request took is given back", func() bool {
		return p.RSS() < base+32<<20
	})

	before := p.RSS()
	peak := peakRSS(p)
	fmt.Fprintf(conn, "*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
	got := sha256.New()
	head := make([]byte, len(fmt.Sprintf("$%d\r\n", size)))
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(got, conn, size); err != nil {
		t.Fatal(err)
	}
	grown := peak() - before
	if !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Error("what was read is not what was written")
	}
	t.Logf("the process has grown by %d KiB while 256 MB passed", grown>>10)
	if grown >= 16<<20 {
		t.Errorf("the process has grown by %d KiB while the reply passed", grown>>10)
	}
	p.End()
}

// peakRSS watches a process's resident memory. peak ends that, and returns the highest.
func peakRSS(p *redistest.Process) (peak func() int64) {
	result := make(chan int64)
	stop := make(chan struct{})
	go func() {
		high := int64(0)
		for {
			select {
			case <-stop:
				result <- high
				return
			case <-time.After(5 * time.Millisecond):
				high = max(high, p.RSS())
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-result
	}
}

// TestLargeTransfers writes and reads a value over a link of 200 Mbit/s, for longer
// than the request timeout: to the node, and to the client. Other clients go on.
func TestLargeTransfers(t *testing.T) {
	t.Parallel()
	const rate = 200e6 / 8
	size := scale(64<<20, 400<<20)
	slow := redistest.Plan{Rate: rate}
	for name, link := range map[string]struct{ node, client redistest.Plan }{
		"to the node":   {node: slow},
		"to the client": {client: slow},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t)
			f := redistest.NewFaults(t, node.Addr, func(int) redistest.Plan { return link.node })
			yaml := "limits: {client_output: 512mb}\nbackend: {request_timeout: 2s}\n" + redistest.Ring(f.Addr)
			k := redistest.Serve(t, yaml).Ready()
			c := redistest.Dial(t, redistest.NewFaults(t, k.Addr, func(int) redistest.Plan { return link.client }).Addr)
			l := (&load{addr: k.Addr, clients: 10, pause: time.Millisecond}).start(t)
			l.more(t, 5_000)
			value := strings.Repeat("0123456789abcdef", size/16)
			l.phase.Store(1)
			before := l.tally.replies.Load()
			c.Expect("OK", "SET", "large", value)
			wrote := l.tally.replies.Load()
			if r := c.Do("GET", "large"); r.Text != value {
				t.Errorf("GET: %d bytes: %.100s", len(r.Text), r)
			}
			read := l.tally.replies.Load()
			node.Do("SET", "other", value) // keyway does not know it to be large
			c.Expect(value[:8], "GETRANGE", "other", "0", "7")
			if r := c.Do("GET", "other"); r.Text != value {
				t.Errorf("GET: %d bytes: %.100s", len(r.Text), r)
			}
			l.halt()
			t.Logf("others before: %v; since: %v", &l.latency[0], &l.latency[1])
			t.Logf("others' replies: %d while it was written, %d while it was read, %d while another was",
				wrote-before, read-wrote, l.tally.replies.Load()-read)
			noErrors(t, k, l, 0)
			l.settle(t, k.Addr)
		})
	}
}

// TestRefusedValue sends values that are larger than the node takes: it says so and
// closes the connection, and other clients notice nothing.
func TestRefusedValue(t *testing.T) {
	node := redistest.Start(t, "--proto-max-bulk-len", "1mb")
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	l := (&load{addr: k.Addr, clients: 10}).start(t)
	l.more(t, 5_000)
	l.phase.Store(1)
	c, value := k.Dial(), strings.Repeat("x", 2<<20)
	for range scale(50, 500) {
		c.Expect("-ERR Protocol error: invalid bulk length", "SET", "large", value)
		c.Expect("(nil)", "GET", "large")
		l.more(t, 100)
	}
	l.halt()
	t.Logf("others before: %v; since: %v", &l.latency[0], &l.latency[1])
	noErrors(t, k, l, 0)
	l.settle(t, k.Addr)
}

// TestSlowReader: a client that does not read is not read from, and past
// client_output it is closed; others go on.
func TestSlowReader(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, "limits: {client_output: 8mb}\n"+redistest.Ring(node.Addr)).Ready()
	c := k.Dial()
	c.MustDo("SET", "v", strings.Repeat("x", 1<<19)) // not so large that it is read alone
	slow, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	slow.(*net.TCPConn).SetReadBuffer(4 << 10)
	slow.SetWriteDeadline(time.Now().Add(5 * time.Second))
	// Far more than may be unread, in one pipeline.
	if _, err := slow.Write(bytes.Repeat([]byte("*2\r\n$3\r\nGET\r\n$1\r\nv\r\n"), 400)); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the slow client is closed", func() bool {
		c.Expect("PONG", "PING")
		return k.Snapshot()[0].ClosedSlow == 1
	})
	if out := k.Snapshot()[0].OutputBytes; out > 1<<20 {
		t.Errorf("%d bytes are still held for it", out)
	}
	c.Expect("1", "EXISTS", "v")

	// A client that pipelines small commands and does not read stops being
	// read; it is not closed, and gets everything once it reads.
	lazy, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	const n = 400_000
	go func() {
		one := []byte("*2\r\n$4\r\nECHO\r\n$40\r\n" + strings.Repeat("e", 40) + "\r\n")
		lazy.Write(bytes.Repeat(one, n))
	}()
	redistest.Eventually(t, 20*time.Second, "the lazy client has stopped being read", func() bool {
		a := k.Snapshot()[0].BytesIn
		time.Sleep(50 * time.Millisecond)
		return a > 1<<20 && k.Snapshot()[0].BytesIn == a
	})
	if s := k.Snapshot()[0]; s.OutputBytes > 4<<20 || s.ClosedSlow != 1 {
		t.Errorf("%d bytes held, %d closed", s.OutputBytes, s.ClosedSlow)
	}
	lazy.SetReadDeadline(time.Now().Add(30 * time.Second))
	if got, err := io.CopyN(io.Discard, lazy, n*47); err != nil {
		t.Errorf("the lazy client got %d of %d bytes: %v", got, n*47, err)
	}
}

// TestConnectionCutInsideReply cuts the node's connection at random bytes of a large
// reply: the client gets a true beginning and then the end of its connection,
// clients of other nodes notice nothing, and the memory is given back.
func TestConnectionCutInsideReply(t *testing.T) {
	nodes := redistest.Three(t)
	rng := rand.New(rand.NewPCG(4, 4))
	var at atomic.Int64 // 0: not at all
	f := redistest.NewFaults(t, nodes[0].Addr, func(int) redistest.Plan {
		return redistest.Plan{CutReply: int(at.Load()), Reset: true}
	})
	k := redistest.Serve(t, redistest.Layouts([]*redistest.Node{{Addr: f.Addr}, nodes[1], nodes[2]})["slots"]).Ready()
	key := keyOfSlot(1) // on the first node
	const size = 64 << 20
	block := strings.Repeat("0123456789abcdef", size/16)
	nodes[0].Do("SET", key, block)
	other := k.Dial()
	before := heap()
	for range scale(10, 30) {
		at.Store(int64(100 + rng.IntN(size-200)))
		f.CutAll()
		k.Ready()
		conn, err := net.Dial("tcp", k.Addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s\r\n", key)
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the connection did not end: %v", err)
		}
		head := fmt.Sprintf("$%d\r\n", size)
		if whole := head + block; len(got) == 0 || len(got) >= len(whole) || string(got) != whole[:len(got)] {
			t.Fatalf("cut at %d: the client got %d bytes that are no beginning of the reply", at.Load(), len(got))
		}
		other.Expect("OK", "SET", keyOfSlot(9000), "x")
	}
	at.Store(0)
	f.CutAll()
	k.Ready()
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
}

// TestNodeDiesInsideReply: a reply that breaks off ends the client's
// connection; nothing that could be taken for the rest follows.
func TestNodeDiesInsideReply(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	c := k.Dial()
	const size = 64 << 20
	c.MustDo("SETRANGE", "big", strconv.Itoa(size-1), "x")
	conn, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 1<<20)
	if _, err := io.ReadFull(conn, buf); err != nil {
		t.Fatal(err)
	}
	node.Kill()
	rest, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection did not end: %v", err)
	}
	if len(buf)+len(rest) >= size {
		t.Fatal("the whole reply had left before the node died; the test has tested nothing")
	}
	if bytes.Contains(rest, []byte("ERR")) || bytes.Contains(rest, []byte("keyway")) {
		t.Error("an error stands inside the reply")
	}
	if r := c.Do("GET", "x"); !strings.Contains(r.Text, "executed") {
		t.Errorf("another client: %s", r)
	}
}
