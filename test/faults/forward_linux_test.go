package faults

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// forwardedSizes are those of values at the edges of what keyway moves from socket to socket, and far beyond.
var forwardedSizes = []int{
	16<<10 - 20, 40<<10 - 1, 40 << 10, 56 << 10, 128<<10 - 12, 128<<10 + 40<<10, 1<<20 - 1, 1 << 20, 1<<20 + 8<<10,
	3 << 20,
}

// forwardedValues writes values of random bytes, in which much looks like the end of a reply, and returns the whole
// replies to reading them, by command.
func forwardedValues(t *testing.T, c *redistest.Client, rng *rand.Rand) map[string]string {
	t.Helper()
	replies := map[string]string{"PING": "+PONG\r\n", "EXISTS v0": ":1\r\n"}
	list := fmt.Sprintf("*%d\r\n", len(forwardedSizes))
	for i, size := range forwardedSizes {
		value := make([]byte, size)
		for at := 0; at < size; at += 8 {
			n := rng.Uint64()
			copy(value[at:], []string{"\r\n$5\r\n", "\r\n", "$1\r\n+OK\r\n"}[n%3])
			value[at] = byte(n >> 8)
		}
		c.MustDo("SET", fmt.Sprintf("v%d", i), string(value))
		c.MustDo("RPUSH", "list", string(value))
		bulk := fmt.Sprintf("$%d\r\n%s\r\n", size, value)
		replies[fmt.Sprintf("GET v%d", i)] = bulk
		list += bulk
	}
	replies["LRANGE list 0 -1"] = list
	return replies
}

// TestForwardedReplies: large values reach many clients byte for byte, while keyway moves them from socket to socket in
// the kernel: in pipelines, between small replies, to clients that read slowly, and beside clients that leave in the
// middle. The node's bytes come as they are, or cut anywhere.
func TestForwardedReplies(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	cut := redistest.NewFaults(t, node.Addr, func(conn int) redistest.Plan {
		rng := rand.New(rand.NewPCG(7, uint64(conn)))
		return redistest.Plan{Piece: func() int { return 1 + rng.IntN([]int{8, 3000, 200 << 10}[rng.IntN(3)]) }}
	})
	for name, addr := range map[string]string{"as they are": node.Addr, "cut": cut.Addr} {
		t.Run(name, func(t *testing.T) {
			node.Do("FLUSHALL")
			k := redistest.Serve(t, redistest.Ring(addr)).Ready()
			replies := forwardedValues(t, k.Dial(), rand.New(rand.NewPCG(1, 2)))
			var all sync.WaitGroup
			for n := range 6 {
				all.Go(func() { readForwarded(t, k.Addr, n, replies) })
			}
			all.Wait()
			if n := k.Snapshot()[0].BytesForwarded; n < 1<<20 {
				t.Errorf("only %d bytes were moved in the kernel: the test has tested nothing", n)
			}
		})
	}
}

// readForwarded is one client: with pipelines if n is even, with a small window if it is a multiple of three, and
// besides it one that leaves inside a reply.
func readForwarded(t *testing.T, addr string, n int, replies map[string]string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if n%3 == 0 {
		conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	for round := range scale(3, 20) {
		var want []string
		for command := range replies { // in a random order
			want = append(want, command)
		}
		if n%2 == 0 {
			fmt.Fprint(conn, strings.Join(want, "\r\n")+"\r\n")
		}
		for i, command := range want {
			if n%2 == 1 {
				fmt.Fprint(conn, command+"\r\n")
			}
			if i == 0 {
				leaveInside(t, addr, replies[command], command)
			}
			got := make([]byte, len(replies[command]))
			if k, err := io.ReadFull(conn, got); err != nil || string(got) != replies[command] {
				t.Errorf("client %d, round %d, %s: %d bytes, %v; equal up to byte %d of %d", n, round, command, k, err,
					equalUpTo(string(got), replies[command]), len(got))
				return
			}
		}
	}
}

// leaveInside sends a command, reads a part of the reply, and leaves.
func leaveInside(t *testing.T, addr, reply, command string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, command+"\r\n")
	got := make([]byte, rand.IntN(len(reply)))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != reply[:len(got)] {
		t.Errorf("a client that leaves, %s: %v; equal up to byte %d of %d", command, err,
			equalUpTo(string(got), reply), len(got))
	}
}

func equalUpTo(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestForwardedToASlowClient: a client that reads a large reply slowly gets all of it, and keyway holds little of it
// meanwhile.
func TestForwardedToASlowClient(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 1\n"+redistest.Ring(node.Addr)).Ready() // which then knows that the key is large
	block := bytes.Repeat([]byte("0123456789abcdef\r\n$1\r\nx\r\n"), size/25+1)[:size]
	c := k.Dial()
	c.MustDo("SET", "big", string(block))
	conn, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET big\r\n")
	want := "$" + strconv.Itoa(size) + "\r\n" + string(block) + "\r\n"
	buf := make([]byte, 256<<10)
	most := 0
	for at := 0; at < len(want); {
		n, err := io.ReadFull(conn, buf[:min(len(buf), len(want)-at)])
		if err != nil || string(buf[:n]) != want[at:at+n] {
			t.Fatalf("after %d bytes: %v, or others: %.100q", at, err, buf[:n])
		}
		at += n
		most = max(most, int(k.Snapshot()[0].OutputBytes))
		time.Sleep(3 * time.Millisecond) // it reads slowly
	}
	c.Expect("1", "EXISTS", "big")
	if most > 3<<20 {
		t.Errorf("%d bytes were held for the client", most)
	}
	if n := k.Snapshot()[0].BytesForwarded; n == 0 {
		t.Error("nothing was moved in the kernel: the test has tested nothing")
	}
}
