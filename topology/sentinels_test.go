package topology

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeSentinel answers as a sentinel, and counts its connections.
type fakeSentinel struct {
	net.Listener
	mu    sync.Mutex
	conns int            // open
	most  int            // conns at most
	looks map[string]int // by master
	heard []net.Conn     // have subscribed
}

func (f *fakeSentinel) serve() {
	for {
		c, err := f.Accept()
		if err != nil {
			return
		}
		f.count(1)
		go func() {
			defer f.count(-1)
			defer c.Close()
			f.answer(c)
		}()
	}
}

func (f *fakeSentinel) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns += n
	f.most = max(f.most, f.conns)
}

// answer reads commands and answers each.
func (f *fakeSentinel) answer(c net.Conn) {
	r := bufio.NewReader(c)
	number := func() int { // of a line such as $5
		line, _ := r.ReadString('\n')
		n, _ := strconv.Atoi(strings.Trim(line, "*$\r\n"))
		return n
	}
	for {
		args := make([]string, number())
		for i := range args {
			b := make([]byte, number()+len("\r\n"))
			io.ReadFull(r, b)
			args[i] = string(b[:len(b)-len("\r\n")])
		}
		if len(args) == 0 {
			return
		}
		io.WriteString(c, f.reply(c, args))
	}
}

func (f *fakeSentinel) reply(c net.Conn, args []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch strings.ToLower(strings.Join(args[:min(len(args), 2)], " ")) {
	case "sentinel master":
		f.looks[args[2]]++
		return "*2\r\n$12\r\nconfig-epoch\r\n$1\r\n7\r\n"
	case "sentinel get-master-addr-by-name":
		return "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"
	case "sentinel replicas":
		return "*0\r\n"
	case "subscribe +switch-master":
		f.heard = append(f.heard, c)
		return "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n"
	}
	return "-ERR unknown command\r\n" // HELLO, as of an old one
}

// TestMastersShareSentinels: however many masters a sentinel monitors, a keyway has a few connections to it. Its
// announcement makes the follower of its master look. Nothing stays open.
func TestMastersShareSentinels(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeSentinel{Listener: ln, looks: map[string]int{}}
	defer ln.Close()
	go f.serve()
	const masters = 40
	shared := new(Sentinels)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var running sync.WaitGroup
	for i := range masters {
		s := NewSentinel(SentinelOptions{
			Master: fmt.Sprint("m", i), Addrs: []string{ln.Addr().String()}, Masters: masters, Shared: shared,
		})
		s.SetKeyways(50) // so that it looks when it begins, when it hears of a switch, and else after half a minute
		running.Go(func() { s.Run(ctx, func(Shard) {}) })
	}
	await := func(what string, until func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			f.mu.Lock()
			done := until()
			f.mu.Unlock()
			if done {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not in time: %s; looks %v", what, f.looks)
			}
		}
	}
	await("all have looked, and listen", func() bool { return len(f.looks) == masters && len(f.heard) == 1 })
	f.mu.Lock()
	message := "m7 127.0.0.1 6379 127.0.0.1 6380"
	fmt.Fprintf(f.heard[0], "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$%d\r\n%s\r\n", len(message), message)
	f.mu.Unlock()
	await("the follower of the master looks", func() bool { return f.looks["m7"] >= 2 })
	f.mu.Lock()
	if f.most > sentinelConnections+1 {
		t.Errorf("%d masters: %d connections", masters, f.most)
	}
	f.mu.Unlock()
	cancel()
	running.Wait()
	await("the connections are closed", func() bool { return f.conns == 0 })
	if len(shared.of) != 0 {
		t.Error("connections are kept that nobody uses")
	}
}
