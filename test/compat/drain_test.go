package compat

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// counters are programs of ten clients, each of which increments a key of its own. When their
// input ends, they print how often, or what has failed.
var counters = map[string][]string{
	"python": {filepath.Join("venv", "bin", "python"), "drain.py"},
	"node":   {"node", "drain.mjs"},
	"java":   {"java", "-XX:TieredStopAtLevel=1", "-cp", "deps/*", "Drain.java"},
	"php":    {"php", "drain.php"},
}

// TestDrain: clients of five libraries do not notice that a keyway stops beside another one that
// accepts at the same socket. No command is lost or executed twice.
func TestDrain(t *testing.T) {
	if *clients == "" {
		t.Skip("make compat runs the clients of other languages")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	node := redistest.Start(t)
	yaml := "threads: 2\nlisten: systemd:clients\nshutdown: {drain: 5s}\n" + redistest.Ring(node.Addr)
	serve := func() *redistest.Process {
		p := redistest.Passing(t, yaml, "clients", l.(*net.TCPListener))
		p.Addr = l.Addr().String()
		p.Answers()
		return p
	}
	// Both before the clients: until it listens, a process that gets the socket makes it block.
	stops, stays := serve(), serve()
	counted, stop := count(t, stops.Addr)
	redistest.Eventually(t, 60*time.Second, "all clients count", func() bool {
		return node.Do("DBSIZE").Int >= counted.want
	})
	stops.End()
	time.Sleep(500 * time.Millisecond) // the clients go on
	stop()
	for key, n := range counted.of {
		if got := node.Do("GET", key).Text; got != strconv.Itoa(n) {
			t.Errorf("%s has counted %d, and its key has %s", key, n, got)
		}
	}
	if int64(len(counted.of)) != counted.want {
		t.Errorf("%d of %d clients have counted", len(counted.of), counted.want)
	}
	stays.End()
	for line := range strings.Lines(stops.Stderr.String()) {
		if strings.Contains(line, "the clients are closed") {
			t.Log(line)
		}
	}
}

// counts are what the clients say that they have counted.
type counts struct {
	sync.Mutex
	of   map[string]int
	want int64 // clients
}

func (c *counts) add(key string, n int) {
	c.Lock()
	defer c.Unlock()
	c.of[key] = n
}

// count starts the clients. stop returns when they have ended.
func count(t *testing.T, addr string) (c *counts, stop func()) {
	c = &counts{of: map[string]int{}, want: 10}
	var all sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	for i := range 10 {
		all.Go(func() { c.goRedis(t, ctx, addr, i) })
	}
	var inputs []io.Closer
	for language, command := range counters {
		if !strings.Contains(*clients, language) {
			continue
		}
		c.want += 10
		cmd := exec.Command(command[0], append(command[1:], addr)...)
		cmd.Dir = language
		stderr := new(bytes.Buffer)
		cmd.Stderr = stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, in)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			c.read(t, out)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v\n%s", language, err, stderr)
			}
		})
	}
	return c, func() {
		end()
		for _, in := range inputs {
			in.Close()
		}
		all.Wait()
	}
}

func (c *counts) read(t *testing.T, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var key string
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "counted %s %d", &key, &n); err != nil {
			t.Error(lines.Text())
			continue
		}
		c.add(key, n)
	}
}

// goRedis counts with a client of go-redis that retries nothing.
func (c *counts) goRedis(t *testing.T, ctx context.Context, addr string, i int) {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()
	key, n := fmt.Sprintf("go-redis:%d", i), 0
	for ; ctx.Err() == nil; n++ {
		if err := client.Incr(context.Background(), key).Err(); err != nil {
			t.Errorf("%s: %v", key, err)
			return
		}
		time.Sleep(time.Duration(i%3*i*20) * time.Millisecond)
	}
	c.add(key, n)
}
